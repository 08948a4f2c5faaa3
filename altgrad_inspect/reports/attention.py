"""Alerts to the list of layers to look at, worst first, each with its metric over the run."""

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from altgrad_inspect.records import Severity
from altgrad_inspect.reports.model import Attention, Evidence, Number, Series
from altgrad_inspect.reports.sections.rows import Record, natural_key, read_rows

_READ: Final = (
    *("rule", "severity", "layer", "matrix", "metric", "step_onset", "drop_fraction", "message"),
)

SeriesKey = tuple[str, int, str]


def build_attention(tables: Mapping[str, pa.Table], *, verbose: bool) -> tuple[Attention, ...]:
    """Group the alerts by layer, worst layer first; those of ``info`` only if ``verbose``.

    Layers are ordered by their worst severity, then by how many alerts have it, then by
    the earliest onset, then by name.
    """
    alerts = [
        row
        for row in read_rows(tables["alerts"], _READ)
        if verbose or row["severity"] != Severity.INFO
    ]
    series = _read_series(tables, alerts)
    layers: dict[str, list[Record]] = {}
    for alert in alerts:
        layers.setdefault(alert["layer"], []).append(alert)
    for members in layers.values():
        members.sort(key=lambda row: (-_rank(row), row["step_onset"], row["rule"]))
    ordered = sorted(layers.items(), key=lambda item: _badness(*item))
    return tuple(
        Attention(
            layer=layer,
            severity=members[0]["severity"],
            evidence=tuple(_build_evidence(alert, series) for alert in members),
        )
        for layer, members in ordered
    )


def _rank(alert: Record) -> int:
    return Severity(alert["severity"]).rank


def _badness(layer: str, alerts: list[Record]) -> tuple[object, ...]:
    worst = max(_rank(alert) for alert in alerts)
    as_bad = [alert for alert in alerts if _rank(alert) == worst]
    onset = min(alert["step_onset"] for alert in as_bad)
    return (-worst, -len(as_bad), onset, natural_key(layer))


def _build_evidence(alert: Record, series: Mapping[SeriesKey, Series]) -> Evidence:
    return Evidence(
        severity=alert["severity"],
        rule=alert["rule"],
        message=alert["message"],
        step_onset=alert["step_onset"],
        matrix=alert["matrix"] or 0,
        series=series.get((alert["layer"], alert["matrix"], alert["metric"]), ()),
    )


def _read_series(
    tables: Mapping[str, pa.Table], alerts: list[Record]
) -> Mapping[SeriesKey, Series]:
    """Find the values of every metric that an alert is about, in the order of the steps."""
    wanted = {(row["layer"], row["matrix"], row["metric"]) for row in alerts}
    found: dict[SeriesKey, list[Number | None]] = {}
    if "trends" in tables and wanted:
        for row in read_rows(tables["trends"], ("layer", "matrix", "metric", "value")):
            key = (row["layer"], row["matrix"], row["metric"])
            if key in wanted:
                found.setdefault(key, []).append(row["value"])
    for name in ("ranks", "flips"):
        if name in tables:
            _read_missing(tables[name], wanted - found.keys(), found)
    return {key: tuple(values) for key, values in found.items()}


def _read_missing(
    table: pa.Table, wanted: set[SeriesKey], found: dict[SeriesKey, list[Number | None]]
) -> None:
    """Look in a table itself for metrics that are not among the trends."""
    metrics = sorted({metric for _, _, metric in wanted} & set(table.column_names))
    if not metrics:
        return
    keys = ["layer", "matrix"] if "matrix" in table.column_names else ["layer"]
    same = [name for name in ("quantizer", "subject") if name in table.column_names]
    first: dict[str, tuple[object, ...]] = {}
    for row in read_rows(table, [*keys, *same, *metrics]):
        variant = tuple(row[name] for name in same)
        if first.setdefault(row["layer"], variant) != variant:
            continue  # one line of bars is one quantizer's
        for metric in metrics:
            key = (row["layer"], row.get("matrix", 0), metric)
            if key in wanted:
                found.setdefault(key, []).append(row[metric])
