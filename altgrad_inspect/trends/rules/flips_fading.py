"""``flips-fading``: the codes of a layer flip at a fraction of the rate they once did.

The series is the flip fraction per training step, so that checkpoints may be unevenly spaced,
smoothed like every series; it has faded while it is below ``flips_fading_level`` of its
baseline. Codes that all flipped cannot flip more, so over longer gaps the rate falls by itself:
the smoothed flip fraction of a transition has to be below the level too.

A schedule that decays does this to every layer, so the loss decides:

- no loss is known, or too few: info, and it says so;
- the loss has flattened (over its last third it changed by less than ``loss_flat_fraction``):
  the layer has *converged*, info;
- the loss still moves while the layer's peers, their median, fade nearly as far (below twice
  the level, or below four times where the layer itself stands): the schedule, info;
- the loss still moves and the peers go on flipping, or there are none: *stalling*, a warning.

A baseline of fewer than ``MIN_EXPECTED_FLIPS`` flips a transition is not judged, since a
tenth of it is chance. Peers are judged at the end of the run, each against its own baseline.
"""

from dataclasses import dataclass
from statistics import median
from typing import Final

from altgrad_inspect.records import MIN_EXPECTED_FLIPS, Alert, Severity, TrendState
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.layer_history import LayerHistory
from altgrad_inspect.trends.loss_trend import find_loss_change
from altgrad_inspect.trends.peers import PeerLevel, Peers
from altgrad_inspect.trends.rules.evidence import Evidence
from altgrad_inspect.trends.rules.flip_alert import Finding, build_flip_alert, name_codes
from altgrad_inspect.trends.smooth import SmoothedPoint, Thresholds, smooth_series
from altgrad_inspect.trends.stretch import Stretch, find_last_stretch

RULE: Final = "flips-fading"

_SHARED: Final = 2.0
"""Peers below this many times the level fade too ..."""

_NEAR: Final = 4.0
"""... and those below this many times what is left of the layer's own rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rate:
    """The flips of one layer and quantizer, one point a transition.

    Attributes:
        history: The transitions.
        points: Flips per weight and step, smoothed.
        fractions: Flips per weight, smoothed.
    """

    history: LayerHistory
    points: tuple[SmoothedPoint, ...]
    fractions: tuple[SmoothedPoint, ...]

    @property
    def level(self) -> float | None:
        """The smoothed rate at the end of the run over its baseline."""
        last = self.points[-1]
        if last.ema is None or not last.baseline:
            return None
        return last.ema / last.baseline


def find_fading_flips(evidence: Evidence) -> list[Alert]:
    """Return an alert for every layer and quantizer whose flips faded."""
    rates = [_find_rate(history, evidence.settings) for history in evidence.layer_histories]
    change = find_loss_change(evidence.losses)
    alerts: list[Alert | None] = []
    for quantizer in sorted({rate.history.quantizer for rate in rates}):
        members = [rate for rate in rates if rate.history.quantizer == quantizer]
        levels = {rate.history.layer: rate.level for rate in members}
        known = {layer: level for layer, level in levels.items() if level is not None}
        peers = Peers(known, evidence.matrices)
        alerts += [
            _find_fading(rate, peers.find_level(rate.history.layer), change, evidence.settings)
            for rate in members
        ]
    return [alert for alert in alerts if alert is not None]


def _find_rate(history: LayerHistory, settings: TrendSettings) -> _Rate:
    thresholds = Thresholds(warning=1 - settings.flips_fading_level, critical=None)
    steps = [transition.step_to for transition in history.transitions]
    fractions = [one.flip_fraction if one.usable else None for one in history.transitions]
    rates = [
        None if fraction is None else fraction / transition.num_steps
        for fraction, transition in zip(fractions, history.transitions, strict=True)
    ]
    return _Rate(
        history=history,
        points=tuple(smooth_series(steps, rates, settings, thresholds)),
        fractions=tuple(smooth_series(steps, fractions, settings, thresholds)),
    )


def _find_fading(
    rate: _Rate, peers: PeerLevel | None, change: float | None, settings: TrendSettings
) -> Alert | None:
    signs = [
        _find_sign(point, fraction)
        for point, fraction in zip(rate.points, rate.fractions, strict=True)
    ]
    stretch = find_last_stretch(signs, min_length=1)
    if stretch is None or _expected_flips(rate) < MIN_EXPECTED_FLIPS:
        return None
    transition = rate.history.transitions[stretch.detected]
    point = rate.points[stretch.detected]
    lowest = min((rate.points[index] for index in stretch.faults), key=lambda one: one.ema or 0)
    severity, why = _judge(rate, stretch, peers, change, settings)
    onset = _find_onset(rate, stretch, settings)
    text = (
        f"{name_codes(rate.history)} flips at {(lowest.ema or 0) / (lowest.baseline or 1):.1%} of"
        f" its baseline rate since step {rate.points[onset].step},"
        f" {lowest.ema:.2g} against {lowest.baseline:.2g} flips a weight and step; {why}"
    )
    return build_flip_alert(
        rate.history,
        Stretch(
            faults=(onset, *stretch.faults),
            detected=stretch.detected,
            recovered=stretch.recovered,
        ),
        Finding(
            rule=RULE,
            severity=severity,
            column="flip_fraction",
            value=transition.flip_fraction,
            baseline=min(1.0, (point.baseline or 0) * transition.num_steps),
            drop_fraction=lowest.drop_fraction,
            text=text,
        ),
    )


def _find_sign(point: SmoothedPoint, fraction: SmoothedPoint) -> bool | None:
    if point.value is None or point.state in {TrendState.WARMUP, TrendState.INSUFFICIENT}:
        return None
    return TrendState.WARNING is point.state is fraction.state


def _expected_flips(rate: _Rate) -> float:
    """Return how many flips a transition of the usual length has at the baseline rate."""
    sizes = [one.num_weights for one in rate.history.transitions if one.num_weights]
    lengths = [transition.num_steps for transition in rate.history.transitions]
    baseline = rate.points[-1].baseline
    return (baseline or 0.0) * median(lengths) * (max(sizes) if sizes else 0)


def _find_onset(rate: _Rate, stretch: Stretch, settings: TrendSettings) -> int:
    """Return the first of the unbroken values below the level that led to the detection."""
    onset = stretch.detected
    for index in range(stretch.detected, -1, -1):
        point = rate.points[index]
        if point.value is None:
            continue
        if point.value >= settings.flips_fading_level * (point.baseline or 0):
            break
        onset = index
    return onset


def _judge(
    rate: _Rate,
    stretch: Stretch,
    peers: PeerLevel | None,
    change: float | None,
    settings: TrendSettings,
) -> tuple[Severity, str]:
    """Return the severity and the reason for it."""
    if stretch.recovered is not None:
        return Severity.INFO, "it did not stay so"
    if change is None:
        return Severity.INFO, "whether it converged or stalls the loss decides, which is not known"
    moved = f"the loss changed by {change:+.1%} over its last third"
    if abs(change) < settings.loss_flat_fraction:
        return Severity.INFO, f"{moved}, so it has converged"
    if peers is None:
        return Severity.WARNING, f"{moved}, so it stalls"
    others = f"its {peers.num_peers} peers flip at {peers.median:.0%} of theirs"
    near = max(_SHARED * settings.flips_fading_level, _NEAR * (rate.level or 0.0))
    if peers.median < near:
        return Severity.INFO, f"{others}, as under a schedule that decays, and {moved}"
    return Severity.WARNING, f"{others} and {moved}, so it stalls"
