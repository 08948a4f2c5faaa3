"""``rank-drop``: the smoothed rank of a layer fell too far below its baseline.

One alert a series at most, over the points after the warm-up:

- *detected*: the first point whose drop is above the threshold.
- *onset*: the first value of the unbroken run of values, up to the detected one, that lie
  more than a quarter of the threshold below the baseline. The quarter keeps the noise and
  the drift of a healthy layer out of the run; nulls do not break it.
- *drop_fraction*: the largest drop from the detected point on.
- *severity*: the worst state, for a fault; info for what `altgrad_inspect.trends.transient`
  does not hold to be one. The message says why.

A baseline from the start of a run trained from scratch is soon far away. So the later half of
the values is judged as a run of its own too, and the later half of that, as long as there are
`TAIL_VALUES`: the longest in which there is a fault is reported, one that merely keeps its pace
only if there is no other, since its onset may be that of an early decline before it. That is
how a collapse after a healthy early decline is seen, or one after a rise.

It sees a fall late, by as many checkpoints as the average needs to follow; ``rank-break`` is
there for the abrupt ones.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from altgrad_inspect.records import Alert, Severity, TrendPoint, TrendState
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.rank_view import Fall, RankView
from altgrad_inspect.trends.rules.evidence import Evidence, build_fingerprint
from altgrad_inspect.trends.rules.wording import display_matrix, display_metric
from altgrad_inspect.trends.series import Series, build_series
from altgrad_inspect.trends.smooth import find_thresholds
from altgrad_inspect.trends.track import Track
from altgrad_inspect.trends.transient import STEADY, Judgement

RULE: Final = "rank-drop"

TAIL_VALUES: Final = 8
"""The later half of a run is judged by itself if it has as many values as this."""

_ONSET_SHARE: Final = 0.25
_SEVERITIES: Final = {
    TrendState.WARNING: Severity.WARNING,
    TrendState.CRITICAL: Severity.CRITICAL,
}


def find_rank_drops(evidence: Evidence) -> list[Alert]:
    """Return an alert for every rank series that ever went beyond its threshold."""
    view = RankView(evidence.series, evidence.losses, evidence.settings)
    alerts = (_find_worst_drop(view, track) for track in view.tracks)
    return [alert for alert in alerts if alert is not None]


def find_onset(points: Sequence[TrendPoint], detected: int) -> int:
    """Return the step at which the fall that was detected began.

    Args:
        points: A series with a baseline.
        detected: Index of the point at which the drop was first above the threshold.
    """
    onset = points[detected].step
    for point in reversed(points[: detected + 1]):
        if point.state is TrendState.WARMUP:
            break
        if point.value is None or point.baseline is None:
            continue
        if point.value >= point.baseline * (1 - _ONSET_SHARE * point.threshold):
            break
        onset = point.step
    return onset


def list_tails(track: Track, settings: TrendSettings) -> Iterator[Series]:
    """Yield the series, its later half, the later half of that ...: each with its own baseline."""
    yield track.series
    num_values = len(track.steps) // 2
    while num_values >= TAIL_VALUES:
        since = track.steps[-num_values]
        yield build_series(
            layer=track.series.layer,
            matrix=track.series.matrix,
            metric=track.series.metric,
            values=[
                (point.step, point.value) for point in track.series.points if point.step >= since
            ],
            settings=settings,
            thresholds=find_thresholds(track.threshold),
        )
        num_values //= 2


def _find_worst_drop(view: RankView, track: Track) -> Alert | None:
    found = [_find_drop(view, track, tail) for tail in list_tails(track, view.settings)]
    drops = [drop for drop in found if drop is not None]
    faults = [(judgement, alert) for judgement, alert in drops if judgement.is_fault]
    dated = [alert for judgement, alert in faults if judgement is not STEADY]
    return next(iter([*dated, *(alert for _, alert in [*faults, *drops])]), None)


def _find_drop(view: RankView, track: Track, series: Series) -> tuple[Judgement, Alert] | None:
    points = series.points
    beyond = [index for index, point in enumerate(points) if point.state in _SEVERITIES]
    if not beyond:
        return None
    detected = points[beyond[0]]
    onset = find_onset(points, beyond[0])
    lowest = max((points[index] for index in beyond), key=lambda point: point.drop_fraction or 0)
    drop = lowest.drop_fraction or 0.0
    fall = Fall(since=points[0].step, onset=onset, step=lowest.step, drop=drop)
    judgement = view.judge(track, fall)
    severity = max(
        (_SEVERITIES[points[index].state] for index in beyond), key=lambda severity: severity.rank
    )
    alert = Alert(
        fingerprint=build_fingerprint(RULE, series.layer, series.matrix, series.metric),
        rule=RULE,
        severity=severity if judgement.is_fault else Severity.INFO,
        layer=series.layer,
        matrix=series.matrix,
        metric=series.metric,
        step_onset=onset,
        step_detected=detected.step,
        value=detected.value,
        baseline=detected.baseline,
        drop_fraction=lowest.drop_fraction,
        message=_render_message(series, lowest, onset, detected.step, judgement),
    )
    return judgement, alert


def _render_message(
    series: Series, lowest: TrendPoint, onset: int, detected: int, judgement: Judgement
) -> str:
    return (
        f"The smoothed {display_metric(series)} of {display_matrix(series)} fell"
        f" {lowest.drop_fraction:.0%} below its baseline of {lowest.baseline:.4g}, to"
        f" {lowest.ema:.4g} at step {lowest.step}; it began at step {onset} and passed the"
        f" threshold of {lowest.threshold:.3g} at step {detected}. {judgement.reason}"
    )
