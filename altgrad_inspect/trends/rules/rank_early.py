"""``rank-early``: the first sign that the rank of a layer goes down.

The Page-Hinkley test (`altgrad_inspect.trends.early_warning`) on ln(rank), from the last value
of the warm-up on. All sorts of healthy drift set it off, so it is info; a warning if
the fall is the layer's own, that is if it went further than its peers by more than the
threshold. Nothing is said unless the newest value lies half of the threshold below the baseline,
where `altgrad_inspect.trends.transient` holds the decline to be no fault, or once ``rank-drop``
has something to say.

Detected: where the test fired. Onset: the first value that added to what set it off.
"""

import math
from typing import Final

from altgrad_inspect.records import Alert, Severity, TrendState
from altgrad_inspect.trends.early_warning import Alarm, find_page_hinkley_alarm
from altgrad_inspect.trends.rank_view import Fall, RankView
from altgrad_inspect.trends.rules.evidence import Evidence, build_fingerprint
from altgrad_inspect.trends.rules.wording import display_matrix, display_metric
from altgrad_inspect.trends.smooth import MIN_VALUES
from altgrad_inspect.trends.track import Track
from altgrad_inspect.trends.transient import OWN, Judgement

RULE: Final = "rank-early"


def find_early_signs(evidence: Evidence) -> list[Alert]:
    """Return an alert for every rank series that has begun to go down."""
    view = RankView(evidence.series, evidence.losses, evidence.settings)
    alerts = (_find_sign(view, track) for track in view.tracks)
    return [alert for alert in alerts if alert is not None]


def _find_sign(view: RankView, track: Track) -> Alert | None:
    if len(track.logs) < MIN_VALUES or any(
        point.state in {TrendState.WARNING, TrendState.CRITICAL} for point in track.series.points
    ):
        return None
    settings = view.settings
    first = _find_last_of_warmup(track)
    alarm = find_page_hinkley_alarm(
        track.logs[first:], delta=settings.early_delta, threshold=settings.early_lambda
    )
    baseline = track.series.points[-1].baseline
    if alarm is None or not baseline:
        return None
    drop = 1 - math.exp(track.logs[-1]) / baseline
    if drop <= track.threshold / 2:
        return None
    found = Alarm(onset=first + alarm.onset, detected=first + alarm.detected)
    onset, last = track.steps[found.onset], track.steps[-1]
    judgement = view.judge(track, Fall(since=track.steps[0], onset=onset, step=last, drop=drop))
    if not judgement.is_fault:
        return None
    return _build_alert(track, found, (baseline, drop), judgement)


def _find_last_of_warmup(track: Track) -> int:
    warmup = {point.step for point in track.series.points if point.state is TrendState.WARMUP}
    return max(0, sum(step in warmup for step in track.steps) - 1)


def _build_alert(
    track: Track, alarm: Alarm, level: tuple[float, float], judgement: Judgement
) -> Alert:
    series, (baseline, drop) = track.series, level
    onset, detected = track.steps[alarm.onset], track.steps[alarm.detected]
    return Alert(
        fingerprint=build_fingerprint(RULE, series.layer, series.matrix, series.metric),
        rule=RULE,
        severity=Severity.WARNING if judgement is OWN else Severity.INFO,
        layer=series.layer,
        matrix=series.matrix,
        metric=series.metric,
        step_onset=onset,
        step_detected=detected,
        value=math.exp(track.logs[alarm.detected]),
        baseline=baseline,
        drop_fraction=drop,
        message=(
            f"The {display_metric(series)} of {display_matrix(series)} has begun to go down: since"
            f" step {onset}, seen at step {detected}, and now {drop:.0%} below its baseline of"
            f" {baseline:.4g}. {judgement.reason}"
        ),
    )
