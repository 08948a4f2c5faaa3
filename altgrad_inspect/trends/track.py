"""A rank series as the rules about ranks see it: its defined values, as logarithms.

On a logarithm a fall by a given part has one size wherever it happens.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from altgrad_inspect.trends.series import RANK_METRICS, Series


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """The defined values of a series.

    Attributes:
        series: Where they come from.
        steps: Strictly increasing.
        logs: ln(value), as many; values at or below zero are left out, as nulls are.
    """

    series: Series
    steps: tuple[int, ...]
    logs: tuple[float, ...]

    @property
    def threshold(self) -> float:
        """The drop that is a warning, in (0, 1)."""
        return self.series.points[0].threshold

    @property
    def log_threshold(self) -> float:
        """How far ln(value) falls in such a drop, above 0."""
        return -math.log1p(-self.threshold)

    def find_log(self, step: int) -> float | None:
        """Return the last ln(value) at or before ``step``; None if there is none yet."""
        index = bisect_right(self.steps, step)
        return self.logs[index - 1] if index else None


def find_tracks(series: Iterable[Series]) -> list[Track]:
    """Return a track for every series of a rank, in the order given."""
    tracks = []
    for one in series:
        if one.metric not in RANK_METRICS:
            continue
        pairs = [
            (point.step, math.log(point.value))
            for point in one.points
            if point.value is not None and point.value > 0
        ]
        tracks.append(
            Track(
                series=one,
                steps=tuple(step for step, _ in pairs),
                logs=tuple(log for _, log in pairs),
            )
        )
    return tracks
