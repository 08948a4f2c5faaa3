"""Two checkpoints: what changed in each layer, and which layers differ in structure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import pyarrow as pa

from altgrad_inspect.records import Status
from altgrad_inspect.reports.model import ALWAYS, Column, Fact, Kind, Row, Section, Value
from altgrad_inspect.reports.sections.rows import Record, find_share, find_status_notes, read_rows

_MOST_SHOWN: Final = 25
"""Changed layers shown without ``-v``; they come largest update first."""

_VALUES: Final = frozenset({"changed", "identical"})
"""Changes that leave the structure of a layer as it is."""

_NO_RANK: Final = "for vectors, stacks of matrices, and where the notes below say so"

_COLUMNS: Final = (
    Column(title="layer", kind=Kind.TEXT, weight=ALWAYS),
    Column(title="quantizer", kind=Kind.WORD, weight=ALWAYS),
    Column(title="update/weight", kind=Kind.REAL, weight=90),
    Column(title="updated", kind=Kind.PERCENT, weight=60),
    Column(title="flipped", kind=Kind.PERCENT, weight=80),
    Column(title="stalled", kind=Kind.PERCENT, weight=50),
    Column(title="recoded", kind=Kind.PERCENT, weight=30),
    Column(title="stable", kind=Kind.PAIR, weight=75, why_undefined=_NO_RANK),
    Column(title="change", kind=Kind.CHANGE, weight=40),
    Column(title="effective", kind=Kind.PAIR, weight=70),
    Column(title="change", kind=Kind.CHANGE, weight=35),
    Column(title="update's stable", kind=Kind.REAL, weight=20),
)

_STRUCTURE_COLUMNS: Final = (
    Column(title="layer", kind=Kind.TEXT, weight=ALWAYS),
    Column(title="change", kind=Kind.WORD, weight=ALWAYS),
    Column(title="dtype", kind=Kind.WORD, weight=80),
    Column(title="shape of A", kind=Kind.SHAPE, weight=70),
    Column(title="shape of B", kind=Kind.SHAPE, weight=70),
    Column(title="update/weight", kind=Kind.REAL, weight=60),
)


def build_diff_facts(settings: Mapping[str, object], table: pa.Table) -> tuple[Fact, ...]:
    """Say what A and B are, and how many layers are identical, changed, added, and so on."""
    changes = {row["layer"]: row["change"] for row in read_rows(table, ("layer", "change"))}
    counts = Counter(changes.values())
    named = [(side.upper(), settings.get(side)) for side in ("a", "b")]
    sides = tuple(
        Fact(label=name, text=f"{side['path']}, called step {side['step']}")
        for name, side in named
        if isinstance(side, dict)
    )
    summary = ", ".join(f"{number:,} {change}" for change, number in counts.items())
    return (*sides, Fact(label="layers", text=summary or "none"))


def build_diff_sections(table: pa.Table, *, verbose: bool) -> tuple[Section, ...]:
    """List differences of structure, then changed layers, all of them only if ``verbose``.

    Identical layers are counted by `build_diff_facts`.
    """
    rows = table.to_pylist()
    structure = [row for row in rows if row["change"] not in _VALUES]
    changed = [row for row in rows if row["change"] == "changed"]
    sections = [_build_structure(structure)] if structure else []
    shown = changed if verbose else changed[:_MOST_SHOWN]
    left_out = len(changed) - len(shown)
    more = (f"and {left_out:,} more with smaller updates: -v shows them",) if left_out else ()
    hidden = () if len({row["quantizer"] for row in changed}) > 1 else ("quantizer",)
    section = Section(
        title="Changed layers, largest update first",
        columns=_COLUMNS,
        rows=tuple(_build_row(row) for row in shown),
        footnotes=(*more, *find_status_notes(changed)),
    )
    return (*sections, section.without_columns(hidden))


def _build_row(row: Record) -> Row:
    cells: list[Value] = [
        row["layer"],
        row["quantizer"],
        row["relative_update"],
        find_share(row["num_updated"], row["num_weights"]),
        *(row[name] for name in ("flip_fraction", "stall_fraction", "recode_fraction")),
    ]
    for name in ("stable_rank", "effective_rank"):
        a, b = row[f"{name}_a"], row[f"{name}_b"]
        cells.append(None if a is None and b is None else (a, b))
        cells.append(None if a is None or b is None else b / a - 1)
    return (*cells, row["update_stable_rank"])


def _build_structure(rows: Sequence[Record]) -> Section:
    return Section(
        title="Layers that differ in structure",
        columns=_STRUCTURE_COLUMNS,
        rows=tuple(
            (
                row["layer"],
                row["change"],
                _join(row["dtype_a"], row["dtype_b"]),
                _as_shape(row["shape_a"]),
                _as_shape(row["shape_b"]),
                row["relative_update"],
            )
            for row in rows
        ),
        footnotes=find_status_notes([row for row in rows if row["status"] != Status.OK]),
    )


def _join(a: str | None, b: str | None) -> str | None:
    both = list(dict.fromkeys(one for one in (a, b) if one is not None))
    return " → ".join(both) or None


def _as_shape(sizes: list[int] | None) -> tuple[int, ...] | None:
    return None if sizes is None else tuple(sizes)
