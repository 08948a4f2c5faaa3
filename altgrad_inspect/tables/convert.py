"""Records to tables: flat, typed, sorted, checked.

Rows are sorted by the table's ``sort_keys``; text sorts by Unicode code point, which is the
byte order of its UTF-8, so ``layers.10`` comes before ``layers.2`` on every machine.

Null is the only way to say "undefined": a NaN or an infinity in a record is a bug in us, and
so are two rows with the same key. Both are a ValueError, never a row.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from types import MappingProxyType
from typing import Final

import numpy as np
import pyarrow as pa

from altgrad_inspect.records import (
    Alert,
    CheckpointRecord,
    FlipRecord,
    LayerRecord,
    RankRecord,
    SkippedLayer,
    Spectrum,
    StableRank,
    TrendPoint,
    VerdictRecord,
)
from altgrad_inspect.tables.arrays import build_array
from altgrad_inspect.tables.columns import TableSchema
from altgrad_inspect.tables.comparisons import CompareRow, ComparisonRow, read_side

Record = (
    Alert
    | CheckpointRecord
    | ComparisonRow
    | FlipRecord
    | LayerRecord
    | RankRecord
    | SkippedLayer
    | TrendPoint
    | VerdictRecord
)

_FLOAT32_MAX: Final = float(np.finfo(np.float32).max)
_RANK_COLUMNS: Final = frozenset(field.name for field in fields(RankRecord))
_STABLE_COLUMNS: Final = frozenset(field.name for field in fields(StableRank))
_FLIP_COLUMNS: Final = frozenset(field.name for field in fields(FlipRecord))


def _stable_rank_fraction(record: RankRecord) -> float | None:
    if record.spectrum is None:
        return None
    return record.spectrum.stable_rank / min(record.rows, record.cols)


def _effective_rank_fraction(record: RankRecord) -> float | None:
    if not isinstance(record.spectrum, Spectrum):
        return None
    return record.spectrum.effective_rank / min(record.rows, record.cols)


def _stable_rank_vs_random(record: RankRecord) -> float | None:
    """Return the stable rank over rows*cols / (sqrt(rows) + sqrt(cols))^2.

    The expected squared Frobenius norm of a standard Gaussian matrix is rows*cols, and its
    spectral norm is close to sqrt(rows) + sqrt(cols) (Davidson & Szarek 2001, theorem II.13).
    """
    if record.spectrum is None:
        return None
    spectral_norm = math.sqrt(record.rows) + math.sqrt(record.cols)
    return record.spectrum.stable_rank / (record.rows * record.cols / spectral_norm**2)


_DERIVED: Final[Mapping[str, Callable[[RankRecord], float | None]]] = MappingProxyType(
    {
        "stable_rank_fraction": _stable_rank_fraction,
        "effective_rank_fraction": _effective_rank_fraction,
        "stable_rank_vs_random": _stable_rank_vs_random,
    }
)
"""Columns of the ranks table that no record holds; ``rows`` and ``cols`` are at least 1."""


def _read_value(record: Record, column: str) -> object:
    """Return what goes into ``column``, looking into the nested counts or spectrum."""
    if isinstance(record, FlipRecord) and column not in _FLIP_COLUMNS:
        return getattr(record.counts, column) if record.counts is not None else None
    if isinstance(record, RankRecord) and column not in _RANK_COLUMNS:
        if column in _DERIVED:
            return _DERIVED[column](record)
        if isinstance(record.spectrum, StableRank) and column not in _STABLE_COLUMNS:
            return None  # not asked for
        return getattr(record.spectrum, column) if record.spectrum is not None else None
    if isinstance(record, CompareRow):
        return read_side(record, column)
    return getattr(record, column)


def _plain_text(value: object) -> str | None:
    """Return text that UTF-8 can hold: bytes of a path that are not UTF-8 become escapes."""
    if value is None:
        return None
    text = str(value.value) if isinstance(value, Enum) else str(value)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _fits_float32(value: object) -> bool:
    return isinstance(value, tuple) and all(abs(item) <= _FLOAT32_MAX for item in value)


def _refuse_nonfinite(table: str, column: str, values: Iterable[object]) -> None:
    for value in values:
        items = value if isinstance(value, tuple) else (value,)
        for item in items:
            if isinstance(item, float) and not math.isfinite(item):
                msg = f"{table}.{column}: {item} in a record, expected a finite number or None"
                raise ValueError(msg)


def _build_column(
    schema: TableSchema, name: str, kind: pa.DataType, values: Sequence[object]
) -> pa.Array:  # type: ignore[type-arg]  # generic in the stubs only
    _refuse_nonfinite(schema.name, name, values)
    if pa.types.is_string(kind):
        values = [_plain_text(value) for value in values]
    elif kind == pa.list_(pa.float32()):
        values = [value if _fits_float32(value) else None for value in values]
    return build_array(values, kind)


def _sort(schema: TableSchema, records: Iterable[Record]) -> list[Record]:
    """Return the records in the order of the sort keys, each key once.

    The same layer may be skipped in many checkpoints; records that are equal are one row.
    """

    def read_key(record: Record) -> tuple[object, ...]:
        values = (_read_value(record, column) for column in schema.sort_keys)
        return tuple(_plain_text(value) if isinstance(value, str) else value for value in values)

    keyed = sorted(((read_key(record), record) for record in records), key=lambda pair: pair[0])
    kept: list[tuple[tuple[object, ...], Record]] = []
    for key, record in keyed:
        if kept and kept[-1][0] == key:
            if record == kept[-1][1]:
                continue
            name = ", ".join(map(str, key))
            msg = f"{schema.name}: two different rows for {name}, expected one"
            raise ValueError(msg)
        kept.append((key, record))
    return [record for _, record in kept]


def build_table(schema: TableSchema, records: Iterable[Record]) -> pa.Table:
    """Build the table of ``schema`` from its records, in any order.

    Singular values beyond the range of float32 leave the whole list null, since the column
    holds float32 and an infinity there would be a wrong number.

    Returns:
        One row a record, sorted by ``schema.sort_keys``; equal records are one row. The Arrow
        schema is exactly ``schema.arrow``, descriptions of the columns included.

    Raises:
        ValueError: A number is NaN or infinite, or two records differ but have the same key.
            Both are bugs of the caller: undefined is None.
    """
    rows = _sort(schema, records)
    columns = [
        _build_column(schema, name, kind, [_read_value(record, name) for record in rows])
        for name, kind in zip(schema.arrow.names, schema.arrow.types, strict=True)
    ]
    table = pa.Table.from_arrays(columns, schema=schema.arrow)
    table.validate(full=True)
    return table
