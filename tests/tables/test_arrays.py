"""Arrays built from buffers against pyarrow's own, and what they must not import."""

import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from altgrad_inspect.tables.arrays import build_array

INTS = st.none() | st.integers(-(2**63), 2**63 - 1)
REALS = st.none() | st.floats(allow_nan=False)
TEXTS = st.none() | st.text(st.characters(exclude_categories=["Cs"]))


@given(
    case=st.one_of(
        st.tuples(st.just(pa.int64()), st.lists(INTS)),
        st.tuples(st.just(pa.float64()), st.lists(REALS)),
        st.tuples(st.just(pa.string()), st.lists(TEXTS)),
        st.tuples(st.just(pa.bool_()), st.lists(st.none() | st.booleans())),
        st.tuples(
            st.just(pa.list_(pa.int64())),
            st.lists(st.none() | st.lists(st.integers(0, 9), max_size=4)),
        ),
    )
)
def test_an_array_is_the_one_that_pyarrow_builds(case: tuple[pa.DataType, list[Any]]) -> None:
    kind, values = case
    built = build_array(values, kind)
    built.validate(full=True)
    assert built.equals(pa.array(values, type=kind))
    assert built.to_pylist() == values


def test_singular_values_are_rounded_to_float32_as_pyarrow_rounds_them() -> None:
    values = [(1.1, 2.2), None, (), (1e-50,)]
    kind = pa.list_(pa.float32())
    assert build_array(values, kind).equals(pa.array(values, type=kind))


def test_a_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(OverflowError):
        build_array([2**63], pa.int64())


def test_a_report_does_not_import_pandas() -> None:
    program = (
        "import sys, altgrad_inspect as ai\n"
        "ai.report('sample_checkpoints/healthy', last=4, layers=['lm_head'])\n"
        "sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
