"""Transient or fault, by the course alone."""

import math

import pytest

from altgrad_inspect.trends.transient import (
    LATE,
    RESTING,
    STEADY,
    TRANSIENT,
    UNCLEAR,
    Judgement,
    is_early,
    is_slowing,
    judge_pace,
    measure_rates,
)

HEALTHY = [57.6, 43.7, 29.3, 25.0, 22.2, 18.3, 15.5, 13.6, 12.6, 12.0, 11.7, 11.5, 11.3]


def judge(course: list[float], drop: float = 0.5) -> Judgement:
    logs = [math.log(value) for value in course]
    return judge_pace(range(0, 100 * len(course), 100), logs, drop, 0.25)


@pytest.mark.parametrize(
    ("course", "judgement"),
    [
        (HEALTHY, TRANSIENT),
        (HEALTHY[:8], TRANSIENT),
        (HEALTHY[:7], UNCLEAR),
        ([100 * 0.9**at for at in range(9)], STEADY),
        ([100 * 0.9**at for at in range(8)], UNCLEAR),
        ([10, 10, 10, 10, 9, 8, 7, 6, 5], LATE),
        ([10, 10, 10, 10, 10, 7], LATE),
        ([10] * 8 + [8, 6, 4] + [3] * 9, LATE),
        ([10] * 8 + [9.5, 9] + [8.8] * 9, LATE),
        ([5, 6, 7, 8, 8, 8, 7, 5.5, 5.2], LATE),
        ([40, 36, 8, 7, 6.5, 6.2, 6, 6], TRANSIENT),
        ([40, 39, 38, 8, 7, 6.5, 6.2, 6, 6], TRANSIENT),
    ],
)
def test_a_course_is_judged(course: list[float], judgement: Judgement) -> None:
    assert judge(course) is judgement


def test_a_small_drop_that_came_to_rest_is_let_be() -> None:
    course = [10.0] * 8 + [9.5, 9.0] + [8.8] * 9
    assert judge(course, drop=0.24) is RESTING
    assert judge(course, drop=0.25) is LATE


def test_rates_are_a_step_and_not_a_checkpoint() -> None:
    rates = measure_rates([0, 10, 110, 120], [3.0, 2.0, 1.0, 0.0])
    assert rates == pytest.approx((0.1, 0.01, 0.1))
    assert not is_slowing([0, 10, 110, 120], [3.0, 2.0, 1.0, 0.0])
    assert is_slowing([0, 10, 20, 120], [3.0, 2.0, 1.0, 0.0])


SLOWING = [(4, 2, 2), (2, 4, 2), (-1, -1, -0.5), (-1, -2, 0)]
NOT_SLOWING = [(4, 2, 2.25), (2, 4, 2.25), (-1, -1, 0.25), (-1, 0, 0.25)]


@pytest.mark.parametrize("rates", SLOWING + NOT_SLOWING)
def test_slowing_is_half_of_the_fastest_before(rates: tuple[float, float, float]) -> None:
    first, middle, last = (float(rate) for rate in rates)
    logs = [0.0, -first, -first - middle, -first - middle - last]
    assert is_slowing(range(4), logs) is (rates in SLOWING)


@pytest.mark.parametrize(
    ("falls", "early"),
    [
        ([0, 0, 0, 1, 1, 1, 1, 1, 1], True),  # by the fourth value
        ([0, 0, 0, 0, 1, 1, 1, 1, 1], False),  # nothing before half of that time
        ([0, 0.1, 0.15, 0.2, 1, 1, 1, 1, 1], True),
        ([0, 0.1, 0.1, 0.15, 0.2, 1, 1, 1, 1], False),  # beyond the half
        ([0, 0, 0, 0, 0, *[1] * 16], True),  # the first quarter
        ([0, -1, -1, -1, -1, -1, 0, 0, 0], False),
        ([0, -1, -1, -1, -1, -1, 0, 1, 1], False),
    ],
)
def test_early_is_from_the_first_value_on(falls: list[float], early: object) -> None:
    assert is_early(range(len(falls)), [-float(fall) for fall in falls]) is early


def test_early_goes_by_steps_as_well() -> None:
    falls = [*[0.0] * 5, *[1.0] * 3]
    assert not is_early(range(8), [-fall for fall in falls])
    assert is_early([0, 1, 2, 3, 4, 5, 50, 100], [-fall for fall in falls])
