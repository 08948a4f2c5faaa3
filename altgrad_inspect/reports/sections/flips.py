"""Flips, one row a layer (and quantizer): what happened over the transitions."""

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from altgrad_inspect.reports.model import ALWAYS, Column, Kind, Row, Section
from altgrad_inspect.reports.sections.rows import (
    Record,
    find_median,
    find_share,
    find_status_notes,
    group_rows,
    natural_key,
    read_rows,
)

_READ: Final = (
    *("layer", "quantizer", "step_from", "step_to", "num_flipped", "flip_fraction"),
    *("stall_fraction", "recode_fraction", "flip_excess", "num_reverted", "num_saturated"),
    *("relative_update", "status", "reason"),
)

_NO_UPDATE: Final = "where no weight was updated"
_FEW_EXPECTED: Final = "below 30 expected flips, and where only the codes are stored"
_NO_FLIP: Final = "where nothing flipped, and in the first transition"

_COLUMNS: Final = (
    Column(title="layer", kind=Kind.TEXT, weight=ALWAYS),
    Column(title="quantizer", kind=Kind.WORD, weight=ALWAYS),
    Column(title="flipped", kind=Kind.PERCENT, weight=ALWAYS),
    Column(title="last", kind=Kind.PERCENT, weight=80),
    Column(title="stalled", kind=Kind.PERCENT, weight=60, why_undefined=_NO_UPDATE),
    Column(title="recoded", kind=Kind.PERCENT, weight=40),
    Column(title="excess", kind=Kind.REAL, weight=50, why_undefined=_FEW_EXPECTED),
    Column(title="reverted", kind=Kind.PERCENT, weight=70, why_undefined=_NO_FLIP),
    Column(title="history", kind=Kind.SERIES, weight=75),
)

_ROW_COLUMNS: Final = (
    Column(title="layer", kind=Kind.TEXT, weight=ALWAYS),
    Column(title="quantizer", kind=Kind.WORD, weight=30),
    Column(title="from", kind=Kind.STEP, weight=ALWAYS),
    Column(title="to", kind=Kind.STEP, weight=ALWAYS),
    Column(title="flips", kind=Kind.COUNT, weight=80),
    Column(title="flipped", kind=Kind.PERCENT, weight=ALWAYS),
    Column(title="stalled", kind=Kind.PERCENT, weight=60, why_undefined=_NO_UPDATE),
    Column(title="recoded", kind=Kind.PERCENT, weight=40),
    Column(title="excess", kind=Kind.REAL, weight=50, why_undefined=_FEW_EXPECTED),
    Column(title="reverted", kind=Kind.PERCENT, weight=70, why_undefined=_NO_FLIP),
    Column(title="saturated", kind=Kind.COUNT, weight=10),
    Column(title="update/weight", kind=Kind.REAL, weight=20),
    Column(title="status", kind=Kind.LOOK, weight=35),
)


def build_flips_sections(table: pa.Table, *, verbose: bool) -> tuple[Section, ...]:
    """Summarise ``flips`` per layer; every row as well if ``verbose``."""
    rows = read_rows(table, _READ)
    for row in rows:
        row["reverted"] = find_share(row["num_reverted"], row["num_flipped"])
    hidden = () if len({row["quantizer"] for row in rows}) > 1 else ("quantizer",)
    groups = group_rows(rows, lambda row: (row["layer"], row["quantizer"]))
    medians = ("medians over the transitions; last is the newest one",) if rows else ()
    section = Section(
        title="Flips per layer",
        columns=_COLUMNS,
        rows=tuple(_summarise(key, members) for key, members in groups),
        footnotes=(*medians, *find_status_notes(rows)),
    )
    sections = (section, _build_rows(rows)) if verbose else (section,)
    return tuple(section.without_columns(hidden) for section in sections)


def _summarise(key: tuple[str, str], rows: Sequence[Record]) -> Row:
    fractions = tuple(row["flip_fraction"] for row in rows)
    return (
        *key,
        find_median(fractions),
        fractions[-1],
        find_median(row["stall_fraction"] for row in rows),
        find_median(row["recode_fraction"] for row in rows),
        find_median(row["flip_excess"] for row in rows),
        find_median(row["reverted"] for row in rows),
        fractions,
    )


def _build_rows(rows: Sequence[Record]) -> Section:
    shown = (
        *("layer", "quantizer", "step_from", "step_to", "num_flipped", "flip_fraction"),
        *("stall_fraction", "recode_fraction", "flip_excess", "reverted", "num_saturated"),
        *("relative_update", "status"),
    )
    ordered = sorted(rows, key=lambda row: natural_key(row["layer"]))
    return Section(
        title="Flips per transition",
        columns=_ROW_COLUMNS,
        rows=tuple(tuple(row[name] for name in shown) for row in ordered),
    )
