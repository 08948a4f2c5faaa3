"""Two runs side by side: totals first, then the layers that differ most."""

import math
from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from altgrad_inspect.reports.model import ALWAYS, Column, Fact, Kind, Row, Section, Value
from altgrad_inspect.reports.sections.rows import Record, natural_key

_SIDES: Final = ("a", "b")
_MOST_SHOWN: Final = 25
"""Layers shown without ``-v``."""

_NUMBERS: Final = ("stable_rank", "effective_rank", "flip_fraction", "stall_fraction")

_COLUMNS: Final = (
    Column(title="layer", kind=Kind.TEXT, weight=ALWAYS),
    Column(title="matrix", kind=Kind.STEP, weight=ALWAYS),
    Column(title="stable", kind=Kind.PAIR, weight=90),
    Column(title="B/A-1", kind=Kind.CHANGE, weight=50),
    Column(title="effective", kind=Kind.PAIR, weight=75),
    Column(title="flipped A", kind=Kind.PERCENT, weight=60),
    Column(title="flipped B", kind=Kind.PERCENT, weight=60),
    Column(title="stalled A", kind=Kind.PERCENT, weight=40),
    Column(title="stalled B", kind=Kind.PERCENT, weight=40),
    Column(title="verdict A", kind=Kind.WORD, weight=85),
    Column(title="verdict B", kind=Kind.WORD, weight=85),
    Column(title="alerts A", kind=Kind.COUNT, weight=70),
    Column(title="alerts B", kind=Kind.COUNT, weight=70),
)

_TOTAL_COLUMNS: Final = (
    Column(title="measure", kind=Kind.WORD, weight=ALWAYS),
    Column(title="A", kind=Kind.REAL, weight=ALWAYS),
    Column(title="B", kind=Kind.REAL, weight=ALWAYS),
    Column(title="B/A-1", kind=Kind.CHANGE, weight=60),
)

_FIRST: Final = ("num_layers", "num_critical", "num_warning", "num_info")
_WORDS: Final = {
    "num_layers": "layers",
    "num_critical": "critical alerts",
    "num_warning": "warnings",
    "num_info": "infos",
}


def build_compare_facts(settings: Mapping[str, object], totals: pa.Table) -> tuple[Fact, ...]:
    """Say what A and B are, and which of them has more to worry about."""
    named = [(side.upper(), settings.get(side)) for side in _SIDES]
    facts = [
        Fact(label=name, text=f"{side['path']} (run {side['run']})")
        for name, side in named
        if isinstance(side, dict)
    ]
    counts = {row["measure"]: (row["a"], row["b"]) for row in totals.to_pylist()}
    for measure in ("num_critical", "num_warning"):
        a, b = counts.get(measure, (None, None))
        if a is not None and b is not None and a != b:
            more, less = ("A", "B") if a > b else ("B", "A")
            text = (
                f"{more} has more {_WORDS[measure]} than {less}: {max(a, b):g}, not {min(a, b):g}"
            )
            facts.append(Fact(label="worse", text=text))
            break
    return tuple(facts)


