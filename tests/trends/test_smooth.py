"""Smoothing, against pandas and by hand."""

import math
from statistics import median

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from altgrad_inspect.records import TrendState
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.smooth import (
    MIN_VALUES,
    SmoothedPoint,
    find_baseline,
    find_thresholds,
    find_warmup,
    measure_alpha,
    smooth,
    smooth_series,
)

DEFAULT = TrendSettings()
THRESHOLDS = find_thresholds(0.3)
RANKS = st.lists(st.floats(1, 1e6), min_size=1, max_size=30)
ALPHAS = st.floats(0.01, 1)


def smooth_evenly(
    values: list[float | None], tuning: TrendSettings = DEFAULT
) -> list[SmoothedPoint]:
    steps = list(range(0, 100 * len(values), 100))
    reals = [None if value is None else float(value) for value in values]
    return smooth_series(steps, reals, tuning, THRESHOLDS)


@given(values=RANKS, alpha=ALPHAS)
def test_the_average_is_that_of_pandas(values: list[float], alpha: float) -> None:
    ours = smooth(range(len(values)), values, TrendSettings(alpha=alpha))
    assert ours == pytest.approx(list(pd.Series(values).ewm(alpha=alpha, adjust=False).mean()))


@given(values=st.lists(st.none() | st.floats(1, 1e6), min_size=8, max_size=30), alpha=ALPHAS)
def test_after_the_warmup_it_is_that_of_pandas_seeded_with_the_baseline(
    values: list[float | None], alpha: float
) -> None:
    points = smooth_evenly(values, TrendSettings(alpha=alpha))
    judged = [point for point in points if point.state not in {TrendState.WARMUP, "insufficient"}]
    if not judged or judged[0].value is None:
        return
    seeded = pd.Series([judged[0].baseline, *(point.value for point in judged)], dtype="float64")
    expected = seeded.ewm(alpha=alpha, adjust=False, ignore_na=True).mean()[1:]
    assert [point.ema for point in judged] == pytest.approx(list(expected))


def test_a_half_life_follows_the_spacing_of_the_steps() -> None:
    tuning = TrendSettings(half_life_steps=100.0)
    assert measure_alpha(100, tuning) == 0.5
    assert measure_alpha(200, tuning) == 0.75
    assert smooth([0, 100, 300], [8.0, 4.0, 2.0], tuning) == [8.0, 6.0, 3.0]


@given(start=st.floats(1, 1e3), end=st.floats(1, 1e3), half_life=st.floats(10, 1e3))
def test_with_a_half_life_saving_more_often_changes_nothing_on_a_plateau(
    start: float, end: float, half_life: float
) -> None:
    tuning = TrendSettings(half_life_steps=half_life)
    often = smooth([0, 10, 20, 30, 40], [start, end, end, end, end], tuning)
    seldom = smooth([0, 40], [start, end], tuning)
    assert often[-1] == pytest.approx(seldom[-1])


@given(values=RANKS, alpha=ALPHAS)
def test_an_average_lies_between_the_least_and_the_largest_value(
    values: list[float], alpha: float
) -> None:
    low, high = min(values), max(values)
    slack = 1e-12 * high
    for ema in smooth(range(len(values)), values, TrendSettings(alpha=alpha)):
        assert low - slack <= ema <= high + slack


@pytest.mark.parametrize(
    ("steps", "checkpoints", "fraction", "expected"),
    [
        ([0, 1, 2, 3, 4], 3, 0.0, 3),
        ([0, 1, 2, 3, 4], 1, 0.0, 1),
        ([0, 1], 3, 0.1, 2),
        ([0, 10, 20, 50, 90, 100], 1, 0.5, 3),  # 50 is not below half of 100
        ([0, 10, 20, 49, 90, 100], 1, 0.5, 4),
        ([1000, 1010, 1020, 1050, 1100], 1, 0.5, 3),  # counted from the first step seen
        ([7], 3, 0.9, 1),
    ],
)
def test_the_warmup_lasts_some_checkpoints_and_some_of_the_steps(
    steps: list[int], checkpoints: int, fraction: float, expected: int
) -> None:
    tuning = TrendSettings(warmup_checkpoints=checkpoints, warmup_fraction=fraction)
    assert find_warmup(steps, tuning) == expected


@pytest.mark.parametrize(
    ("warmup", "expected"),
    [([5.0], 5), ([9.0, 5], 5), ([9.0, 5, 4], 4.5), ([9.0, 8, 3, 2], 2.5), ([9.0, 8, 7, 1, 2], 2)],
)
def test_the_baseline_is_the_median_of_the_later_half(warmup: list[float], expected: float) -> None:
    assert find_baseline([float(value) for value in warmup]) == expected


