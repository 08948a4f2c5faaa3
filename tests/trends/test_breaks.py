"""Forecasts and breaks, by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altgrad_inspect.trends.breaks import FLOOR, MIN_EARLIER, find_breaks, find_forecast

LOGS = st.lists(st.floats(0, 8), min_size=1, max_size=30)


def breaks_at(logs: list[float], steps: list[int] | None = None) -> list[int]:
    at = steps or list(range(len(logs)))
    return [one.index for one in find_breaks(at, logs, least_fall=0.3, least_deviations=4.0)]


@pytest.mark.parametrize(
    ("steps", "logs", "expected"),
    [
        ([0, 10], [3.0, 0.0], 3.0),  # one value has no trend
        ([0, 10, 20], [3.0, 2.9, 0.0], 2.9 - 0.8 * 0.1),
        ([0, 10, 20], [3.0, 3.5, 0.0], 3.5),  # a rise is not carried forward
        ([0, 10, 20, 30, 40], [3.0, 2.9, 1.9, 1.8, 0.0], 1.8 - 0.8 * 0.1),  # one jump no trend
        ([0, 10, 25], [3.0, 2.9, 0.0], 2.9 - 0.8 * 0.15),  # by distance
        ([0, 10, 99], [3.0, 2.9, 0.0], 2.9 - 0.8 * 0.2),  # twice as far as seen
        ([0, 10, 20, 30, 40], [9.0, 4.0, 3.0, 2.9, 0.0], 2.9 - 0.8 * 1.0),  # the last three slopes
        ([0, 10, 20, 30, 40, 50], [9.0, 4.0, 3.9, 3.7, 3.6, 0.0], 3.6 - 0.8 * 0.1),
    ],
)
def test_the_forecast_is_a_damped_trend(
    steps: list[int], logs: list[float], expected: float
) -> None:
    assert find_forecast(steps, logs, len(steps) - 1) == pytest.approx(expected)


def test_a_break_needs_four_values_before_it() -> None:
    assert breaks_at([3.0] * 3 + [1.0] * 5) == []
    assert breaks_at([3.0] * MIN_EARLIER + [1.0] * 5) == [MIN_EARLIER]


def test_a_break_is_deep_enough() -> None:
    assert breaks_at([3.0] * 6 + [2.71]) == []
    (found,) = find_breaks(range(7), [3.0] * 6 + [2.69], least_fall=0.3, least_deviations=4.0)
    assert found.fall == pytest.approx(0.31)
    assert found.deviations == pytest.approx(0.31 / FLOOR)
    assert found.forecast == 3


def test_a_break_stands_out_from_how_the_series_moves() -> None:
    wild = [3.0, 3.2, 3.0, 3.2, 3.0, 3.2]
    size = 1.4826 * 0.2
    assert breaks_at([*wild, 3.2 - 3.9 * size]) == []
    assert breaks_at([*wild, 3.2 - 4.6 * size]) == [6]


def test_only_recent_residuals_count() -> None:
    wild = [3.0, 4.0] * 10
    calm = [3.0] * 21
    assert breaks_at([*wild, *calm, 2.5]) == [41]


def test_what_follows_a_break_is_no_break() -> None:
    assert breaks_at([3.0] * 6 + [1.0] * 6) == [6]
    assert breaks_at([3.0] * 6 + [2.5, 2.4, 2.3, 1.0]) == [6, 9]


@given(logs=LOGS, shift=st.floats(-3, 3))
def test_a_rise_is_no_break_and_a_factor_changes_nothing(logs: list[float], shift: float) -> None:
    assert breaks_at(sorted(logs)) == []
    found = find_breaks(range(len(logs)), logs, least_fall=0.3, least_deviations=4.0)
    moved = find_breaks(
        range(len(logs)), [log + shift for log in logs], least_fall=0.3 - 1e-9, least_deviations=4.0
    )
    assert {one.index for one in found} <= {one.index for one in moved}


def test_a_healthy_decline_has_no_break() -> None:
    assert breaks_at([math.log(57.6 / (1 + at)) for at in range(20)]) == []


def test_the_early_transient_is_soon_forgotten() -> None:
    """Seven values after a steep start, the residuals of that start still are most of them."""
    course = [10.68, 4.27, 3.29, 3.22, 3.25, 3.3, 3.31, 3.34, 2.21, 1.69]
    logs = [math.log(value) for value in course]
    steps = list(range(20, 220, 20))
    (one,) = find_breaks(steps, logs[:9], least_fall=0.16, least_deviations=4.0)
    assert one.index == 8
    assert one.deviations == pytest.approx(8.6, abs=0.1)
