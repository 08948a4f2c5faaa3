"""The Page-Hinkley test, by hand and against its definition."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altgrad_inspect.trends.early_warning import Alarm, find_page_hinkley_alarm


def alarm_of(values: list[float], delta: float = 0.01, threshold: float = 0.1) -> Alarm | None:
    return find_page_hinkley_alarm(values, delta=delta, threshold=threshold)


def slow_alarm(values: list[float], delta: float, threshold: float) -> int | None:
    sums = [0.0]
    for at, value in enumerate(values, start=1):
        sums.append(sums[-1] + math.fsum(values[:at]) / at - value - delta)
        if sums[-1] - min(sums) > threshold:
            return at - 1
    return None


@given(
    values=st.lists(st.integers(-100, 100).map(lambda number: number / 64), max_size=30),
    delta=st.sampled_from([0.0, 0.01, 0.1]),
    threshold=st.sampled_from([0.05, 0.1, 0.5]),
)
def test_it_fires_where_its_definition_says(
    values: list[float], delta: float, threshold: float
) -> None:
    alarm = alarm_of(values, delta, threshold + 1e-6)
    assert (alarm.detected if alarm else None) == slow_alarm(values, delta, threshold + 1e-6)
    if alarm:
        assert 0 <= alarm.onset <= alarm.detected


@pytest.mark.parametrize(
    ("values", "alarm"),
    [
        ([0.0] * 9, None),
        ([0.0, 0.0, 0.0, -0.3], Alarm(onset=3, detected=3)),
        ([0.0, 0.0, 0.0, -0.1, -0.1, -0.1], Alarm(onset=3, detected=4)),
        ([0.0, 0.1, 0.3, 0.6], None),
        ([0.0] * 5 + [-0.005] * 40, None),
        ([0.0] * 10 + [-0.02] * 12, None),  # with no delta it would come together
        ([], None),
    ],
)
def test_by_hand(values: list[float], alarm: Alarm | None) -> None:
    assert alarm_of(values) == alarm