def test_a_series_by_hand() -> None:
    tuning = TrendSettings(alpha=0.5, warmup_checkpoints=3, warmup_fraction=0.0)
    points = smooth_evenly([20.0, 12.0, 8.0, 6.0, 2.0, 1.0], tuning)
    assert [point.ema for point in points] == [20, 16, 10, 8, 5, 3]
    assert {point.baseline for point in points} == {10}
    assert [point.drop_fraction for point in points[:3]] == [None] * 3
    assert [point.drop_fraction for point in points[3:]] == pytest.approx([0.2, 0.5, 0.7])
    assert [point.state.value for point in points] == ["warmup"] * 3 + ["ok", "warning", "critical"]


def test_a_drop_of_exactly_the_threshold_is_none() -> None:
    tuning = TrendSettings(alpha=1.0, warmup_fraction=0.0)
    points = smooth_series(range(6), [8.0, 8.0, 8.0, 6.0, 4.0, 3.9], tuning, find_thresholds(0.25))
    assert [point.state.value for point in points[3:]] == ["ok", "warning", "critical"]


@pytest.mark.parametrize(
    ("warning", "critical"), [(0.15, 0.3), (0.3, 0.6), (0.4, 0.7), (0.5, 0.75), (0.9, 0.95)]
)
def test_critical_is_twice_the_threshold_and_always_within_reach(
    warning: float, critical: float
) -> None:
    assert find_thresholds(warning).critical == pytest.approx(critical)


@given(warning=st.floats(1e-6, 1 - 1e-6))
def test_critical_lies_between_warning_and_one(warning: float) -> None:
    critical = find_thresholds(warning).critical
    assert critical is not None
    assert warning < critical < 1


def test_an_undefined_value_repeats_the_state_before_it() -> None:
    tuning = TrendSettings(alpha=0.5, warmup_fraction=0.0)
    with_gap = smooth_evenly([None, 10, 10, 10, None, 6, None, 6], tuning)
    without = smooth_evenly([10, 10, 10, 6, 6], tuning)
    assert [point.ema for point in with_gap] == [None, 10, 10, 10, 10, 8, 8, 7]
    assert [point.ema for point in without] == [10, 10, 10, 8, 7]
    assert [point.value for point in with_gap[-2:]] == [None, 6]
    assert with_gap[6].drop_fraction == with_gap[5].drop_fraction == pytest.approx(0.2)
    states = [point.state.value for point in with_gap]
    assert states == ["warmup"] * 5 + ["ok"] * 3
    assert with_gap[0] == SmoothedPoint(
        step=0, value=None, ema=None, baseline=None, drop_fraction=None, state=TrendState.WARMUP
    )


@pytest.mark.parametrize("values", [[1.0], [9.0, 1, 1], [9.0, None, 1, 1, None], [None, None], []])
def test_fewer_than_four_values_are_insufficient(values: list[float | None]) -> None:
    points = smooth_evenly(values)
    assert [point.value for point in points] == values
    for point in points:
        assert point.state is TrendState.INSUFFICIENT
        assert point.baseline is None
        assert point.drop_fraction is None


def test_a_series_that_never_leaves_the_warmup_is_not_judged() -> None:
    points = smooth_evenly([9.0, 1, 1, 1], TrendSettings(warmup_checkpoints=9))
    assert {point.state for point in points} == {TrendState.WARMUP}
    assert points[-1].ema == points[-1].baseline == 1


def test_a_baseline_of_zero_has_no_drop() -> None:
    points = smooth_evenly([0.0, 0, 0, 0, 0])
    assert [(point.drop_fraction, point.state.value) for point in points[3:]] == [(None, "ok")] * 2


@given(values=st.lists(st.floats(1, 1e6), min_size=4, max_size=30), exponent=st.integers(-60, 60))
def test_a_drop_does_not_depend_on_the_unit(values: list[float], exponent: int) -> None:
    scaled = [math.ldexp(value, exponent) for value in values]
    plain, other = smooth_evenly([*values]), smooth_evenly([*scaled])
    assert [point.drop_fraction for point in plain] == [point.drop_fraction for point in other]
    assert [point.state for point in plain] == [point.state for point in other]


@given(value=st.floats(1e-300, 1e300), count=st.integers(MIN_VALUES, 40), alpha=ALPHAS)
def test_a_constant_series_never_drops(value: float, count: int, alpha: float) -> None:
    points = smooth_evenly([value] * count, TrendSettings(alpha=alpha))
    assert {point.drop_fraction for point in points} == {None, 0.0}
    assert {point.state for point in points} == {TrendState.WARMUP, TrendState.OK}


@settings(max_examples=50)
@given(
    start=st.floats(1, 1e6),
    falls=st.lists(st.floats(0.5, 0.9), min_size=20, max_size=30),
    alpha=st.floats(0.1, 1),
)
def test_a_fall_at_every_checkpoint_always_becomes_critical(
    start: float, falls: list[float], alpha: float
) -> None:
    values = [start * math.prod(falls[:index]) for index in range(len(falls))]
    points = smooth_evenly([*values], TrendSettings(alpha=alpha))
    assert points[-1].state is TrendState.CRITICAL
    assert points[-1].baseline == median(values[1:3])
