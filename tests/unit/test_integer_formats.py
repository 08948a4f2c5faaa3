"""Integer formats with bounds of their own: every code, every value, every refusal."""

import pytest

from altgrad_inspect.errors import FormatError
from altgrad_inspect.formats import IntFormat


@pytest.mark.parametrize("bits", range(2, 17))
def test_without_bounds_a_format_is_symmetric(bits: int) -> None:
    fmt = IntFormat(name="int", bits=bits)
    largest = 2 ** (bits - 1) - 1
    assert (fmt.lowest_ordinal, fmt.code_of_max, fmt.max) == (-largest, largest, largest)
    assert fmt.decode(1 << (bits - 1)) == -largest - 1  # has a value, and is never produced
    assert fmt.ordinal(-1e9) == -largest


def test_bounds_are_where_it_saturates() -> None:
    fmt = IntFormat(name="int4", bits=4, low=-8, high=7)
    assert [fmt.ordinal(value) for value in (-9.0, -7.5, -8.49, 6.5, 7.5, 99.0)] == [
        *(-8, -8, -8, 6, 7, 7)
    ]
    assert fmt.round(-8.4) == -8.0
    assert [fmt.decode(code) for code in range(16)] == [*range(8), *range(-8, 0)]


def test_one_bit_and_a_range_wider_than_the_codes_are_understood() -> None:
    assert IntFormat(name="sign", bits=1, low=-1, high=1).ordinal(0.6) == 1
    wide = IntFormat(name="minus zero", bits=4, low=-15, high=15)
    assert (wide.lowest_ordinal, wide.code_of_max) == (-15, 15)


@pytest.mark.parametrize(("low", "high"), [(1, 7), (-8, 0), (3, 2)])
def test_a_range_without_zero_and_one_is_refused(low: int, high: int) -> None:
    with pytest.raises(FormatError, match="expected a range that holds 0 and 1"):
        IntFormat(name="bad", bits=4, low=low, high=high)


@pytest.mark.parametrize("bits", [0, 17])
def test_a_width_out_of_range_is_refused(bits: int) -> None:
    with pytest.raises(FormatError, match="bits is out of range"):
        IntFormat(name="bad", bits=bits, low=-1, high=1)
