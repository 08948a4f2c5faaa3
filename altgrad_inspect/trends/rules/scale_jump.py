"""``scale-jump``: a scale changed by more than ``scale_jump_ratio`` between two checkpoints.

Every weight of that scale then changes its code, though it need not have moved.

- A layer without a finite non-zero weight has the scale 1 by definition, so the step from or
  to all zeros is no jump of its scale; ``dead-layer`` has a word for that.
- With one scale a block, channel or group the table holds the largest ratio of maybe
  thousands: an extreme value that one weight can make, and that a block of zeros which wakes
  up (scale 1 before) fakes. That is for information.
- Scales find their size at first, those of weights that start from zero above all: the first
  transition is for information, and for vectors the whole warm-up.
"""

from collections import defaultdict
from collections.abc import Collection
from typing import Final

from altgrad_inspect.records import Alert, Severity
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.layer_history import LayerHistory, MatrixState
from altgrad_inspect.trends.rules.evidence import Evidence
from altgrad_inspect.trends.rules.flip_alert import Finding, build_flip_alert, name_codes
from altgrad_inspect.trends.smooth import find_warmup
from altgrad_inspect.trends.stretch import Stretch

RULE: Final = "scale-jump"

_SAME_NORM: Final = 1e-9
"""An update as long as the weights it started from, to this accuracy, took them all to zero."""


def find_scale_jumps(evidence: Evidence) -> list[Alert]:
    """Return an alert for every layer and quantizer with a scale that ever jumped."""
    zeros = _find_zero_steps(evidence)
    alerts = (
        _find_jumps(history, zeros.get(history.layer, frozenset()), evidence)
        for history in evidence.layer_histories
    )
    return [alert for alert in alerts if alert is not None]


def _find_zero_steps(evidence: Evidence) -> dict[str, frozenset[int]]:
    """Return the steps at which every matrix of a layer is zero."""
    states: dict[str, dict[int, list[MatrixState]]] = defaultdict(lambda: defaultdict(list))
    for history in evidence.matrix_histories:
        for step, state, _ in history.states:
            states[history.layer][step].append(state)
    return {
        layer: frozenset(
            step for step, all_of in steps.items() if set(all_of) == {MatrixState.ZERO}
        )
        for layer, steps in states.items()
    }


def _find_jumps(
    history: LayerHistory, zero_steps: Collection[int], evidence: Evidence
) -> Alert | None:
    transitions, settings = history.transitions, evidence.settings
    jumps = [
        index
        for index, transition in enumerate(transitions)
        if transition.usable
        and transition.scale_ratio_max is not None
        and transition.scale_ratio_max > settings.scale_jump_ratio
        and not _touches_zero(history, index, zero_steps)
    ]
    if not jumps:
        return None
    num_early = 1
    if history.layer not in evidence.matrices:
        steps = [transitions[0].step_from, *(transition.step_to for transition in transitions)]
        num_early = max(num_early, find_warmup(steps, settings) - 1)
    judged = [index for index in jumps if transitions[index].num_scales == 1 and index >= num_early]
    severity = Severity.WARNING if judged else Severity.INFO
    return _build_alert(history, judged or jumps, severity, settings)


def _touches_zero(history: LayerHistory, index: int, zero_steps: Collection[int]) -> bool:
    transition = history.transitions[index]
    following = history.transitions[index + 1] if index + 1 < len(history.transitions) else None
    if transition.starts_from_zero or (following is not None and following.starts_from_zero):
        return True
    if transition.step_from in zero_steps or transition.step_to in zero_steps:
        return True
    relative = transition.relative_update
    return relative is not None and abs(relative - 1) < _SAME_NORM


def _build_alert(
    history: LayerHistory, jumps: list[int], severity: Severity, settings: TrendSettings
) -> Alert:
    largest = history.transitions[
        max(jumps, key=lambda i: history.transitions[i].scale_ratio_max or 0)
    ]
    num_scales = largest.num_scales or 1
    which = "The scale" if num_scales == 1 else f"One of the {num_scales:,} scales"
    others = f", the largest of {len(jumps)} such jumps" if len(jumps) > 1 else ""
    text = (
        f"{which} of {name_codes(history)} changed {largest.scale_ratio_max:.3g}-fold from step"
        f" {largest.step_from} to {largest.step_to}{others} (more than"
        f" {settings.scale_jump_ratio:g}-fold is a jump)"
    )
    return build_flip_alert(
        history,
        Stretch(faults=tuple(jumps), detected=jumps[0], recovered=None),
        Finding(
            rule=RULE,
            severity=severity,
            column="scale_ratio_max",
            value=largest.scale_ratio_max,
            baseline=settings.scale_jump_ratio,
            text=text,
        ),
    )
