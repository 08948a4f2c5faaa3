"""Breaks: a value far below what the values before it foretold.

The forecast is a damped trend (after Gardner and McKenzie 1985), on ln(metric):

    f_t = x_{t-1} + 0.8 * min(m, 0) * min(steps since x_{t-1}, 2 * longest recent spacing)

where m is the median of the last three slopes a step. So one jump is no trend; a rise is not
carried forward, and the end of a rise no break; and after a gap in the checkpoints a decline
is carried at most twice as far as it was seen. The residual is r_t = x_t - f_t, its usual size
1.4826 times the median of abs(r) over the last `MEMORY` earlier ones, or over the last
`SHORT_MEMORY` if that is less (so that the early transient is soon forgotten), and at least
`FLOOR`.

It cannot see a fall before the fifth value, a fall over several checkpoints, or one that
is small against how wildly the series moved before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

MIN_EARLIER: Final = 4
MEMORY: Final = 20
SHORT_MEMORY: Final = 5
FLOOR: Final = 0.01
_DAMPING: Final = 0.8
_RECENT: Final = 3
_NORMAL: Final = 1.4826  # median(abs) of a normal distribution is 1 / 1.4826 of its deviation


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """One value below its forecast.

    Attributes:
        index: Of the value.
        forecast: What ln(metric) was foretold to be.
        fall: How far below it lies, above 0.
        deviations: The same, in usual sizes of the residual.
    """

    index: int
    forecast: float
    fall: float
    deviations: float


def find_forecast(steps: Sequence[int], logs: Sequence[float], index: int) -> float:
    """Return what the values before ``index`` foretell for it.

    Args:
        steps: Strictly increasing.
        logs: ln(metric), as many.
        index: At least 1.
    """
    first = max(1, index - _RECENT)
    spacings = [steps[later] - steps[later - 1] for later in range(first, index)]
    if not spacings:
        return logs[index - 1]
    slopes = [
        (logs[later] - logs[later - 1]) / (steps[later] - steps[later - 1])
        for later in range(first, index)
    ]
    distance = min(steps[index] - steps[index - 1], 2 * max(spacings))
    return logs[index - 1] + _DAMPING * min(median(slopes), 0.0) * distance


def find_breaks(
    steps: Sequence[int], logs: Sequence[float], *, least_fall: float, least_deviations: float
) -> list[Break]:
    """Return the breaks of a series in order.

    Args:
        steps: Strictly increasing.
        logs: ln(metric), as many.
        least_fall: A break falls further than this below its forecast.
        least_deviations: And further than this many usual sizes of the residual.
    """
    residuals: list[float] = []
    breaks = []
    for index in range(1, len(logs)):
        forecast = find_forecast(steps, logs, index)
        fall = forecast - logs[index]
        if index >= MIN_EARLIER and fall > least_fall:
            usual = min(median(residuals[-memory:]) for memory in (SHORT_MEMORY, MEMORY))
            size = max(FLOOR, _NORMAL * usual)
            if fall > least_deviations * size:
                breaks.append(
                    Break(index=index, forecast=forecast, fall=fall, deviations=fall / size)
                )
        residuals.append(abs(fall))
    return breaks
