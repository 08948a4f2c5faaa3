"""Faults to plant in a layer, each with a strength and the checkpoint that first shows it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from tests.planted.generator import Plant

E4M3_MAX: Final = 448.0
RANK_RULES: Final = frozenset({"rank-drop", "rank-break", "rank-slide", "rank-early"})

Effect = Callable[[int, Tensor, Tensor], Tensor]
"""(checkpoints since the cause, weights at the one before, update) -> weights."""


def stall(share: float) -> Effect:
    """Shrink every update to ``share``: a learning rate that lost its digits."""
    return lambda _, before, update: before + share * update


def freeze(_: float) -> Effect:
    """Drop every update."""
    return lambda _age, before, _update: before


def grow_top(rate: float) -> Effect:
    """Let the largest singular value grow by ``rate`` a checkpoint."""

    def effect(_: int, before: Tensor, update: Tensor) -> Tensor:
        left, values, right = torch.linalg.svd(before + update, full_matrices=False)
        values[0] *= 1 + rate
        after: Tensor = (left * values) @ right
        return after

    return effect


def decay_tail(rate: float) -> Effect:
    """Shrink each singular value to s (s/s1)^rate a checkpoint: the small ones vanish first."""

    def effect(_: int, before: Tensor, update: Tensor) -> Tensor:
        left, values, right = torch.linalg.svd(before + update, full_matrices=False)
        after: Tensor = (left * values * (values / values[0]) ** rate) @ right
        return after

    return effect


def grow_outlier(rate: float) -> Effect:
    """Let one weight grow by ``rate`` times the largest there was, a checkpoint."""
    steps: list[float] = []

    def effect(_: int, before: Tensor, update: Tensor) -> Tensor:
        if not steps:
            steps.append(rate * float(before.abs().max()))
        after = before + update
        after[3, 5] = before[3, 5].abs() + steps[0]
        return after

    return effect


def zero(_: float) -> Effect:
    """Leave nothing."""
    return lambda _age, before, _update: torch.zeros_like(before)


def oscillate(share: float) -> Effect:
    """Hold a ``share`` of the weights at thresholds between codes, hopping over and back."""
    held: list[tuple[Tensor, Tensor, Tensor]] = []

    def hold(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scaled = weights / (weights.abs().max() / E4M3_MAX)
        codes = scaled.to(torch.float8_e4m3fn).float()
        cells = 2.0 ** (torch.frexp(codes).exponent.clamp(min=-5) - 4)
        side = torch.where(scaled >= codes, 1.0, -1.0)
        random = torch.rand(weights.shape, generator=torch.Generator().manual_seed(5))
        chosen = (random < share) & (codes.abs() < E4M3_MAX / 2)
        return chosen, codes + side * cells / 2, cells

    def effect(age: int, before: Tensor, update: Tensor) -> Tensor:
        if not held:
            held.append(hold(before))
        chosen, thresholds, cells = held[0]
        after = before + update
        scale = after.abs().max() / E4M3_MAX
        hop = 0.05 if age % 2 else -0.05
        return torch.where(chosen, scale * (thresholds + hop * cells), after)

    return effect


def alternate_zero(share: float) -> Effect:
    """Prune a ``share`` of the weights and let the sign of their zeros alternate."""

    def effect(age: int, before: Tensor, update: Tensor) -> Tensor:
        random = torch.rand(before.shape, generator=torch.Generator().manual_seed(6))
        signed = torch.tensor(-0.0 if age % 2 else 0.0)
        return torch.where(random < share, signed, before + update)

    return effect


def rescale(factor: float) -> Effect:
    """Multiply the layer by ``factor``, once."""
    return lambda age, before, update: (before + update) * (factor if age == 0 else 1.0)


def poison(_: float) -> Effect:
    """Make one weight NaN."""

    def effect(_age: int, before: Tensor, update: Tensor) -> Tensor:
        after = before + update
        after[2, 7] = float("nan")
        return after

    return effect


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: For tables.
        make: Strength to effect.
        strengths: Weak to strong; the same number three times where it has no strength.
        unit: What a strength is.
        rules: Rules that name it; empty for what must stay quiet.
        from_start: Whether it is there in the first checkpoint, and not from a cause on.
    """

    name: str
    make: Callable[[float], Effect]
    strengths: tuple[float, ...]
    unit: str
    rules: frozenset[str]
    from_start: bool = False

    def plant(self, strength: float, cause: int) -> Plant:
        """Return the fault, first shown by the checkpoint with index ``cause``."""
        effect = self.make(strength)
        first = 0 if self.from_start else cause

        def apply(index: int, before: Tensor, update: Tensor) -> Tensor:
            if index < first:
                return before + update
            return effect(index - first, before, update)

        return apply


FAULTS: Final = (
    Fault(
        name="stall",
        make=stall,
        strengths=(1e-2, 1e-3, 1e-5),
        unit="share of the update left",
        rules=frozenset({"bit-stalled", "frozen"}),
    ),
    Fault(
        name="frozen from the start",
        make=freeze,
        strengths=(1.0,),
        unit="",
        rules=frozenset({"frozen"}),
        from_start=True,
    ),
    Fault(
        name="frozen half way",
        make=freeze,
        strengths=(1.0,),
        unit="",
        rules=frozenset({"frozen", "bit-stalled"}),
    ),
    Fault(
        name="oscillation at boundaries",
        make=oscillate,
        strengths=(0.03, 0.1, 0.5),
        unit="share of the weights",
        rules=frozenset({"oscillation"}),
    ),
    Fault(
        name="growing top singular value",
        make=grow_top,
        strengths=(0.02, 0.08, 0.3),
        unit="growth a checkpoint",
        rules=RANK_RULES,
    ),
    Fault(
        name="decaying tail",
        make=decay_tail,
        strengths=(0.03, 0.1, 0.3),
        unit="power a checkpoint",
        rules=RANK_RULES,
    ),
    Fault(
        name="one growing outlier",
        make=grow_outlier,
        strengths=(0.3, 1.0, 4.0),
        unit="of the largest weight a checkpoint",
        rules=RANK_RULES | {"outlier-dominated"},
    ),
    Fault(
        name="zeroed layer",
        make=zero,
        strengths=(1.0,),
        unit="",
        rules=frozenset({"dead-layer"}),
    ),
    Fault(
        name="scale jump",
        make=rescale,
        strengths=(2.0, 5.0, 16.0),
        unit="factor",
        rules=frozenset({"scale-jump"}),
    ),
    Fault(
        name="one NaN",
        make=poison,
        strengths=(1.0,),
        unit="",
        rules=frozenset({"nonfinite-weights"}),
    ),
    Fault(
        name="±0 alternation",
        make=alternate_zero,
        strengths=(0.05, 0.3, 0.6),
        unit="share of the weights",
        rules=frozenset(),
        from_start=True,
    ),
)
