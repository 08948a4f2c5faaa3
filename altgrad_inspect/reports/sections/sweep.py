"""One run in many formats: which of them would stall it, and where."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from altgrad_inspect.reports.model import ALWAYS, Column, Fact, Kind, Section
from altgrad_inspect.reports.sections.rows import Record, find_status_notes, natural_key, read_rows

_COLUMNS: Final = (
    Column(title="format", kind=Kind.WORD, weight=ALWAYS),
    Column(title="stalling", kind=Kind.COUNT, weight=ALWAYS),
    Column(title="layers", kind=Kind.COUNT, weight=65),
    Column(title="flipped", kind=Kind.PERCENT, weight=90),
    Column(title="last", kind=Kind.PERCENT, weight=80),
    Column(title="stalled", kind=Kind.PERCENT, weight=70),
    Column(title="underflowed", kind=Kind.PERCENT, weight=60),
    Column(title="saturated", kind=Kind.PERCENT, weight=50),
)

_LAYER_COLUMNS: Final = (
    Column(title="layer", kind=Kind.TEXT, weight=ALWAYS),
    Column(title="format", kind=Kind.WORD, weight=ALWAYS),
    Column(title="stalling", kind=Kind.WORD, weight=90),
    Column(title="flipped", kind=Kind.PERCENT, weight=80),
    Column(title="last", kind=Kind.PERCENT, weight=85),
    Column(title="updated", kind=Kind.PERCENT, weight=40),
    Column(title="stalled", kind=Kind.PERCENT, weight=70),
    Column(title="underflowed", kind=Kind.PERCENT, weight=60),
    Column(title="saturated", kind=Kind.PERCENT, weight=50),
)

_STALLING: Final = (
    "stalling: layers in which at least 1% of the weights are updated in each of the last "
    "3 transitions while fewer than 0.01% change their code"
)
_SHARES: Final = (
    "flipped and stalled are medians over transitions and layers; last, underflowed and "
    "saturated are of all weights at the end of the run"
)


def build_sweep_facts(tables: Mapping[str, pa.Table]) -> tuple[Fact, ...]:
    """Answer which formats would stall the run, and which layers stall whatever the format."""
    rows = [row for row in tables["sweep"].to_pylist() if row["num_layers"]]
    names = _name_formats(rows)
    by_number: dict[int, list[str]] = {}
    for row in sorted(rows, key=_badness):
        if row["num_stalling"]:
            by_number.setdefault(row["num_stalling"], []).append(names[row["quantizer"]])
    said = [f"{', '.join(found)} in {number:,}" for number, found in by_number.items()]
    layers = f" of {max(row['num_layers'] for row in rows):,} layers" if rows else ""
    shared = _find_scale({row["quantizer"] for row in rows})
    facts = [Fact(label="scales", text=shared)] if shared else []
    facts.append(Fact(label="would stall", text=f"{'; '.join(said)}{layers}" if said else "none"))
    everywhere = _find_everywhere(tables, len(rows))
    if everywhere:
        facts.append(Fact(label="in every format", text=", ".join(everywhere)))
    return tuple(facts)


def _find_everywhere(tables: Mapping[str, pa.Table], num_formats: int) -> list[str]:
    """Return the layers that stall in all of several formats, which is no format's fault."""
    if "sweep_layers" not in tables or num_formats < 2:
        return []
    rows = read_rows(tables["sweep_layers"], ("layer", "is_stalling"))
    counts = Counter(row["layer"] for row in rows if row["is_stalling"])
    return sorted((name for name, n in counts.items() if n == num_formats), key=natural_key)


def build_sweep_sections(tables: Mapping[str, pa.Table], *, verbose: bool) -> tuple[Section, ...]:
    """List the formats, those that stall most layers first, and the layers that stall."""
    rows = tables["sweep"].to_pylist()
    rows.sort(key=_badness)
    names = _name_formats(rows)
    section = Section(
        title="Formats, the most stalling first",
        columns=_COLUMNS,
        rows=tuple(
            (
                names[row["quantizer"]],
                *(row[name] for name in ("num_stalling", "num_layers", "flip_fraction_median")),
                *(row[name] for name in ("flip_fraction_last", "stall_fraction_median")),
                *(row[name] for name in ("underflowed_fraction_last", "saturated_fraction_last")),
            )
            for row in rows
        ),
        footnotes=(_STALLING, _SHARES, *find_status_notes([{**row, "layer": "-"} for row in rows])),
    )
    if "sweep_layers" not in tables:
        return (section,)
    layers = tables["sweep_layers"].to_pylist()
    layers.sort(key=lambda row: (natural_key(row["layer"]), row["quantizer"]))
    return (section, *_build_layers(layers, names, verbose=verbose))


def _build_layers(
    rows: Sequence[Record], names: Mapping[str, str], *, verbose: bool
) -> tuple[Section, ...]:
    stalling: dict[str, list[str]] = {}
    for row in rows:
        if row["is_stalling"]:
            stalling.setdefault(row["layer"], []).append(names[row["quantizer"]])
    columns = (
        Column(title="layer", kind=Kind.TEXT, weight=ALWAYS),
        Column(title="formats", kind=Kind.COUNT, weight=90),
        Column(title="which", kind=Kind.TEXT, weight=ALWAYS),
    )
    summary = Section(
        title="Layers that would stall",
        columns=columns,
        rows=tuple((layer, len(found), ", ".join(found)) for layer, found in stalling.items()),
        footnotes=find_status_notes(rows),
    )
    if not verbose:
        return (summary,)
    return (summary, _build_every(rows, names))


def _build_every(rows: Sequence[Record], names: Mapping[str, str]) -> Section:
    numbers = (
        *("flip_fraction_median", "flip_fraction_last", "updated_fraction_last"),
        *("stall_fraction_median", "underflowed_fraction_last", "saturated_fraction_last"),
    )
    words = {True: "yes", False: "no", None: None}
    return Section(
        title="Layers in every format",
        columns=_LAYER_COLUMNS,
        rows=tuple(
            (
                row["layer"],
                names[row["quantizer"]],
                words[row["is_stalling"]],
                *(row[name] for name in numbers),
            )
            for row in rows
        ),
    )


def _badness(row: dict[str, Any]) -> tuple[int, float, str]:
    last = row["flip_fraction_last"]
    return -row["num_stalling"], 2.0 if last is None else last, row["quantizer"]


def _name_formats(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return quantizer -> ``e0m7 = e1m6``, without the scale where all have the same one."""
    every = {name for row in rows for name in (row["quantizer"], *row["same_as"])}
    tail = f":{_find_scale(every)}" if _find_scale(every) else ""
    return {
        row["quantizer"]: " = ".join(
            name.removesuffix(tail) for name in (row["quantizer"], *row["same_as"])
        )
        for row in rows
    }


def _find_scale(quantizers: set[str]) -> str:
    """Return what stands behind the format, if it is the same in all of them."""
    tails = {name.partition(":")[2] for name in quantizers}
    return tails.pop() if len(tails) == 1 else ""