def build_compare_sections(tables: Mapping[str, pa.Table], *, verbose: bool) -> tuple[Section, ...]:
    """List the totals, the layers of both runs, and those that only one of them has.

    Without ``verbose`` only the layers that differ most are shown: those with another verdict
    first, then by their ranks.
    """
    rows = tables["compare"].to_pylist()
    rows.sort(key=lambda row: (natural_key(row["layer"]), row["matrix"]))
    both = [row for row in rows if row["present"] == "both"]
    hidden = {column.title for column in _COLUMNS if _is_empty(column.title, both)}
    sections = [_build_totals(tables["compare_totals"])]
    different = sorted((row for row in both if not _is_same(row)), key=_difference, reverse=True)
    shown = both if verbose else different[:_MOST_SHOWN]
    left_out = 0 if verbose else len(different) - len(shown)
    more = (f"and {left_out:,} more that differ less: -v shows them",) if left_out else ()
    title = "Layers of both runs, A → B"
    section = Section(
        title=title if verbose else f"{title}, most different first",
        columns=_COLUMNS,
        rows=tuple(_build_row(row) for row in shown),
        footnotes=(*more, *_note_same(both)),
    )
    sections.append(section.without_columns(hidden))
    alone = tuple(
        (row["layer"], f"only {row['present'].upper()}") for row in rows if row not in both
    )
    if alone:
        columns = (
            Column(title="layer", kind=Kind.TEXT, weight=ALWAYS),
            Column(title="in", kind=Kind.WORD, weight=ALWAYS),
        )
        only = Section(title="Layers of one run", columns=columns, rows=tuple(dict.fromkeys(alone)))
        sections.append(only)
    return tuple(sections)


def _build_totals(table: pa.Table) -> Section:
    rows = table.to_pylist()
    rows.sort(key=lambda row: _total_order(row["measure"]))
    return Section(
        title="Totals",
        columns=_TOTAL_COLUMNS,
        rows=tuple(
            (
                _WORDS.get(row["measure"], row["measure"].replace("_", " ")),
                row["a"],
                row["b"],
                _find_change(row["a"], row["b"]),
            )
            for row in rows
        ),
        footnotes=("ranks and verdicts are those at the end, flips medians over the run",),
    )


def _total_order(measure: str) -> tuple[int, str]:
    if measure in _FIRST:
        return _FIRST.index(measure), ""
    return len(_FIRST) + measure.startswith("median"), measure


def _build_row(row: Record) -> Row:
    cells: list[Value] = [row["layer"], row["matrix"]]
    cells.append(_pair(row, "stable_rank"))
    cells.append(_find_change(row["stable_rank_a"], row["stable_rank_b"]))
    cells.append(_pair(row, "effective_rank"))
    for name in ("flip_fraction", "stall_fraction", "verdict"):
        cells += [row[f"{name}_{side}"] for side in _SIDES]
    return (*cells, *(_count_alerts(row, side) for side in _SIDES))


def _pair(row: Record, name: str) -> Value:
    a, b = row[f"{name}_a"], row[f"{name}_b"]
    return None if a is None and b is None else (a, b)


def _count_alerts(row: Record, side: str) -> int | None:
    critical, warning = row[f"num_critical_{side}"], row[f"num_warning_{side}"]
    return None if critical is None or warning is None else critical + warning


def _find_change(a: float | None, b: float | None) -> float | None:
    return None if not a or b is None else b / a - 1


def _is_same(row: Record) -> bool:
    names = (*_NUMBERS, "verdict", "num_critical", "num_warning")
    return all(row[f"{name}_a"] == row[f"{name}_b"] for name in names)


def _difference(row: Record) -> tuple[bool, float]:
    """Sort key: another verdict, then the larger change of the logarithm of a rank."""
    changes = [
        abs(math.log(row[f"{name}_b"] / row[f"{name}_a"]))
        for name in ("stable_rank", "effective_rank")
        if row[f"{name}_a"] and row[f"{name}_b"]
    ]
    return row["verdict_a"] != row["verdict_b"], max(changes, default=0.0)


def _note_same(rows: list[Record]) -> tuple[str, ...]:
    same = sum(map(_is_same, rows))
    return (f"{same:,} of {len(rows):,} rows are the same in both runs",) if same else ()


def _is_empty(title: str, rows: list[Record]) -> bool:
    """Whether a column would say nothing about any of the rows."""
    if title == "matrix":
        return not any(row["matrix"] for row in rows)
    stem, _, side = title.rpartition(" ")
    if stem == "verdict":
        return all(row[f"verdict_{side.lower()}"] is None for row in rows)
    if stem == "alerts":
        return all(row[f"num_critical_{side.lower()}"] is None for row in rows)
    return False
