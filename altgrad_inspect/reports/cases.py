"""Verdicts and alerts to one case a layer: what is wrong with it, and since when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from altgrad_inspect.records import Severity, Verdict
from altgrad_inspect.reports.metric_series import SeriesKey, find_series
from altgrad_inspect.reports.model import Case, Evidence, Series
from altgrad_inspect.reports.sections.rows import Record, natural_key, read_rows

_ALERT_COLUMNS: Final = (
    *("rule", "severity", "layer", "matrix", "metric", "step_onset", "message"),
)
_VERDICT_COLUMNS: Final = ("layer", "verdict", "severity", "step_onset", "evidence")

_SeriesOf = Mapping[SeriesKey, Series]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One layer and the word for what it has: a verdict, or a rule if no verdict says it."""

    word: str
    case: Case

    @property
    def severity(self) -> str:
        """``info``, ``warning`` or ``critical``."""
        return self.case.evidence.severity

    @property
    def badness(self) -> tuple[object, ...]:
        """Sort key: worst severity first, then the order of verdicts, onset and name."""
        onset = self.case.evidence.step_onset
        return (
            -Severity(self.severity).rank,
            _ORDER.get(self.word, len(_ORDER)),
            self.word,
            (onset is None, onset or 0),
            natural_key(self.case.layer),
        )


_ORDER: Final[Mapping[str, int]] = {str(word): index for index, word in enumerate(Verdict)}


def find_findings(tables: Mapping[str, pa.Table]) -> list[Finding]:
    """Return what the rules say of every layer that is not healthy, worst first.

    A layer has one finding: its verdict, or its worst alert where that is more severe or no
    verdict names a fault. Its other alerts come with it.
    """
    alerts: dict[str, list[Record]] = {}
    for row in read_rows(tables["alerts"], _ALERT_COLUMNS):
        alerts.setdefault(row["layer"], []).append(row)
    wanted = {(a["layer"], a["matrix"], a["metric"]) for rows in alerts.values() for a in rows}
    series = find_series(tables, wanted)
    verdicts = {
        row["layer"]: row
        for row in (read_rows(tables["verdicts"], _VERDICT_COLUMNS) if "verdicts" in tables else ())
        if row["verdict"] != Verdict.HEALTHY
    }
    findings = [
        _find_finding(layer, verdicts.get(layer), alerts.get(layer, []), series)
        for layer in {**verdicts, **alerts}
    ]
    return sorted(findings, key=lambda finding: finding.badness)


def _find_finding(
    layer: str, verdict: Record | None, alerts: Sequence[Record], series: _SeriesOf
) -> Finding:
    ordered = sorted(alerts, key=_alert_badness)
    if verdict is None or _is_worse(ordered, verdict):
        word, first = ordered[0]["rule"], _build_evidence(ordered[0], series)
        rest = ordered[1:]
    else:
        deciding = _find_deciding(verdict, ordered)
        word, first = verdict["verdict"], _build_verdict(verdict, deciding, series)
        rest = [alert for alert in ordered if alert is not deciding]
    also = tuple(_build_evidence(alert, series) for alert in rest)
    return Finding(word=word, case=Case(layer=layer, evidence=first, also=also))


def _alert_badness(alert: Record) -> tuple[object, ...]:
    return (-Severity(alert["severity"]).rank, alert["step_onset"], alert["rule"], alert["matrix"])


def _is_worse(ordered: Sequence[Record], verdict: Record) -> bool:
    """Whether the worst alert says more than a verdict that names no fault."""
    if not ordered or verdict["severity"] != Severity.INFO:
        return False
    return Severity(ordered[0]["severity"]) != Severity.INFO


def _find_deciding(verdict: Record, ordered: Sequence[Record]) -> Record | None:
    """Return the alert that led to the verdict: the one whose message is its evidence."""
    fitting = [
        alert
        for alert in ordered
        if (alert["severity"], alert["step_onset"]) == (verdict["severity"], verdict["step_onset"])
    ]
    told = [
        alert
        for alert in fitting
        if verdict["evidence"].startswith(alert["message"].removesuffix("."))
    ]
    return next(iter(told or fitting), None)


def _build_verdict(verdict: Record, deciding: Record | None, series: _SeriesOf) -> Evidence:
    if deciding is not None:
        return _build_evidence({**deciding, "message": verdict["evidence"]}, series)
    return Evidence(
        severity=verdict["severity"],
        rule=verdict["verdict"],
        message=verdict["evidence"],
        step_onset=verdict["step_onset"],
    )


def _build_evidence(alert: Record, series: _SeriesOf) -> Evidence:
    return Evidence(
        severity=alert["severity"],
        rule=alert["rule"],
        message=alert["message"],
        step_onset=alert["step_onset"],
        matrix=alert["matrix"] or 0,
        metric=alert["metric"] or "",
        series=series.get((alert["layer"], alert["matrix"], alert["metric"]), ()),
    )
