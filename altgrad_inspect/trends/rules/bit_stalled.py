"""``bit-stalled``: the weights of a layer go on moving, and its codes do not.

A transition is *stalled* if at least ``stall_update_fraction`` of the weights were updated
while the flip fraction stayed below ``stall_flip_fraction`` and below ``stall_peer_share`` of
the median of the layer's peers in the same transition; two such in a row are an alert.

Not the stall fraction: with float32 masters it is 0.95 to 0.9999 on perfectly healthy layers,
since most updates are smaller than the distance between two codes. What healthy layers share
is how often they flip, so the peers say how many flips are missing.

What keeps it from accusing the healthy:

- Fewer than ``MIN_MISSING_FLIPS`` flips missing over the whole stretch are chance.
- One flip more or less is chance too: a transition with a single flip may be stalled.
- An update that changed no value (-0 to +0) is none; stored codes without values say nothing.
- A schedule that decays slows the peers as much; peers that do not move say nothing.
- For vectors it is for information: biases and norms are seldom quantized, and all their
  weights may sit mid-cell, where nothing flips for long.

It is critical while it lasts and a warning once the codes move again.
"""

from collections import defaultdict
from itertools import accumulate
from typing import Final

from altgrad_inspect.records import MIN_EXPECTED_FLIPS, Alert, Severity
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.layer_history import LayerHistory, Transition
from altgrad_inspect.trends.peers import PeerLevel, Peers
from altgrad_inspect.trends.rules.evidence import Evidence
from altgrad_inspect.trends.rules.flip_alert import Finding, build_flip_alert, name_codes
from altgrad_inspect.trends.stretch import Stretch, find_last_stretch

RULE: Final = "bit-stalled"

MIN_TRANSITIONS: Final = 2

MIN_MISSING_FLIPS: Final = MIN_EXPECTED_FLIPS
"""The same number below which a flip excess is noise."""

_Moment = tuple[str, int, int]


def find_bit_stalls(evidence: Evidence) -> list[Alert]:
    """Return an alert for every layer and quantizer whose codes stopped on their own."""
    peers = _find_peers(evidence)
    alerts = (_find_stall(history, peers, evidence) for history in evidence.layer_histories)
    return [alert for alert in alerts if alert is not None]


def _find_peers(evidence: Evidence) -> dict[_Moment, Peers]:
    """Gather the flip fractions of every transition; a layer that was not updated has none."""
    values: dict[_Moment, dict[str, float]] = defaultdict(dict)
    for history in evidence.layer_histories:
        for transition in history.transitions:
            if (
                transition.usable
                and transition.num_updated
                and transition.flip_fraction is not None
            ):
                moment = _moment(history, transition)
                values[moment][history.layer] = transition.flip_fraction
    return {moment: Peers(found, evidence.matrices) for moment, found in values.items()}


def _moment(history: LayerHistory, transition: Transition) -> _Moment:
    return history.quantizer, transition.step_from, transition.step_to


def _find_stall(
    history: LayerHistory, peers: dict[_Moment, Peers], evidence: Evidence
) -> Alert | None:
    signs: list[bool | None] = []
    levels: list[PeerLevel | None] = []
    for transition in history.transitions:
        level = None
        if _is_slow(transition, evidence.settings):
            circle = peers.get(_moment(history, transition))
            least = evidence.settings.stall_flip_fraction
            level = circle.find_level(history.layer, least=least) if circle else None
        levels.append(level)
        signs.append(_find_sign(transition, level, evidence.settings))
    stretch = find_last_stretch(signs, min_length=MIN_TRANSITIONS)
    if stretch is None:
        return None
    missing = list(
        accumulate(_missing_flips(history.transitions[i], levels[i]) for i in stretch.faults)
    )
    if missing[-1] < MIN_MISSING_FLIPS:
        return None
    enough = next(i for i, number in enumerate(missing) if number >= MIN_MISSING_FLIPS)
    detected = stretch.faults[max(enough, MIN_TRANSITIONS - 1)]
    stretch = Stretch(faults=stretch.faults, detected=detected, recovered=stretch.recovered)
    return _build_alert(history, stretch, levels[detected], evidence)


def _is_slow(transition: Transition, settings: TrendSettings) -> bool:
    fraction = transition.flip_fraction
    if not transition.usable or fraction is None or transition.num_flipped is None:
        return False
    return fraction < settings.stall_flip_fraction or transition.num_flipped <= 1


def _find_sign(
    transition: Transition, level: PeerLevel | None, settings: TrendSettings
) -> bool | None:
    """Say whether a transition is stalled; None if it cannot be told."""
    if not transition.usable or transition.flip_fraction is None:
        return None
    if not _is_slow(transition, settings):
        return False
    if level is None or not transition.update_norm:
        return None
    if transition.flip_fraction >= settings.stall_peer_share * level.median:
        return False
    updated = transition.update_fraction
    return True if updated is not None and updated >= settings.stall_update_fraction else None


def _missing_flips(transition: Transition, level: PeerLevel | None) -> float:
    if level is None or transition.num_weights is None or transition.num_flipped is None:
        return 0.0
    return level.median * transition.num_weights - transition.num_flipped


def _build_alert(
    history: LayerHistory, stretch: Stretch, level: PeerLevel | None, evidence: Evidence
) -> Alert | None:
    transition = history.transitions[stretch.detected]
    if level is None or transition.flip_fraction is None or transition.update_fraction is None:
        return None
    severity = Severity.CRITICAL if stretch.recovered is None else Severity.WARNING
    num_flips = sum(history.transitions[index].num_flipped or 0 for index in stretch.faults)
    text = (
        f"The codes of {name_codes(history)} have stopped since step"
        f" {history.transitions[stretch.onset].step_to}, while its weights move: {num_flips:,}"
        f" flips in {len(stretch.faults)} transitions; from step {transition.step_from} to"
        f" {transition.step_to} {100 * transition.update_fraction:.3g}% of its weights were"
        f" updated, and of the codes of its {level.num_peers} peers"
        f" {100 * level.median:.3g}% flipped"
    )
    return build_flip_alert(
        history,
        stretch,
        Finding(
            rule=RULE,
            severity=severity if history.layer in evidence.matrices else Severity.INFO,
            column="flip_fraction",
            value=transition.flip_fraction,
            baseline=level.median,
            drop_fraction=1 - transition.flip_fraction / level.median,
            text=text,
        ),
    )
