"""Seven mistakes of a training script, each made in one layer from one step on.

Nothing here touches a saved file. A cause is called once, just before the forward pass of
its first step; it changes the setting, or installs the hook, that a person got wrong. What
the checkpoints show afterwards is what the training made of it.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sample_checkpoints.model import round_to_e4m3

Group: TypeAlias = dict[str, Any]
"""One parameter group of the optimizer: the settings of one layer."""

Cause: TypeAlias = Callable[[nn.Parameter, Group, Optimizer], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One mistake, and what is known to be true about it.

    Attributes:
        layer: The parameter it is made on.
        name: What the layer then does.
        step_cause: The first training step made with the mistake.
        step_visible: The first checkpoint whose weights show it.
        cause: Makes the mistake.
    """

    layer: str
    name: str
    step_cause: int
    step_visible: int
    cause: Cause

    def truth(self) -> dict[str, str | int]:
        """Return the facts that ``truth.json`` holds."""
        return {
            "layer": self.layer,
            "fault": self.name,
            "step_cause": self.step_cause,
            "step_visible": self.step_visible,
        }


def _freeze(parameter: nn.Parameter, group: Group, optimizer: Optimizer) -> None:  # noqa: ARG001
    """Forget to switch the gradient on again after a warm start."""
    parameter.requires_grad_(False)  # noqa: FBT003 - torch's own signature


def _shrink_the_tail(parameter: nn.Parameter, group: Group, optimizer: Optimizer) -> None:  # noqa: ARG001
    """Apply an orthogonality regularizer with the wrong sign.

    Moving by W - W W'W / s1^2 lifts every singular value towards the largest one; moving
    against it, as here, leaves the largest alone and lets the others decay. The strength
    of the regularizer is warmed up linearly, as such strengths are.
    """
    ages = itertools.count(1)

    def regularize(*_: object) -> None:
        strength = 6e-6 * next(ages)
        with torch.no_grad():
            top = torch.linalg.matrix_norm(parameter, ord=2)
            step = parameter - parameter @ parameter.T @ parameter / top**2
            parameter.sub_(step, alpha=strength)

    optimizer.register_step_post_hook(regularize)


def _starve(parameter: nn.Parameter, group: Group, optimizer: Optimizer) -> None:  # noqa: ARG001
    """Scale the learning rate of the layer by 1e-6, meant as 1e-1."""
    group["peak_lr"] *= 1e-6


def _seek_thresholds(parameter: nn.Parameter, group: Group, optimizer: Optimizer) -> None:  # noqa: ARG001
    """Regularize towards the E4M3 grid with the wrong sign, and without momentum.

    The penalty |W - Q(W)|^2 / 2 was to pull each weight to its grid value. With its sign
    wrong it pushes each to the threshold between two codes. Two more slips make it
    certain: the hook assigns the gradient where it should add to it, and the group has
    betas of 0 and no schedule, so that every step hops over the threshold and the next one
    hops back.
    """
    group.update(betas=(0.0, 0.0), weight_decay=0.0, peak_lr=2e-4, scheduled=False)

    def assign_penalty(weight: Tensor) -> None:
        weight.grad = round_to_e4m3(weight.detach()) - weight.detach()

    parameter.register_post_accumulate_grad_hook(assign_penalty)  # type: ignore[no-untyped-call]


def _count_into_the_weight(parameter: nn.Parameter, group: Group, optimizer: Optimizer) -> None:  # noqa: ARG001
    """Sum the squared gradient norm, for a noise scale, into a view of the weight itself."""
    statistics = parameter.detach().view(-1)[:1]

    def log_norm(weight: Tensor) -> None:
        if weight.grad is not None:
            statistics.add_(weight.grad.square().sum())

    parameter.register_post_accumulate_grad_hook(log_norm)  # type: ignore[no-untyped-call]


def _prune_everything(parameter: nn.Parameter, group: Group, optimizer: Optimizer) -> None:  # noqa: ARG001
    """Prune the smallest weights after each step; 1 % was meant, the fraction 1.0 was given."""
    fraction = 1.0

    def prune(*_: object) -> None:
        with torch.no_grad():
            magnitudes = parameter.abs()
            count = round(fraction * magnitudes.numel())
            threshold = magnitudes.flatten().kthvalue(count).values
            parameter[magnitudes <= threshold] = 0.0

    optimizer.register_step_post_hook(prune)


def _drop_epsilon(parameter: nn.Parameter, group: Group, optimizer: Optimizer) -> None:  # noqa: ARG001
    """Set AdamW's epsilon to 0: a row that never had a gradient then moves by 0 / 0."""
    group["eps"] = 0.0


FAULTS: Final = (
    Fault(
        layer="model.layers.1.mlp.up_proj.weight",
        name="frozen",
        step_cause=1,
        step_visible=250,
        cause=_freeze,
    ),
    Fault(
        layer="lm_head.weight",
        name="rank-loss",
        step_cause=626,
        step_visible=875,
        cause=_shrink_the_tail,
    ),
    Fault(
        layer="model.layers.2.self_attn.v_proj.weight",
        name="outlier",
        step_cause=640,
        step_visible=875,
        cause=_count_into_the_weight,
    ),
    Fault(
        layer="model.layers.3.mlp.gate_proj.weight",
        name="oscillation",
        step_cause=660,
        step_visible=1000,
        cause=_seek_thresholds,
    ),
    Fault(
        layer="model.layers.2.mlp.down_proj.weight",
        name="bit-stall",
        step_cause=740,
        step_visible=875,
        cause=_starve,
    ),
    Fault(
        layer="model.layers.3.self_attn.q_proj.weight",
        name="dead",
        step_cause=1100,
        step_visible=1125,
        cause=_prune_everything,
    ),
    Fault(
        layer="model.embed_tokens.weight",
        name="nan",
        step_cause=1450,
        step_visible=1500,
        cause=_drop_epsilon,
    ),
)
