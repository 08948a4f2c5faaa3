"""An early sign of a decline: the Page-Hinkley test (Page 1954; Hinkley 1971), one-sided.

With the running mean m_t of x_1 ... x_t, the sum U_t of (m_i - x_i - delta) over i <= t drifts
down while x stays at its level, by delta a value, and turns up when x falls below it. The
alarm is U_t - min U > lambda, the minimum taken over i <= t, U_0 = 0 included. On ln(metric),
delta and lambda are relative: the defaults fire on 2 % below for ten checkpoints, or on 11 %
below for one.

It forgets nothing and knows no schedule, so every healthy decline sets it off as well; and it
is blind to a fall slower than delta a checkpoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Where the test fired, as indices into the values.

    Attributes:
        onset: The first value after U was last at its minimum.
        detected: The first value at which U was more than lambda above it.
    """

    onset: int
    detected: int


def find_page_hinkley_alarm(
    values: Sequence[float], *, delta: float, threshold: float
) -> Alarm | None:
    """Return the first alarm, or None.

    Args:
        values: In order, e.g. ln(rank).
        delta: What a value may lie below the running mean at no cost; at least 0.
        threshold: Lambda: how much may come together; above 0.
    """
    mean = total = lowest = 0.0
    onset = 0
    for index, value in enumerate(values):
        mean += (value - mean) / (index + 1)
        total += mean - value - delta
        if total <= lowest:
            lowest, onset = total, index + 1
        elif total - lowest > threshold:
            return Alarm(onset=onset, detected=index)
    return None
