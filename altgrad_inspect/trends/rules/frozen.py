"""``frozen``: a layer that is bit-identical through the whole run, or since some step of it.

Through the whole run it is for information, since people freeze layers on purpose; a warning
for the layers that ``trained_layers`` names. At least two transitions have to say so, and none
may say otherwise; those that could not be compared say nothing.

A layer that moved before and then stops, two transitions or more, is a warning, provided that
its peers go on: at least ``stall_update_fraction`` of the weights of their median is updated in
the same transitions, and no fewer than ``MIN_MISSING_UPDATES`` updates are missing. It is for
information once the layer moves again, and for vectors, of which the few weights of a bias in
bfloat16 may well rest.
"""

from collections import defaultdict
from typing import Final

from altgrad_inspect.checkpoints.selection import matches
from altgrad_inspect.display import display_name
from altgrad_inspect.records import MIN_EXPECTED_FLIPS, Alert, Severity
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.layer_history import LayerHistory
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
    signs: list[bool | None] = []
    levels: list[PeerLevel | None] = []
    for transition in transitions:
        rests = transition.usable and transition.num_updated == 0
        least = evidence.settings.stall_update_fraction
        circle = peers.get((transition.step_from, transition.step_to)) if rests else None
        levels.append(circle.find_level(history.layer, least=least) if circle else None)
        signs.append((True if levels[-1] else None) if rests or not transition.usable else False)
    stretch = find_last_stretch(signs, min_length=MIN_TRANSITIONS)
    if stretch is None or False not in signs[: stretch.onset]:
        return None
    missing = sum(
        level.median * (transitions[index].num_weights or 0)
        for index in stretch.faults
        if (level := levels[index]) is not None
    )
    level = levels[stretch.detected]
    if level is None or missing < MIN_MISSING_UPDATES:
        return None
    steps = [transition.step_to for transition in transitions]
    lasting = stretch.recovered is None and history.layer in evidence.matrices
    text = (
        f"{display_name(history.layer)} is bit-identical since step"
        f" {transitions[stretch.onset].step_from}, in {len(stretch.faults)} transitions, though it"
        f" moved before; up to step {steps[stretch.detected]} {100 * level.median:.3g}% of the"
        f" weights of its {level.num_peers} peers were updated"
    )
    return _build_alert(
        history.layer,
        severity=Severity.WARNING if lasting else Severity.INFO,
        steps=(steps[stretch.onset], steps[stretch.detected]),
        message=text + render_recovery(stretch, steps),
    )


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
