"""Ranks, one row a matrix: where they started, where they are, and the way between."""

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from altgrad_inspect.reports.model import ALWAYS, Column, Kind, Number, Row, Section
from altgrad_inspect.reports.sections.rows import (
    Record,
    find_status_notes,
    group_rows,
    natural_key,
    read_rows,
)

_READ: Final = (
    *("layer", "matrix", "subject", "step", "rows", "cols", "stable_rank", "effective_rank"),
    *("spectral_norm", "outlier_share", "method", "status", "reason"),
)

_COLUMNS: Final = (
    Column(title="layer", kind=Kind.TEXT, weight=ALWAYS),
    Column(title="matrix", kind=Kind.STEP, weight=ALWAYS),
    Column(title="of", kind=Kind.WORD, weight=ALWAYS),
    Column(title="stable", kind=Kind.PAIR, weight=ALWAYS),
    Column(title="change", kind=Kind.CHANGE, weight=70),
    Column(title="history", kind=Kind.SERIES, weight=60),
    Column(title="effective", kind=Kind.PAIR, weight=80),
    Column(title="change", kind=Kind.CHANGE, weight=65),
    Column(title="history", kind=Kind.SERIES, weight=30),
    Column(title="method", kind=Kind.WORD, weight=20),
)

_ROW_COLUMNS: Final = (
    Column(title="layer", kind=Kind.TEXT, weight=ALWAYS),
    Column(title="matrix", kind=Kind.STEP, weight=30),
    Column(title="of", kind=Kind.WORD, weight=25),
    Column(title="step", kind=Kind.STEP, weight=ALWAYS),
    Column(title="rows", kind=Kind.COUNT, weight=35),
    Column(title="cols", kind=Kind.COUNT, weight=35),
    Column(title="stable", kind=Kind.REAL, weight=ALWAYS),
    Column(title="effective", kind=Kind.REAL, weight=ALWAYS),
    Column(title="norm", kind=Kind.REAL, weight=50),
    Column(title="outlier", kind=Kind.PERCENT, weight=45),
    Column(title="method", kind=Kind.WORD, weight=20),
    Column(title="status", kind=Kind.LOOK, weight=40),
)


def build_ranks_sections(table: pa.Table, *, verbose: bool) -> tuple[Section, ...]:
    """Summarise ``ranks`` per matrix; every row as well if ``verbose``."""
    rows = read_rows(table, _READ)
    groups = group_rows(rows, lambda row: (row["layer"], row["matrix"], row["subject"]))
    section = Section(
        title="Stable and effective rank per layer",
        columns=_COLUMNS,
        rows=tuple(_summarise(key, members) for key, members in groups),
        footnotes=find_status_notes(rows),
    )
    sections = (section, _build_rows(rows)) if verbose else (section,)
    return tuple(section.without_columns(_find_constant(rows)) for section in sections)


def _find_constant(rows: Sequence[Record]) -> tuple[str, ...]:
    """Return the titles of columns that would say the same in every row."""
    matrix = () if any(row["matrix"] for row in rows) else ("matrix",)
    subject = () if any(row["subject"] != "weight" for row in rows) else ("of",)
    return (*matrix, *subject)


def _summarise(key: tuple[str, int, str], rows: Sequence[Record]) -> Row:
    stable = tuple(row["stable_rank"] for row in rows)
    effective = tuple(row["effective_rank"] for row in rows)
    methods = sorted({row["method"] for row in rows if row["method"]})
    return (
        *key,
        _find_ends(stable),
        _find_change(stable),
        stable,
        _find_ends(effective),
        _find_change(effective),
        effective,
        "+".join(methods) or None,
    )


def _find_ends(series: Sequence[Number | None]) -> tuple[Number | None, ...]:
    """Return the first and last value, undefined ones included; one value stays one."""
    return tuple(series) if len(series) == 1 else (series[0], series[-1])


def _find_change(series: Sequence[Number | None]) -> float | None:
    first, last = series[0], series[-1]
    if len(series) < 2 or first is None or last is None:
        return None
    return last / first - 1


def _build_rows(rows: Sequence[Record]) -> Section:
    shown = (
        *("layer", "matrix", "subject", "step", "rows", "cols", "stable_rank"),
        *("effective_rank", "spectral_norm", "outlier_share", "method", "status"),
    )
    ordered = sorted(rows, key=lambda row: natural_key(row["layer"]))
    return Section(
        title="Stable and effective rank per checkpoint",
        columns=_ROW_COLUMNS,
        rows=tuple(tuple(row[name] for name in shown) for row in ordered),
    )
