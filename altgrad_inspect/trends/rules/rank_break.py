"""``rank-break``: the rank of a layer broke away from what its own course foretold.

What a break is, and what it cannot see: `altgrad_inspect.trends.breaks`. One alert a series
at most, its first break, and critical; info if the layer only came down like its peers before
it, or while the run was learning fast. A break lasts one checkpoint, so onset and detection are
the same.

If more than half of the layers of one name break at one step, that is one alert about the run.
Its layer is the name that they share, with ``*`` for the number of the block, and its matrix 0:
``model.layers.*.mlp.up_proj.weight``. It is info while the loss goes on improving: the first
loss logged from the break on and the last one are both no higher than the last before it.
Otherwise, and without a loss history, it is critical.

A layer without peers may break by itself while a learning rate warms up. With five or more
checkpoints saved meanwhile that is taken for a fault; a longer ``warmup_checkpoints`` keeps
this rule quiet for as many values.
"""

import math
from statistics import median
from typing import Final

from altgrad_inspect.display import display_name
from altgrad_inspect.records import Alert, Severity
from altgrad_inspect.trends.rank_view import RankView, SharedBreak
from altgrad_inspect.trends.rules.evidence import Evidence, build_fingerprint
from altgrad_inspect.trends.rules.wording import display_matrix, display_metric
from altgrad_inspect.trends.track import Track

RULE: Final = "rank-break"


def find_rank_breaks(evidence: Evidence) -> list[Alert]:
    """Return an alert for every rank series that broke alone, and for every role that broke."""
    view = RankView(evidence.series, evidence.losses, evidence.settings)
    lone = (_find_lone_break(view, track) for track in view.tracks)
    return [alert for alert in lone if alert is not None] + _find_shared_breaks(view)


def _find_lone_break(view: RankView, track: Track) -> Alert | None:
    breaks = view.list_lone_breaks(track)
    if not breaks:
        return None
    accused = [one for one in breaks if view.is_accused(track, one)]
    first = (accused or breaks)[0]
    excuse = view.find_excuse(track, first)
    series, step = track.series, track.steps[first.index]
    value, forecast = math.exp(track.logs[first.index]), math.exp(first.forecast)
    return Alert(
        fingerprint=build_fingerprint(RULE, series.layer, series.matrix, series.metric),
        rule=RULE,
        severity=Severity.INFO if excuse else Severity.CRITICAL,
        layer=series.layer,
        matrix=series.matrix,
        metric=series.metric,
        step_onset=step,
        step_detected=step,
        value=value,
        baseline=forecast,
        drop_fraction=-math.expm1(-first.fall),
        message=(
            f"The {display_metric(series)} of {display_matrix(series)} broke at step {step}:"
            f" {value:.4g} where its course foretold {forecast:.4g}, {first.deviations:.1f} times"
            f" its usual deviation.{f' {excuse}' if excuse else ''}"
        ),
    )


def _find_shared_breaks(view: RankView) -> list[Alert]:
    """Return one alert a group: its first break while the loss got worse, else its first."""
    alerts: dict[str, Alert] = {}
    for one in view.shared_breaks:
        alert = _build_shared(one, is_improving=view.is_loss_improving(one.step))
        known = alerts.get(alert.fingerprint)
        if known is None or alert.severity.rank > known.severity.rank:
            alerts[alert.fingerprint] = alert
    return list(alerts.values())


def _build_shared(one: SharedBreak, *, is_improving: bool) -> Alert:
    name, metric = one.group
    value = median(math.exp(track.logs[found.index]) for track, found in one.members)
    baseline = median(math.exp(found.forecast) for _, found in one.members)
    loss = "goes on improving" if is_improving else "does not improve, or is not known"
    return Alert(
        fingerprint=build_fingerprint(RULE, name, 0, metric),
        rule=RULE,
        severity=Severity.INFO if is_improving else Severity.CRITICAL,
        layer=name,
        matrix=0,
        metric=metric,
        step_onset=one.step,
        step_detected=one.step,
        value=value,
        baseline=baseline,
        drop_fraction=median(-math.expm1(-found.fall) for _, found in one.members),
        message=(
            f"The {metric.replace('_', ' ')} of {len(one.members)} of {one.num_layers}"
            f" {display_name(name)} broke together at step {one.step}: {value:.4g} in the middle"
            f" where their courses foretold {baseline:.4g}. The loss {loss}."
        ),
    )
