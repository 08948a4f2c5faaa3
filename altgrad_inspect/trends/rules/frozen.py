"""``frozen``: a layer that is bit-identical through the whole run.

For information, since people freeze layers on purpose; a warning for the layers that
``trained_layers`` names. At least two transitions have to say so, and none may say otherwise;
those that could not be compared say nothing.
"""

from typing import Final

from altgrad_inspect.checkpoints.selection import matches
from altgrad_inspect.display import display_name
from altgrad_inspect.records import Alert, Severity
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.layer_history import LayerHistory
from altgrad_inspect.trends.rules.evidence import Evidence, build_fingerprint

RULE: Final = "frozen"

METRIC: Final = "num_updated"

MIN_TRANSITIONS: Final = 2


def find_frozen(evidence: Evidence) -> list[Alert]:
    """Return an alert for every layer that never changed a bit."""
    first_of = {history.layer: history for history in reversed(evidence.layer_histories)}
    alerts = (_find_frozen(first_of[layer], evidence.settings) for layer in sorted(first_of))
    return [alert for alert in alerts if alert is not None]


def is_trained(layer: str, settings: TrendSettings) -> bool:
    """Say whether the settings name ``layer`` as one that should learn."""
    return any(matches(pattern, layer) for pattern in settings.trained_layers)


def _find_frozen(history: LayerHistory, settings: TrendSettings) -> Alert | None:
    known = [transition for transition in history.transitions if transition.usable]
    if len(known) < MIN_TRANSITIONS or any(transition.num_updated for transition in known):
        return None
    expected = is_trained(history.layer, settings)
    why = "though it is to be trained" if expected else "as a layer is that was frozen on purpose"
    return Alert(
        fingerprint=build_fingerprint(RULE, history.layer, 0, METRIC),
        rule=RULE,
        severity=Severity.WARNING if expected else Severity.INFO,
        layer=history.layer,
        matrix=0,
        metric=METRIC,
        step_onset=known[0].step_from,
        step_detected=known[MIN_TRANSITIONS - 1].step_to,
        value=0.0,
        baseline=None,
        drop_fraction=None,
        message=(
            f"{display_name(history.layer)} is bit-identical from step {known[0].step_from} to"
            f" {known[-1].step_to}: none of its {known[0].num_weights:,} weights changed in"
            f" {len(known)} transitions, {why}."
        ),
    )
