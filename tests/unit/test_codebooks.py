"""Codebooks: the scalar definition, and what a list of values must be."""

import math

import numpy as np
import pytest

from altgrad_inspect.codebooks import NF4, CodebookFormat
from altgrad_inspect.errors import FormatError

UNEVEN = CodebookFormat(name="uneven", bits=3, values=(2.0, -0.0, 0.5, -1.0, 0.0))


def test_ordinals_count_from_zero_in_the_order_of_the_values() -> None:
    assert UNEVEN.sorted_values == (-1.0, 0.0, 0.5, 2.0)
    assert [UNEVEN.ordinal_of_code(code) for code in range(5)] == [2, 0, 1, -1, 0]
    assert (UNEVEN.lowest_ordinal, UNEVEN.code_of_max) == (-1, 2)
    assert [UNEVEN.value_of(ordinal) for ordinal in range(-1, 3)] == [-1.0, 0.0, 0.5, 2.0]
    assert (UNEVEN.max, UNEVEN.smallest, UNEVEN.has_nan) == (2.0, 0.5, False)


def test_rounding_is_to_the_nearest_value_and_from_the_middle_to_the_lower_one() -> None:
    found = [
        UNEVEN.ordinal(value) for value in (-9.0, -0.5, -0.4, 0.25, 0.26, 1.25, 1.26, math.inf)
    ]
    assert found == [-1, -1, 0, 0, 1, 1, 2, 2]
    assert UNEVEN.ordinal(math.nan) is None
    assert math.isnan(UNEVEN.round(math.nan))
    assert UNEVEN.round(1.26) == 2.0


def test_middles_are_those_of_float32() -> None:
    values = np.array(NF4.values, dtype=np.float32)
    middles = (values[1:] + values[:-1]) / np.float32(2)
    assert NF4.midpoints == tuple(float(one) for one in middles)


def test_the_width_of_a_cell_is_the_distance_between_its_middles_and_a_gap_at_the_ends() -> None:
    assert [UNEVEN.ulp(value) for value in (-1.0, 0.0, 0.5, 2.0)] == [1.0, 0.75, 1.0, 1.5]
    assert UNEVEN.ulp(-99.0) == 1.0
    assert UNEVEN.ulp(99.0) == 1.5
    widths = [NF4.ulp(value) for value in NF4.sorted_values[1:-1]]
    assert widths == pytest.approx(np.diff(NF4.midpoints))


def test_thresholds_stand_in_for_the_middles() -> None:
    fmt = CodebookFormat(name="late", bits=2, values=(0.0, 1.0, 2.0), thresholds=(0.75, 1.0))
    assert [fmt.ordinal(value) for value in (0.75, 0.76, 1.0, 1.01)] == [0, 1, 1, 2]


def test_nf4_is_that_of_the_paper() -> None:
    assert NF4.values[0] == -1.0
    assert NF4.values[7] == 0.0
    assert NF4.values[-1] == 1.0
    assert len(set(NF4.values)) == 16
    assert (NF4.lowest_ordinal, NF4.code_of_max) == (-7, 8)


@pytest.mark.parametrize(
    ("values", "thresholds", "message"),
    [
        ((1.0, 2.0), None, "one of them zero"),
        ((0.0, -1.0), None, "one above"),
        ((0.0, 1.0, 2.0, 3.0, 4.0), None, "5 values, expected at most 4"),
        ((0.0, 1.0), (0.5, 0.6), "2 thresholds, expected 1"),
    ],
)
def test_what_is_no_codebook_is_refused(
    values: tuple[float, ...], thresholds: tuple[float, ...] | None, message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        CodebookFormat(name="bad", bits=2, values=values, thresholds=thresholds)


def test_a_code_that_is_not_there_is_refused() -> None:
    with pytest.raises(FormatError, match="code 5 is not one of 5"):
        UNEVEN.decode(5)
