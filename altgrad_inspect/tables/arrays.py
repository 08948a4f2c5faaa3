"""Python values to Arrow arrays, without pandas.

``pyarrow.array`` imports pandas to find out whether it was given a Series, which costs
more than a small run. Building from buffers gives the same arrays.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

import numpy as np
import pyarrow as pa

_DTYPES: Final = {pa.int64(): np.int64, pa.float64(): np.float64, pa.float32(): np.float32}


def build_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:  # type: ignore[type-arg]  # generic in the stubs only
    """Return the Arrow array of ``values``; None is null.

    Args:
        values: Integers, floats, truth values or text as ``kind`` says; for lists, sequences
            of them.
        kind: int64, float32, float64, bool, string, or a list of one of them.
    """
    is_valid = np.fromiter((value is not None for value in values), dtype=bool, count=len(values))
    validity = (
        None if is_valid.all() else pa.py_buffer(np.packbits(is_valid, bitorder="little").data)
    )
    if isinstance(kind, pa.ListType):
        lists = [() if value is None else value for value in values]
        child = build_array([item for one in lists for item in one], kind.value_type)
        buffers = [validity, _build_offsets(lists)]
        return pa.Array.from_buffers(kind, len(values), buffers, children=[child])
    if pa.types.is_string(kind):
        texts = [b"" if value is None else value.encode() for value in values]
        buffers = [validity, _build_offsets(texts), pa.py_buffer(b"".join(texts))]
        return pa.Array.from_buffers(kind, len(values), buffers)
    if pa.types.is_boolean(kind):  # one bit each
        truths = np.array([bool(value) for value in values], dtype=bool)
        bits = np.packbits(truths, bitorder="little")
        return pa.Array.from_buffers(kind, len(values), [validity, pa.py_buffer(bits.data)])
    numbers = np.array(
        [value if value is not None else 0 for value in values], kind.to_pandas_dtype()
    )
    return pa.Array.from_buffers(kind, len(values), [validity, pa.py_buffer(numbers.data)])


def _build_offsets(parts: Sequence[Any]) -> pa.Buffer:
    ends = accumulate((len(part) for part in parts), initial=0)
    return pa.py_buffer(np.fromiter(ends, dtype=np.int32, count=len(parts) + 1).data)
