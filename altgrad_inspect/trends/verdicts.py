"""One verdict a layer: the first in the order of `Verdict` that its alerts support.

======================= =============================================== =================
verdict                 rules                                           from severity
======================= =============================================== =================
nonfinite               nonfinite-weights                               any
dead                    dead-layer                                      any
frozen                  frozen                                          any
bit-stalled             bit-stalled                                     warning
outlier-dominated       outlier-dominated                               any
collapsing              rank-drop, rank-break, rank-slide               warning
oscillating             oscillation                                     warning
rescaling               scale-jump, saturation                          warning
stalling                flips-fading                                    warning
======================= =============================================== =================

Saturation is a rescaling: its scale no longer fits the weights, as after a jump. The worst
alert of the verdict decides, of those the earliest; its message is the evidence. An alert about
a whole role (``rank-break``) counts for those of its layers that fell. With no such
alert a layer is ``healthy`` if ``MIN_CHECKPOINTS`` checkpoints of it could be measured, and
``undecided`` otherwise.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from altgrad_inspect.display import display_name
from altgrad_inspect.records import (
    Alert,
    Severity,
    TrendState,
    Verdict,
    VerdictRecord,
)
from altgrad_inspect.roles import peer_group
from altgrad_inspect.trends.layer_history import MatrixState
from altgrad_inspect.trends.rules.evidence import Evidence
from altgrad_inspect.trends.series import Series
from altgrad_inspect.trends.smooth import MIN_VALUES

MIN_CHECKPOINTS: Final = MIN_VALUES
"""Fewer points are no trend, so nothing can be said to be well."""

_RULES: Final[tuple[tuple[Verdict, frozenset[str], Severity], ...]] = (
    (Verdict.NONFINITE, frozenset({"nonfinite-weights"}), Severity.INFO),
    (Verdict.DEAD, frozenset({"dead-layer"}), Severity.INFO),
    (Verdict.FROZEN, frozenset({"frozen"}), Severity.INFO),
    (Verdict.BIT_STALLED, frozenset({"bit-stalled"}), Severity.WARNING),
    (Verdict.OUTLIER_DOMINATED, frozenset({"outlier-dominated"}), Severity.INFO),
    (
        Verdict.COLLAPSING,
        frozenset({"rank-drop", "rank-break", "rank-slide"}),
        Severity.WARNING,
    ),
    (Verdict.OSCILLATING, frozenset({"oscillation"}), Severity.WARNING),
    (Verdict.RESCALING, frozenset({"scale-jump", "saturation"}), Severity.WARNING),
    (Verdict.STALLING, frozenset({"flips-fading"}), Severity.WARNING),
)

_DROPPED: Final = frozenset({TrendState.WARNING, TrendState.CRITICAL})


@dataclass(slots=True)
class _Seen:
    """What was measured of one layer.

    Attributes:
        by_ranks: Steps with a rank of every matrix.
        by_flips: Steps at either end of a transition that could be compared.
        reasons: Why the others could not, with how often.
    """

    by_ranks: set[int] = field(default_factory=set)
    by_flips: set[int] = field(default_factory=set)
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def steps(self) -> list[int]:
        """The steps known by the table that knows more, in order."""
        more = self.by_ranks if len(self.by_ranks) >= len(self.by_flips) else self.by_flips
        return sorted(more)


def find_verdicts(evidence: Evidence, alerts: Sequence[Alert]) -> list[VerdictRecord]:
    """Judge every layer that has a row in the ranks or flips table.

    Args:
        evidence: What the rules were given.
        alerts: What they found, in any order; those of other layers are left out.

    Returns:
        One record a layer, sorted by layer.
    """
    seen = _find_seen(evidence)
    alerts_of: dict[str, list[Alert]] = defaultdict(list)
    for alert in alerts:
        for layer in {alert.layer, *_find_members(alert, evidence)}:
            alerts_of[layer].append(alert)
    series = {(one.layer, one.matrix, one.metric): one for one in evidence.series}
    values = _summarize(evidence)
    return [
        _find_fault(layer, alerts_of[layer], series)
        or _judge_unremarkable(layer, seen[layer], values[layer])
        for layer in sorted(seen)
    ]


def _find_members(alert: Alert, evidence: Evidence) -> set[str]:
    """Return the layers that an alert about a whole role is about: those that fell then."""
    if alert.rule != "rank-break" or "*" not in alert.layer:
        return set()
    return {
        one.layer
        for one in evidence.series
        if one.metric == alert.metric
        and peer_group(one.layer) == alert.layer
        and _has_fallen(one, alert.step_detected)
    }


def _has_fallen(series: Series, step: int) -> bool:
    """Return whether a rank lost half of its threshold or more from one checkpoint to ``step``."""
    known = [point for point in series.points if point.value is not None and point.step <= step]
    if len(known) < 2 or known[-1].step != step:
        return False
    before, after = (point.value or 0.0 for point in known[-2:])
    return after <= before * (1 - known[-1].threshold / 2)


def _find_fault(
    layer: str, alerts: Sequence[Alert], series: Mapping[tuple[str, int, str], Series]
) -> VerdictRecord | None:
    for verdict, rules, least in _RULES:
        fitting = [
            alert for alert in alerts if alert.rule in rules and alert.severity.rank >= least.rank
        ]
        if fitting:
            deciding = min(
                fitting,
                key=lambda one: (-one.severity.rank, one.step_onset, one.matrix, one.metric),
            )
            return VerdictRecord(
                layer=layer,
                verdict=verdict,
                severity=deciding.severity,
                step_onset=deciding.step_onset,
                evidence=_render_evidence(deciding, series),
            )
    return None


def _render_evidence(alert: Alert, series: Mapping[tuple[str, int, str], Series]) -> str:
    """Return the message, and since when it is over if the smoothed metric came back."""
    one = series.get((alert.layer, alert.matrix, alert.metric))
    if alert.rule != "rank-drop" or one is None or "recovered" in alert.message:
        return alert.message
    dropped = [index for index, point in enumerate(one.points) if point.state in _DROPPED]
    if not dropped or dropped[-1] + 1 >= len(one.points):
        return alert.message
    step = one.points[dropped[-1] + 1].step
    return f"{alert.message.removesuffix('.')}; it recovered at step {step}."


def _judge_unremarkable(layer: str, seen: _Seen, values: str) -> VerdictRecord:
    steps, name = seen.steps, display_name(layer)
    if len(steps) >= MIN_CHECKPOINTS:
        verdict = Verdict.HEALTHY
        text = f"No rule found a fault in {name} over {len(steps)} checkpoints"
        text += f" from step {steps[0]} to {steps[-1]}{values}."
    else:
        verdict = Verdict.UNDECIDED
        number = f"{len(steps)} checkpoint" + ("" if len(steps) == 1 else "s")
        text = f"Only {number} of {name} could be measured, {MIN_CHECKPOINTS} are needed"
        if seen.reasons:
            text += f" ({seen.reasons.most_common(1)[0][0]})"
        text += "."
    return VerdictRecord(
        layer=layer, verdict=verdict, severity=Severity.INFO, step_onset=None, evidence=text
    )


def _find_seen(evidence: Evidence) -> dict[str, _Seen]:
    seen: dict[str, _Seen] = defaultdict(_Seen)
    for history in evidence.layer_histories:
        for transition in history.transitions:
            steps = {transition.step_from, transition.step_to} if transition.usable else set()
            seen[history.layer].by_flips |= steps
    undefined: dict[str, set[int]] = defaultdict(set)
    for matrix in evidence.matrix_histories:
        for step, state, _ in matrix.states:
            seen[matrix.layer].by_ranks.add(step)
            if state is not MatrixState.LIVE:
                undefined[matrix.layer].add(step)
    for layer, steps in undefined.items():
        seen[layer].by_ranks -= steps
    for table in (evidence.ranks, evidence.flips):
        _count_reasons(table, seen)
    return dict(seen)


def _count_reasons(table: pa.Table | None, seen: Mapping[str, _Seen]) -> None:
    if table is None:
        return
    columns = (table.column(name).to_pylist() for name in ("layer", "reason"))
    for layer, reason in zip(*columns, strict=True):
        if reason is not None and layer in seen:
            seen[layer].reasons[display_name(reason)] += 1


def _summarize(evidence: Evidence) -> Mapping[str, str]:
    """Return for each layer its numbers at the ends of the run, as the rest of a sentence.

    Of a stack the first matrix, of several quantizers the first.
    """
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for one in evidence.series:
        known = [point.value for point in one.points if point.value is not None]
        if known and one.matrix == 0:
            metric = one.metric.partition("[")[0].replace("_", " ")
            found[one.layer].setdefault(metric, f", {metric} {known[0]:.3g} to {known[-1]:.3g}")
    return defaultdict(str, {layer: "".join(texts.values()) for layer, texts in found.items()})
