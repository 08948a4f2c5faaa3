"""``rank-slide``: a rank that goes down steadily, however slowly, without a jump.

With at least `MIN_SLIDE_VALUES` values: the Mann-Kendall test finds a decline, one-sided at
``slide_significance`` after Benjamini-Hochberg over all rank series of the run; the Theil-Sen
slope of ln(rank) makes it more than half of the threshold over the run; no single
checkpoint makes more than half of the fall; and the decline is a fault by
`altgrad_inspect.trends.transient`, so that the early transient raises nothing here.

Severity: warning, or critical where ``rank-drop`` is; info if all that was lost is less than
healthy layers wander (``rank_wander_fraction``). Detected: the first checkpoint by which
the test (at the level that was left after Benjamini-Hochberg) and the slope agreed. Onset: the
first value of the unbroken run of values, up to that one, that lie more than half of the
threshold below the highest value before them.

It cannot see a slide that begins late in a long run, since the test is over all of it;
``rank-drop`` is there for those, with its later halves.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from altgrad_inspect.records import Alert, Severity
from altgrad_inspect.trends.rank_view import Fall, RankView
from altgrad_inspect.trends.rules.evidence import Evidence, build_fingerprint
from altgrad_inspect.trends.rules.wording import display_matrix, display_metric
from altgrad_inspect.trends.significance import (
    estimate_decline_fraction,
    find_discoveries,
    measure_decline_p,
)
from altgrad_inspect.trends.smooth import find_thresholds
from altgrad_inspect.trends.track import Track

RULE: Final = "rank-slide"

MIN_SLIDE_VALUES: Final = 8

_JUMP_SHARE: Final = 0.5
_ONSET_SHARE: Final = 0.5


def find_rank_slides(evidence: Evidence) -> list[Alert]:
    """Return an alert for every rank series that slides."""
    view = RankView(evidence.series, evidence.losses, evidence.settings)
    tested = [track for track in view.tracks if len(track.logs) >= MIN_SLIDE_VALUES]
    p_values = [measure_decline_p(track.logs) for track in tested]
    found = find_discoveries(p_values, evidence.settings.slide_significance)
    sliding = [
        (track, p) for track, p, is_found in zip(tested, p_values, found, strict=True) if is_found
    ]
    level = max((p for _, p in sliding), default=0.0)
    alerts = (_find_slide(view, track, p, level) for track, p in sliding)
    return [alert for alert in alerts if alert is not None]


def find_slide_onset(steps: Sequence[int], logs: Sequence[float], depth: float) -> int:
    """Return the step at which the fall that ends at the last value began.

    Args:
        steps: Strictly increasing, at least one.
        logs: ln(rank), as many.
        depth: How far below the highest value before it a value has to lie, in ln(rank).
    """
    onset = steps[-1]
    for index in range(len(logs) - 1, 0, -1):
        if max(logs[:index]) - logs[index] <= depth:
            break
        onset = steps[index]
    return onset


def _has_jump(logs: Sequence[float]) -> bool:
    falls = [before - after for before, after in pairwise(logs)]
    return max(falls) > _JUMP_SHARE * (logs[0] - logs[-1])


def _find_slide(view: RankView, track: Track, p: float, level: float) -> Alert | None:
    decline = estimate_decline_fraction(track.steps, track.logs)
    if decline <= track.threshold / 2 or _has_jump(track.logs):
        return None
    detected = _find_detected(track, level)
    onset = find_slide_onset(
        track.steps[:detected], track.logs[:detected], _ONSET_SHARE * track.log_threshold
    )
    fall = Fall(since=track.steps[0], onset=onset, step=track.steps[-1], drop=decline)
    judgement = view.judge(track, fall)
    if not judgement.is_fault:
        return None
    severity = _find_severity(track, decline, view.settings.rank_wander_fraction)
    return _build_alert(track, (decline, p), (onset, detected), severity, judgement.reason)


def _find_detected(track: Track, level: float) -> int:
    """Return how many values it took until test and slope agreed."""

    def holds(count: int) -> bool:
        steps, logs = track.steps[:count], track.logs[:count]
        declined = estimate_decline_fraction(steps, logs) > track.threshold / 2
        return declined and measure_decline_p(logs) <= level

    counts = range(MIN_SLIDE_VALUES, len(track.logs))
    return counts.start + bisect_left(counts, True, key=holds)  # noqa: FBT003


def _find_severity(track: Track, decline: float, wander: float) -> Severity:
    critical = find_thresholds(track.threshold).critical
    if critical is not None and decline > critical:
        return Severity.CRITICAL
    return Severity.WARNING if decline > wander else Severity.INFO


def _build_alert(
    track: Track,
    strength: tuple[float, float],
    when: tuple[int, int],
    severity: Severity,
    reason: str,
) -> Alert:
    (decline, p), (onset, detected), series = strength, when, track.series
    return Alert(
        fingerprint=build_fingerprint(RULE, series.layer, series.matrix, series.metric),
        rule=RULE,
        severity=severity,
        layer=series.layer,
        matrix=series.matrix,
        metric=series.metric,
        step_onset=onset,
        step_detected=track.steps[detected - 1],
        value=math.exp(track.logs[detected - 1]),
        baseline=math.exp(max(track.logs[:detected])),
        drop_fraction=decline,
        message=(
            f"The {display_metric(series)} of {display_matrix(series)} slides: over"
            f" {len(track.logs)} checkpoints it went down {decline:.0%} by its median slope,"
            f" from {math.exp(track.logs[0]):.4g} to {math.exp(track.logs[-1]):.4g}"
            f" (Mann-Kendall p = {p:.1g}); it began at step {onset}. {reason}"
        ),
    )
