"""Mann-Kendall, Theil-Sen and Benjamini-Hochberg, against scipy, pymannkendall and by hand."""

import math
from itertools import permutations

import pymannkendall
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, kendalltau, theilslopes

from altgrad_inspect.trends.significance import (
    EXACT_VALUES,
    estimate_decline_fraction,
    estimate_theil_sen_slope,
    find_discoveries,
    measure_decline_p,
)

REALS = st.floats(-1e6, 1e6)
TIED = st.lists(st.integers(0, 5).map(float), min_size=4, max_size=40)


@given(values=st.lists(REALS, min_size=2, max_size=EXACT_VALUES, unique=True))
def test_short_series_without_ties_are_exact(values: list[float]) -> None:
    tau = kendalltau(range(len(values)), values, alternative="less", method="exact")
    assert measure_decline_p(values) == pytest.approx(tau.pvalue)


@pytest.mark.parametrize("num_values", range(2, 7))
def test_the_exact_p_is_the_share_of_all_orders(num_values: int) -> None:
    def score(order: tuple[int, ...]) -> int:
        pairs = [(i, j) for i in range(num_values) for j in range(i + 1, num_values)]
        return sum((order[j] > order[i]) - (order[j] < order[i]) for i, j in pairs)

    orders = list(permutations(range(num_values)))
    scores = [score(order) for order in orders]
    for order, own in zip(orders, scores, strict=True):
        share = sum(other <= own for other in scores) / len(scores)
        assert measure_decline_p([float(value) for value in order]) == pytest.approx(share)


@given(values=TIED | st.lists(REALS, min_size=EXACT_VALUES + 1, max_size=40, unique=True))
def test_the_approximation_is_half_the_two_sided_one_of_pymannkendall(values: list[float]) -> None:
    if len(set(values)) in {1, len(values)} and len(values) <= EXACT_VALUES:
        return
    oracle = pymannkendall.original_test(values)
    p = measure_decline_p(values)
    if oracle.s < 0:
        assert p == pytest.approx(oracle.p / 2, rel=1e-9, abs=1e-15)
    else:
        assert p >= 0.5


def test_a_decline_is_as_unlikely_as_its_order() -> None:
    assert measure_decline_p([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]) == pytest.approx(
        1 / math.factorial(8)
    )
    assert measure_decline_p([1.0, 2.0, 3.0, 4.0]) == 1
    assert measure_decline_p([7.0] * 12) == 1
    assert measure_decline_p([7.0]) == measure_decline_p([]) == 1
    # n = 11, S = -55, variance 165: z = -54 / sqrt(165) = -4.2039
    assert measure_decline_p([float(-at) for at in range(11)]) == pytest.approx(1.312e-5, rel=1e-3)
    # n = 4 with a tie: S = -5, variance (156 - 18) / 18: z = -4 / 2.7689 = -1.4446
    assert measure_decline_p([3.0, 2.0, 2.0, 1.0]) == pytest.approx(0.07429, rel=1e-3)


@given(values=TIED)
def test_a_shift_or_a_scale_changes_nothing(values: list[float]) -> None:
    assert measure_decline_p([2 * value + 3 for value in values]) == measure_decline_p(values)


@given(data=st.data())
def test_the_slope_is_that_of_scipy_on_uneven_steps(data: st.DataObject) -> None:
    steps = sorted(data.draw(st.sets(st.integers(0, 10**6), min_size=2, max_size=30)))
    values = [data.draw(REALS) for _ in steps]
    expected = theilslopes(values, steps).slope
    assert estimate_theil_sen_slope(steps, values) == pytest.approx(expected)


def test_the_decline_is_over_the_true_distance() -> None:
    steps = [0, 10, 500, 1000]
    logs = [-step * math.log(2) / 500 for step in steps]
    assert estimate_theil_sen_slope(steps, logs) == pytest.approx(-math.log(2) / 500)
    assert estimate_decline_fraction(steps, logs) == pytest.approx(0.75)
    assert estimate_decline_fraction(steps, [-log for log in logs]) == pytest.approx(-3)


@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=40), level=st.floats(0.001, 0.5))
def test_discoveries_are_those_of_scipy(p_values: list[float], level: float) -> None:
    adjusted = false_discovery_control(p_values, method="bh")
    for is_found, p in zip(find_discoveries(p_values, level), adjusted, strict=True):
        if abs(p - level) > 1e-9:
            assert is_found == (p < level)


def test_discoveries_by_hand() -> None:
    assert find_discoveries([0.04, 0.01, 0.02, 0.9], 0.05) == [False, True, True, False]
    assert find_discoveries([0.04, 0.03, 0.05, 0.02], 0.05) == [True] * 4
    assert find_discoveries([0.2], 0.05) == [False]
    assert find_discoveries([], 0.05) == []
