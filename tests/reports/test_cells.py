"""Numbers and series as text for people."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altgrad_inspect.reports.cells import (
    BARS,
    GAP,
    render_bytes,
    render_cell,
    render_change,
    render_percent,
    render_real,
    render_seconds,
    render_series,
)
from altgrad_inspect.reports.model import Kind, Value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1.00"),
        (0.0123456, "0.0123"),
        (0.09996, "0.100"),
        (9.996, "10.0"),
        (99.96, "100"),
        (12.345, "12.3"),
        (-12.345, "-12.3"),
        (1234.5, "1,230"),
        (999_999.0, "1.00e+06"),
        (12_345_678.0, "1.23e+07"),
        (0.0000123, "1.23e-05"),
        (5e-324, "4.94e-324"),
        (1.797e308, "1.80e+308"),
        (math.nan, "-"),
        (math.inf, "-"),
    ],
)
def test_a_real_has_three_significant_digits(value: float, text: str) -> None:
    assert render_real(value) == text


@given(st.floats(-1e300, 1e300))
def test_a_real_reads_back_within_half_a_unit_of_the_third_digit(value: float) -> None:
    assert float(render_real(value).replace(",", "")) == pytest.approx(
        value, rel=0.00501, abs=5e-324
    )


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.0, "0%"),
        (1.0, "100%"),
        (0.9999, ">99.9%"),
        (0.123456, "12.3%"),
        (-0.237, "-23.7%"),
        (1.5, "150%"),
        (1e-9, "1.00e-07%"),
    ],
)
def test_a_fraction_is_a_percentage_that_says_0_and_100_only_if_it_is(
    fraction: float, text: str
) -> None:
    assert render_percent(fraction) == text


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.0, "0%"),
        (-0.123, "-12.3%"),
        (0.301, "+30.1%"),
        (0.0068, "+0.68%"),
        (-1e-7, "-<0.01%"),
        (9.0, "+900%"),
    ],
)
def test_a_change_has_a_sign(fraction: float, text: str) -> None:
    assert render_change(fraction) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (999_600, "1.00 MB"),
        (4_014_720, "4.01 MB"),
        (10**15, "1.00 PB"),
        (10**19, "10,000 PB"),
    ],
)
def test_sizes_are_decimal(size: int, text: str) -> None:
    assert render_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.0123, "0.012 s"),
        (12.4, "12 s"),
        (59.7, "1 min 0 s"),
        (200.0, "3 min 20 s"),
        (7_500.0, "2 h 5 min"),
        (math.inf, "-"),
    ],
)
def test_durations_are_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert render_seconds(seconds) == text


def test_a_wiggle_of_one_percent_is_flat_wherever_it_is() -> None:
    for middle in (1e-9, 3.7, 100.0, 1e9):
        series = tuple(middle * factor for factor in (1.0, 0.99, 1.01, 0.995, 1.0))
        assert render_series(series) == BARS[4] * 5


def test_a_change_of_a_fifth_fills_the_height() -> None:
    assert render_series((100.0, 100.0, 90.0, 80.0)) == f"{BARS[7]}{BARS[7]}{BARS[4]}{BARS[0]}"
    assert render_series((0.0, 50.0, 100.0)) == f"{BARS[0]}{BARS[4]}{BARS[7]}"


def test_a_change_of_a_tenth_is_seen_and_does_not_fill_the_height() -> None:
    bars = render_series((95.0, 105.0))
    assert 2 <= BARS.index(bars[1]) - BARS.index(bars[0]) <= 4


def test_undefined_values_are_gaps_and_zeros_are_the_lowest_bar() -> None:
    assert render_series((1.0, None, math.nan)) == f"{BARS[4]}{GAP}{GAP}"
    assert render_series((0.0, None, 0.0)) == f"{BARS[0]}{GAP}{BARS[0]}"
    assert render_series((None, None)) == GAP * 2


def test_one_value_among_zeros_stands_out() -> None:
    assert render_series((0, 0, 0, 40)) == f"{BARS[0] * 3}{BARS[7]}"


def test_negative_values_lie_below_positive_ones() -> None:
    assert render_series((-2.0, 2.0)) == f"{BARS[0]}{BARS[7]}"


@given(st.lists(st.none() | st.floats(-1e300, 1e300), max_size=100).map(tuple), st.integers(1, 30))
def test_a_series_never_exceeds_its_room(series: tuple[float | None, ...], width: int) -> None:
    text = render_series(series, max_width=width)
    assert len(text) == min(width, len(series))
    assert set(text) <= {*BARS, GAP}


def test_a_long_series_is_averaged_in_order() -> None:
    series = tuple(float(value) for value in range(1, 101))
    bars = render_series(series, max_width=4)
    assert list(bars) == sorted(bars)
    assert bars[-1] == BARS[7]


@pytest.mark.parametrize("kind", list(Kind))
def test_an_undefined_value_is_a_dash_in_every_kind(kind: Kind) -> None:
    assert render_cell(None, kind) == "-"
    assert render_cell(math.nan, kind) == "-"


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (1_234_567, Kind.COUNT, "1,234,567"),
        (12_000, Kind.STEP, "12000"),
        (65_504.0, Kind.EXACT, "65504"),
        ((43.9, 1.21), Kind.PAIR, "43.9 → 1.21"),
        ((43.9, None), Kind.PAIR, "43.9 → -"),
        ((None, None), Kind.PAIR, "-"),
        ((43.9,), Kind.PAIR, "43.9"),
        ((40, 112), Kind.SHAPE, "40\N{MULTIPLICATION SIGN}112"),
        ((), Kind.SHAPE, "scalar"),
        ((), Kind.SERIES, "-"),
        ("", Kind.TEXT, "-"),
        ("a\nb", Kind.TEXT, "a\\nb"),
        ("a\x1b[31m", Kind.WORD, "a\\x1b[31m"),
    ],
)
def test_every_kind_has_its_way(value: Value, kind: Kind, text: str) -> None:
    assert render_cell(value, kind) == text
