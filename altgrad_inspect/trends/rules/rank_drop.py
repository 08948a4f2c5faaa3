"""``rank-drop``: the smoothed rank of a layer fell too far below its baseline.

One alert a series at most, over the points after the warm-up:

- *detected*: the first point whose drop is above the threshold.
- *onset*: the first value of the unbroken run of values, up to the detected one, that lie
  more than a quarter of the threshold below the baseline. The quarter keeps the noise and
  the drift of a healthy layer out of the run; nulls do not break it.
- *drop_fraction*: the largest drop from the detected point on; *severity*: the worst state.
"""

from collections.abc import Sequence
from typing import Final

from altgrad_inspect.display import display_name
from altgrad_inspect.records import Alert, Severity, TrendPoint, TrendState
from altgrad_inspect.trends.rules.evidence import Evidence, build_fingerprint
from altgrad_inspect.trends.series import RANK_METRICS, Series

RULE: Final = "rank-drop"

_ONSET_SHARE: Final = 0.25
_SEVERITIES: Final = {
    TrendState.WARNING: Severity.WARNING,
    TrendState.CRITICAL: Severity.CRITICAL,
}


def find_rank_drops(evidence: Evidence) -> list[Alert]:
    """Return an alert for every rank series that ever went beyond its threshold."""
    alerts = (_find_drop(series) for series in evidence.series if series.metric in RANK_METRICS)
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


def _find_drop(series: Series) -> Alert | None:
    points = series.points
    beyond = [index for index, point in enumerate(points) if point.state in _SEVERITIES]
    if not beyond:
        return None
    detected = points[beyond[0]]
    onset = find_onset(points, beyond[0])
    lowest = max((points[index] for index in beyond), key=lambda point: point.drop_fraction or 0)
    return Alert(
        fingerprint=build_fingerprint(RULE, series.layer, series.matrix, series.metric),
        rule=RULE,
        severity=max(
            (_SEVERITIES[points[index].state] for index in beyond),
            key=lambda severity: severity.rank,
        ),
        layer=series.layer,
        matrix=series.matrix,
        metric=series.metric,
        step_onset=onset,
        step_detected=detected.step,
        value=detected.value,
        baseline=detected.baseline,
        drop_fraction=lowest.drop_fraction,
        message=_render_message(series, lowest, onset, detected.step),
    )


def _render_message(series: Series, lowest: TrendPoint, onset: int, detected: int) -> str:
    name = display_name(series.layer) + (f"[{series.matrix}]" if series.matrix else "")
    metric = series.metric.replace("_", " ")
    return (
        f"The smoothed {metric} of {name} fell {lowest.drop_fraction:.0%} below its baseline of"
        f" {lowest.baseline:.4g}, to {lowest.ema:.4g} at step {lowest.step}; it began at step"
        f" {onset} and passed the threshold of {lowest.threshold:.3g} at step {detected}."
    )
