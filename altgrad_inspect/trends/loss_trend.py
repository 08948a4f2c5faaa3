"""Whether the training loss still moves."""

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import median
from typing import Final

MIN_LOSSES: Final = 6
"""Fewer make a last third of one point, and a point has no slope."""


def find_loss_change(losses: Sequence[tuple[int, float]]) -> float | None:
    """Return the relative change of the loss over the last third of its steps.

    The median of the slopes between all pairs of its points (Theil 1950, Sen 1968) times
    its length, over the magnitude of the loss at its start: noise in one point moves it little.

    Args:
        losses: (step, loss) in order; losses that are not finite are left out.

    Returns:
        Negative for a loss that falls; None with fewer than `MIN_LOSSES` losses, fewer than
        two in the last third, or a start at zero.
    """
    finite = [(step, loss) for step, loss in losses if math.isfinite(loss)]
    if len(finite) < MIN_LOSSES:
        return None
    first, last = finite[0][0], finite[-1][0]
    third = [(step, loss) for step, loss in finite if step >= last - (last - first) / 3]
    start = abs(third[0][1])
    if len(third) < 2 or start == 0:
        return None
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(third, 2)]
    return median(slopes) * (last - third[0][0]) / start
