"""``frozen``: a layer that is bit-identical through the whole run, or since some step of it.

Through the whole run it is for information, since people freeze layers on purpose; a warning
for the layers that ``trained_layers`` names. At least two transitions have to say so, and none
may say otherwise; those that could not be compared say nothing.

A layer that moved before and then stops, two transitions or more, is a warning. It has stopped
while fewer than ``stall_update_fraction`` of its weights are updated (in bfloat16 a starved
layer still changes a few), and that is below ``stall_peer_share`` of what it once was and of
the median of its peers, which have to go on; no fewer than ``MIN_MISSING_UPDATES`` updates may
be missing. It is for information once the layer moves again, and for vectors, of which the few
weights of a bias may well rest. Zeros that stay zero are left to ``dead-layer``.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from altgrad_inspect.checkpoints.selection import matches
from altgrad_inspect.display import display_name
from altgrad_inspect.records import MIN_EXPECTED_FLIPS, Alert, Severity
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.layer_history import LayerHistory, Transition
from altgrad_inspect.trends.peers import PeerLevel, Peers
from altgrad_inspect.trends.rules.evidence import Evidence, build_fingerprint
from altgrad_inspect.trends.rules.flip_alert import render_recovery
from altgrad_inspect.trends.stretch import find_last_stretch

RULE: Final = "frozen"

METRIC: Final = "num_updated"

MIN_TRANSITIONS: Final = 2

MIN_MISSING_UPDATES: Final = MIN_EXPECTED_FLIPS

_Peers = dict[tuple[int, int], Peers]
"""Update fractions by transition."""


def find_frozen(evidence: Evidence) -> list[Alert]:
    """Return an alert for every layer that never changed a bit, or stopped doing so."""
    first_of = {history.layer: history for history in reversed(evidence.layer_histories)}
    histories = [first_of[layer] for layer in sorted(first_of)]
    peers = _find_peers(histories, evidence)
    alerts = (
        _find_frozen(history, evidence.settings) or _find_stopped(history, peers, evidence)
        for history in histories
    )
    return [alert for alert in alerts if alert is not None]


def is_trained(layer: str, settings: TrendSettings) -> bool:
    """Say whether the settings name ``layer`` as one that should learn."""
    return any(matches(pattern, layer) for pattern in settings.trained_layers)


def _find_frozen(history: LayerHistory, settings: TrendSettings) -> Alert | None:
    """Judge a layer that is bit-identical through the whole run."""
    known = [transition for transition in history.transitions if transition.usable]
    if len(known) < MIN_TRANSITIONS or any(transition.num_updated for transition in known):
        return None
    expected = is_trained(history.layer, settings)
    why = "though it is to be trained" if expected else "as a layer is that was frozen on purpose"
    return _build_alert(
        history.layer,
        severity=Severity.WARNING if expected else Severity.INFO,
        steps=(known[0].step_from, known[MIN_TRANSITIONS - 1].step_to),
        message=(
            f"{display_name(history.layer)} is bit-identical from step {known[0].step_from} to"
            f" {known[-1].step_to}: none of its {known[0].num_weights:,} weights changed in"
            f" {len(known)} transitions, {why}."
        ),
    )


def _find_peers(histories: list[LayerHistory], evidence: Evidence) -> _Peers:
    values: dict[tuple[int, int], dict[str, float]] = defaultdict(dict)
    for history in histories:
        for transition in history.transitions:
            fraction = transition.update_fraction
            if transition.usable and fraction is not None:
                values[transition.step_from, transition.step_to][history.layer] = fraction
    return {steps: Peers(found, evidence.matrices) for steps, found in values.items()}


def _find_stopped(history: LayerHistory, peers: _Peers, evidence: Evidence) -> Alert | None:
    """Judge a layer that moved and stopped."""
    transitions = history.transitions
    levels = [
        circle.find_level(history.layer, least=evidence.settings.stall_update_fraction)
        if (circle := peers.get((transition.step_from, transition.step_to)))
        else None
        for transition in transitions
    ]
    signs = _find_signs(transitions, levels, evidence.settings)
    stretch = find_last_stretch(signs, min_length=MIN_TRANSITIONS)
    if stretch is None:
        return None
    missing = sum(_missing_updates(transitions[i], levels[i]) for i in stretch.faults)
    level = levels[stretch.detected]
    if level is None or missing < MIN_MISSING_UPDATES:
        return None
    steps = [transition.step_to for transition in transitions]
    lasting = stretch.recovered is None and history.layer in evidence.matrices
    num_updated = sum(transitions[index].num_updated or 0 for index in stretch.faults)
    text = (
        f"{display_name(history.layer)} stopped at step {transitions[stretch.onset].step_from}:"
        f" {num_updated:,} updates of {transitions[stretch.onset].num_weights:,} weights in"
        f" {len(stretch.faults)} transitions, while up to step {steps[stretch.detected]}"
        f" {100 * level.median:.3g}% of the weights of its {level.num_peers} peers were updated"
    )
    return _build_alert(
        history.layer,
        severity=Severity.WARNING if lasting else Severity.INFO,
        steps=(steps[stretch.onset], steps[stretch.detected]),
        message=text + render_recovery(stretch, steps),
    )


def _find_signs(
    transitions: Sequence[Transition], levels: Sequence[PeerLevel | None], settings: TrendSettings
) -> list[bool | None]:
    """Say for each transition whether the layer had stopped; None if it cannot be told."""
    signs: list[bool | None] = []
    most = 0.0
    for transition, level in zip(transitions, levels, strict=True):
        fraction = transition.update_fraction
        if not transition.usable or fraction is None:
            signs.append(None)
        elif fraction >= settings.stall_update_fraction:
            signs.append(False)
        elif level is None or transition.starts_from_zero:
            signs.append(None)
        else:
            limit = settings.stall_peer_share * min(most, level.median)
            signs.append(True if fraction < limit else None)
        if transition.usable and fraction is not None:
            most = max(most, fraction)
    return signs


def _missing_updates(transition: Transition, level: PeerLevel | None) -> float:
    if level is None or transition.num_weights is None or transition.num_updated is None:
        return 0.0
    return level.median * transition.num_weights - transition.num_updated


def _build_alert(layer: str, *, severity: Severity, steps: tuple[int, int], message: str) -> Alert:
    return Alert(
        fingerprint=build_fingerprint(RULE, layer, 0, METRIC),
        rule=RULE,
        severity=severity,
        layer=layer,
        matrix=0,
        metric=METRIC,
        step_onset=steps[0],
        step_detected=steps[1],
        value=0.0,
        baseline=None,
        drop_fraction=None,
        message=message,
    )
