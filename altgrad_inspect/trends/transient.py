"""Is a decline the early transient of training, or a fault?

Trained from scratch, nearly every layer loses most of its rank early on, and nothing is wrong.
That decline begins with the run, slows down, and is shared by the peers of a layer. A fault
is one layer's own, or abrupt, or begins in mid-run, or keeps its pace. In this order:

1. own: the layer fell further than its peers (`altgrad_inspect.trends.peer_ranks`): a fault;
2. its whole role broke at one step: that is judged as one break, not again here;
3. abrupt: it broke alone (`altgrad_inspect.trends.breaks`): a fault;
4. with the rates of ln(metric) a step over the three thirds of the values, it *slows down* if
   the last rate is at most half of the larger of the two before. It is *early* if 40 % of
   the way from the first value to the lowest was made by the fourth value, in the first
   quarter of the values or steps, or in the first half of the steps if an eighth of it was
   made in half of that time.
   Early and slowing down: the transient. Early, but not slowing down: a fault from
   `STEADY_VALUES` values on, and before that nobody can tell. Late: a fault, unless it came
   to rest again within what healthy layers wander (``rank_wander_fraction``);
5. and of what is a fault by 4, info is what the peers did as well, either early in the run or
   while the loss went on improving, and what is late in steps and not in learning: the loss
   had more than a quarter of its way down so far (in logarithms, a tenth at least) to go;
6. and whatever it is by 1, 3 and 4, it is ordinary where the whole run moves nearly as far: below
   6.5 times the upper quartile of how far all other matrices went meanwhile, up or down. So it is
   while the learning rate warms up between closely saved checkpoints. The loss has to
   improve meanwhile; where none is known, the others must not go down as well;
7. and nothing is a fault while the run is in the steep part of its learning: the last three
   checkpoints brought the loss down by more than a tenth, and by more than a quarter of its way
   down so far, in logarithms.

Rates are per step and not per ln(step): a fault that keeps its pace does so in steps, and a
healthy decline by a power law slows down in them.

It cannot see a fault that starts within the first quarter of the run and slows down, shared by
all peers or in a layer without any: by its ranks that is a healthy run. While the whole run
moves it sees the largest falls only, and while the run learns fast, none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

STEADY_VALUES: Final = 9
"""Three thirds of three: with fewer values, rates say nothing about a steady decline."""

_SLOWING: Final = 0.5
_EARLY_SHARE: Final = 0.4
_EARLY_INDEX: Final = 3
_EARLY_QUARTER: Final = 0.25
_EARLY_HALF: Final = 0.5
_BEGUN_SHARE: Final = 0.125


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a decline is.

    Attributes:
        is_fault: Whether it is something to act upon.
        reason: Why, as a sentence about "it".
    """

    is_fault: bool
    reason: str


OWN: Final = Judgement(is_fault=True, reason="Its peers did not fall like this.")
ABRUPT: Final = Judgement(is_fault=True, reason="It fell abruptly.")
LATE: Final = Judgement(is_fault=True, reason="It did not begin with the run.")
STEADY: Final = Judgement(is_fault=True, reason="It does not slow down.")
UNCLEAR: Final = Judgement(
    is_fault=False,
    reason="Too few checkpoints to tell it from the early transient of training.",
)
RESTING: Final = Judgement(
    is_fault=False, reason="It came to rest within what healthy layers wander."
)
SHARED: Final = Judgement(
    is_fault=False, reason="Its peers came down early in the run, and it followed them."
)
IMPROVING: Final = Judgement(
    is_fault=False, reason="Its peers did the same, while the loss went on improving."
)
ORDINARY: Final = Judgement(
    is_fault=False, reason="The whole run was in motion, and others went nearly as far."
)
LEARNING: Final = Judgement(
    is_fault=False,
    reason="It began while the run was still learning fast, as healthy falls do.",
)
TRANSIENT: Final = Judgement(
    is_fault=False, reason="It slows down, like the early transient of training."
)


def measure_rates(steps: Sequence[int], logs: Sequence[float]) -> tuple[float, float, float]:
    """Return the declines of ln(metric) a step over the three thirds of the values.

    Args:
        steps: Strictly increasing, at least four.
        logs: ln(metric), as many.

    Returns:
        First, middle and last third, end to end; negative for a rise.
    """
    last = len(logs) - 1
    bounds = (0, round(last / 3), round(2 * last / 3), last)
    first, middle, end = (
        (logs[low] - logs[high]) / (steps[high] - steps[low]) for low, high in pairwise(bounds)
    )
    return first, middle, end


def is_slowing(steps: Sequence[int], logs: Sequence[float]) -> bool:
    """Return whether the last third falls at most half as fast as the fastest one before."""
    first, middle, last = measure_rates(steps, logs)
    return last <= max(_SLOWING * max(first, middle), 0.0)


def is_early(steps: Sequence[int], logs: Sequence[float]) -> bool:
    """Return whether a decline began with the run; see point 4 at the head of this file.

    Args:
        steps: Strictly increasing, at least four.
        logs: ln(metric), as many.
    """
    falls = [logs[0] - log for log in logs]
    depth = max(falls)
    if depth <= 0:
        return False
    index = next(i for i, fall in enumerate(falls) if fall >= _EARLY_SHARE * depth)
    place = (steps[index] - steps[0]) / (steps[-1] - steps[0])
    if index <= _EARLY_INDEX or min(place, index / (len(logs) - 1)) <= _EARLY_QUARTER:
        return True
    begun = float(np.interp((steps[0] + steps[index]) / 2, steps, falls))
    return place <= _EARLY_HALF and begun >= _BEGUN_SHARE * depth


def judge_pace(
    steps: Sequence[int], logs: Sequence[float], drop: float, wander: float
) -> Judgement:
    """Judge a decline by its course alone: point 4 at the head of this file.

    Args:
        steps: Strictly increasing, at least four.
        logs: ln(metric), as many.
        drop: How much it fell, in (0, 1).
        wander: Smaller drops are no fault once they came to rest.
    """
    early = is_early(steps, logs)
    if is_slowing(steps, logs):
        if early:
            return TRANSIENT
        return RESTING if drop < wander else LATE
    if not early:
        return LATE
    return STEADY if len(logs) >= STEADY_VALUES else UNCLEAR
