"""``oscillation``: weights hop over a boundary between two codes and back (Nagel et al. 2022).

Two transitions in a row in which both hold: the flip excess is above ``oscillation_excess``
(weights pile up at the boundaries, arXiv:2203.11086) and more than ``oscillation_reverted`` of
the flips return to the code of the checkpoint before last.

Neither is enough alone. A random walk recrosses its boundary, so under Adam-like noise 25 to
60 % of the flips of healthy layers revert, with an excess of 0.9 to 1.2; and a layer can pile
up at boundaries without hopping back.
"""

from typing import Final

from altgrad_inspect.records import Alert, Severity
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.layer_history import LayerHistory, Transition
from altgrad_inspect.trends.rules.evidence import Evidence
from altgrad_inspect.trends.rules.flip_alert import Finding, build_flip_alert, name_codes
from altgrad_inspect.trends.stretch import find_last_stretch

RULE: Final = "oscillation"

MIN_TRANSITIONS: Final = 2


def find_oscillations(evidence: Evidence) -> list[Alert]:
    """Return an alert for every layer and quantizer whose codes hop back and forth."""
    alerts = (_find_oscillation(one, evidence.settings) for one in evidence.layer_histories)
    return [alert for alert in alerts if alert is not None]


def _find_sign(transition: Transition, settings: TrendSettings) -> bool | None:
    """Say whether a transition oscillates; None if it cannot be told."""
    excess, num_reverted = transition.flip_excess, transition.num_reverted
    if not transition.usable or excess is None or transition.num_flipped is None:
        return None
    if excess <= settings.oscillation_excess:
        return False
    if num_reverted is None:
        return None
    return num_reverted > settings.oscillation_reverted * transition.num_flipped


def _find_oscillation(history: LayerHistory, settings: TrendSettings) -> Alert | None:
    signs = [_find_sign(transition, settings) for transition in history.transitions]
    stretch = find_last_stretch(signs, min_length=MIN_TRANSITIONS)
    if stretch is None:
        return None
    detected = history.transitions[stretch.detected]
    reverted = (detected.num_reverted or 0) / (detected.num_flipped or 1)
    text = (
        f"{name_codes(history)} hops over the boundaries of its codes and back since step"
        f" {history.transitions[stretch.onset].step_to}: at step {detected.step_to}"
        f" {detected.num_flipped:,} flips, {detected.flip_excess:.3g} times what evenly placed"
        f" weights would make, and {reverted:.0%} of them undo the flip before"
    )
    return build_flip_alert(
        history,
        stretch,
        Finding(
            rule=RULE,
            severity=Severity.WARNING,
            column="flip_excess",
            value=detected.flip_excess,
            baseline=settings.oscillation_excess,
            text=text,
        ),
    )
