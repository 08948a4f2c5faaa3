"""``saturation``: too many weights are clipped at the largest value of their format.

A state of a checkpoint and no event, so that one checkpoint is enough to say it. Scales that
follow amax clip nothing; fixed and absent scales do once the weights outgrow them.
"""

from typing import Final

from altgrad_inspect.records import Alert, Severity
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.layer_history import LayerHistory, Transition
from altgrad_inspect.trends.rules.evidence import Evidence
from altgrad_inspect.trends.rules.flip_alert import Finding, build_flip_alert, name_codes
from altgrad_inspect.trends.stretch import find_last_stretch

RULE: Final = "saturation"


def find_saturations(evidence: Evidence) -> list[Alert]:
    """Return an alert for every layer and quantizer that clips too many weights."""
    alerts = (_find_saturation(one, evidence.settings) for one in evidence.layer_histories)
    return [alert for alert in alerts if alert is not None]


def _saturated_fraction(transition: Transition) -> float | None:
    if not transition.usable or not transition.num_weights or transition.num_saturated is None:
        return None
    return transition.num_saturated / transition.num_weights


def _find_saturation(history: LayerHistory, settings: TrendSettings) -> Alert | None:
    limit = settings.saturation_fraction
    fractions = [_saturated_fraction(transition) for transition in history.transitions]
    signs = [None if fraction is None else fraction > limit for fraction in fractions]
    stretch = find_last_stretch(signs, min_length=1)
    if stretch is None:
        return None
    worst = max(stretch.faults, key=lambda index: fractions[index] or 0)
    transition = history.transitions[worst]
    text = (
        f"{name_codes(history)} is clipped since step"
        f" {history.transitions[stretch.onset].step_to}: {transition.num_saturated:,} of"
        f" {transition.num_weights:,} weights ({fractions[worst]:.1%}) lie beyond the largest"
        f" value at step {transition.step_to}, more than {limit:.2g}"
    )
    return build_flip_alert(
        history,
        stretch,
        Finding(
            rule=RULE,
            severity=Severity.WARNING,
            column="num_saturated",
            value=float(history.transitions[stretch.detected].num_saturated or 0),
            baseline=limit * (transition.num_weights or 0),
            text=text,
        ),
    )
