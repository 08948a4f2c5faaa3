"""How an alert about transitions is put together, the same for every rule about flips."""

from dataclasses import dataclass

from altgrad_inspect.display import display_name
from altgrad_inspect.records import Alert, Severity
from altgrad_inspect.trends.layer_history import LayerHistory
from altgrad_inspect.trends.rules.evidence import build_fingerprint
from altgrad_inspect.trends.stretch import Stretch


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a rule found in the transitions of one layer.

    Attributes:
        rule: Name of the rule.
        severity: How urgent it is.
        column: The column of the flips table that decided; the alert's metric names the
            quantizer too, as in ``flip_excess[e4m3:tensor:amax]``.
        value: The number that decided, at detection.
        baseline: What it is compared with.
        drop_fraction: How far the value is below the baseline, where that is the point.
        text: What was found, as a sentence without its full stop.
    """

    rule: str
    severity: Severity
    column: str
    value: float | None
    baseline: float | None
    drop_fraction: float | None = None
    text: str


def build_flip_alert(history: LayerHistory, stretch: Stretch, finding: Finding) -> Alert:
    """Return the alert; the step of a transition is that of its later checkpoint."""
    metric = f"{finding.column}[{history.quantizer}]"
    steps = [transition.step_to for transition in history.transitions]
    return Alert(
        fingerprint=build_fingerprint(finding.rule, history.layer, 0, metric),
        rule=finding.rule,
        severity=finding.severity,
        layer=history.layer,
        matrix=0,
        metric=metric,
        step_onset=steps[stretch.onset],
        step_detected=steps[stretch.detected],
        value=finding.value,
        baseline=finding.baseline,
        drop_fraction=finding.drop_fraction,
        message=finding.text + render_recovery(stretch, steps),
    )


def render_recovery(stretch: Stretch, steps: list[int]) -> str:
    """End the sentence, saying since when the fault is over if it is.

    Args:
        stretch: The fault.
        steps: The step of every sign that the stretch was found in.
    """
    return (
        "." if stretch.recovered is None else f"; it recovered at step {steps[stretch.recovered]}."
    )


def name_codes(history: LayerHistory) -> str:
    """Return layer and quantizer for a message, e.g. ``h.0.mlp.weight (e4m3:tensor:amax)``."""
    return f"{display_name(history.layer)} ({display_name(history.quantizer)})"
