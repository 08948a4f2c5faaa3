"""Trends, one row a series: the smoothed value against its baseline at the last step."""

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from altgrad_inspect.reports.model import ALWAYS, Column, Kind, Row, Section
from altgrad_inspect.reports.sections.rows import Record, group_rows, natural_key, read_rows

_READ: Final = (
    *("layer", "matrix", "metric", "step", "value", "ema", "baseline", "drop_fraction"),
    *("threshold", "state"),
)

_COLUMNS: Final = (
    Column(title="layer", kind=Kind.TEXT, weight=ALWAYS),
    Column(title="matrix", kind=Kind.STEP, weight=ALWAYS),
    Column(title="metric", kind=Kind.TEXT, weight=ALWAYS),
    Column(title="baseline", kind=Kind.REAL, weight=60),
    Column(title="smoothed", kind=Kind.REAL, weight=70),
    Column(title="drop", kind=Kind.PERCENT, weight=ALWAYS),
    Column(title="limit", kind=Kind.PERCENT, weight=40),
    Column(title="state", kind=Kind.LOOK, weight=ALWAYS),
    Column(title="history", kind=Kind.SERIES, weight=65),
)

_ROW_COLUMNS: Final = (
    *_COLUMNS[:3],
    Column(title="step", kind=Kind.STEP, weight=ALWAYS),
    Column(title="value", kind=Kind.REAL, weight=80),
    *_COLUMNS[3:8],
)


def build_trends_sections(table: pa.Table, *, verbose: bool) -> tuple[Section, ...]:
    """Summarise ``trends`` per series; every row as well if ``verbose``."""
    rows = read_rows(table, _READ)
    _shorten_metrics(rows)
    groups = group_rows(rows, lambda row: (row["layer"], row["matrix"], row["metric"]))
    hidden = () if any(row["matrix"] for row in rows) else ("matrix",)
    section = Section(
        title="Trends",
        columns=_COLUMNS,
        rows=tuple(_summarise(key, members) for key, members in groups),
        footnotes=_build_footnotes(rows),
    )
    sections = (section, _build_rows(rows)) if verbose else (section,)
    return tuple(section.without_columns(hidden) for section in sections)


def _shorten_metrics(rows: Sequence[Record]) -> None:
    """Drop the quantizer from ``flip_fraction[e4m3:tensor:amax]`` where it is the only one."""
    quantizers = {row["metric"].partition("[")[2] for row in rows} - {""}
    if len(quantizers) == 1:
        for row in rows:
            row["metric"] = row["metric"].partition("[")[0]


def _summarise(key: tuple[str, int, str], rows: Sequence[Record]) -> Row:
    last = rows[-1]
    values = tuple(row["value"] for row in rows)
    numbers = ("baseline", "ema", "drop_fraction", "threshold", "state")
    return (*key, *(last[name] for name in numbers), values)


def _build_rows(rows: Sequence[Record]) -> Section:
    shown = (
        *("layer", "matrix", "metric", "step", "value", "baseline", "ema", "drop_fraction"),
        *("threshold", "state"),
    )
    ordered = sorted(rows, key=lambda row: natural_key(row["layer"]))
    return Section(
        title="Trends per checkpoint",
        columns=_ROW_COLUMNS,
        rows=tuple(tuple(row[name] for name in shown) for row in ordered),
    )


def _build_footnotes(rows: Sequence[Record]) -> tuple[str, ...]:
    notes = []
    if any(row["state"] == "insufficient" for row in rows):
        notes.append("insufficient: fewer than 4 values, so there is no trend to judge")
    if any(row["value"] is None for row in rows):
        notes.append("a value that its table leaves undefined is a gap in the trend")
    return tuple(notes)
