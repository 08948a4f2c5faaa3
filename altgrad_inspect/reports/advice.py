"""What to look at next: one short line a verdict. Where to look, not what to believe."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from altgrad_inspect.records import Verdict

ADVICE: Final[Mapping[str, str]] = MappingProxyType(
    {
        Verdict.NONFINITE: "optimizer epsilon, gradient clipping, overflow in that step's batch; "
        "go back to the checkpoint before it",
        Verdict.DEAD: "what wrote zeros: initialisation, pruning, a save that lost a shard, weight "
        "decay without a gradient",
        Verdict.FROZEN: "is it meant to be frozen? If not: requires_grad, and the optimizer's "
        "parameter groups",
        Verdict.BIT_STALLED: "the learning rate against the grid; finer scales, more mantissa "
        "bits, stochastic rounding, master weights",
        Verdict.OUTLIER_DOMINATED: "the largest weight, its row and column; weight decay; scales "
        "per channel, so that it does not set them all",
        Verdict.COLLAPSING: "learning rate and weight decay of this layer; what changed in data or "
        "loss at that step",
        Verdict.OSCILLATING: "a lower or decaying learning rate, averaged weights: updates are as "
        "large as the cells of the grid",
        Verdict.RESCALING: "how scales are chosen: amax history and margin, the outlier that sets "
        "the scale, finer scales",
        Verdict.STALLING: "is the learning rate meant to be this low by now? If not: finer scales, "
        "stochastic rounding",
        Verdict.HEALTHY: "",
        Verdict.UNDECIDED: "more checkpoints: save them more often, or wait",
        "rank-early": "the next checkpoints: a first sign, not yet a drop",
    }
)
"""Verdict or rule -> what to look at."""

_SAME: Final[Mapping[str, str]] = {
    "nonfinite-weights": Verdict.NONFINITE,
    "dead-layer": Verdict.DEAD,
    "rank-drop": Verdict.COLLAPSING,
    "rank-break": Verdict.COLLAPSING,
    "rank-slide": Verdict.COLLAPSING,
    "oscillation": Verdict.OSCILLATING,
    "scale-jump": Verdict.RESCALING,
    "saturation": Verdict.RESCALING,
    "flips-fading": Verdict.STALLING,
}
"""Rule -> the verdict that it leads to, where the two have different names."""

_OTHERWISE: Final = "the course of this metric: `trend` prints it, trends.parquet has every value"


def find_advice(word: str) -> str:
    """Return what to look at for a verdict or a rule."""
    return ADVICE.get(_SAME.get(word, word), _OTHERWISE)
