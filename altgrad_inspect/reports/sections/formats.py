"""The catalogues of number formats, recipes and storage schemes as reports. No pyarrow."""

from collections.abc import Mapping, Sequence
from typing import Final

from altgrad_inspect.quantize.recipes.caveats import CAVEATS
from altgrad_inspect.reports.model import ALWAYS, Column, Kind, Report, Section, Value

Rows = Sequence[Mapping[str, Value]]

_FORMATS: Final = {
    "name": Column(title="name", kind=Kind.WORD, weight=ALWAYS),
    "bits": Column(title="bits", kind=Kind.COUNT, weight=ALWAYS),
    "exponent_bits": Column(title="E", kind=Kind.COUNT, weight=90),
    "mantissa_bits": Column(title="M", kind=Kind.COUNT, weight=90),
    "bias": Column(title="bias", kind=Kind.COUNT, weight=80),
    "max": Column(title="max", kind=Kind.EXACT, weight=ALWAYS),
    "smallest": Column(title="smallest", kind=Kind.EXACT, weight=85),
    "specials": Column(title="specials", kind=Kind.WORD, weight=60),
    "source": Column(title="source", kind=Kind.TEXT, weight=50),
}
_RECIPES: Final = {
    "name": Column(title="name", kind=Kind.WORD, weight=ALWAYS),
    "format": Column(title="format", kind=Kind.WORD, weight=ALWAYS),
    "granularity": Column(title="granularity", kind=Kind.WORD, weight=ALWAYS),
    "rule": Column(title="scale", kind=Kind.WORD, weight=90),
    "summary": Column(title="what it does", kind=Kind.TEXT, weight=60),
    "source": Column(title="source", kind=Kind.TEXT, weight=50),
}
_SCHEMES: Final = {
    "name": Column(title="name", kind=Kind.WORD, weight=ALWAYS),
    "summary": Column(title="what is stored", kind=Kind.TEXT, weight=ALWAYS),
    "source": Column(title="source", kind=Kind.TEXT, weight=50),
}
_LONG: Final = {
    "summary": "what it does",
    "edges": "a block that the edge of the layer cuts short",
    "source": "source",
}
_APPROXIMATE: Final = (
    "approximate: what the stack does cannot be told from the weights of checkpoints alone"
)


def build_formats_report(found: Mapping[str, Rows]) -> Report:
    """List everything; ``found`` has the rows of ``formats``, ``recipes`` and ``schemes``."""
    formats = _build_section(
        "Number formats",
        *(_FORMATS, found["formats"]),
        "smallest: above zero; specials: which codes are not finite numbers",
        "any other split is understood as well, e.g. e4m11: no specials, bias 2**(E-1) - 1",
    )
    recipes = _build_section(
        "Recipes, for --quant",
        *(_RECIPES, found["recipes"]),
        "formats NAME shows one of them in full; docs/formats.md has them all",
        *CAVEATS,
    )
    schemes = _build_section(
        "Storage schemes",
        *(_SCHEMES, found["schemes"]),
        "ls shows which of them a checkpoint has",
    )
    return Report(title="formats", run="", sections=(formats, recipes, schemes))


def _build_section(
    title: str, columns: Mapping[str, Column], rows: Rows, *footnotes: str
) -> Section:
    return Section(
        title=title,
        columns=tuple(columns.values()),
        rows=tuple(tuple(row[name] for name in columns) for row in rows),
        footnotes=footnotes,
    )


def build_details_report(rows: Rows) -> Report:
    """Show every fact of each row, the long ones beneath; the key ``kind`` says what it is."""
    sections = tuple(
        Section(
            title=f"{str(row['kind']).capitalize()} {row['name']}",
            columns=(
                Column(title="fact", kind=Kind.WORD, weight=ALWAYS),
                Column(title="value", kind=Kind.WORD, weight=ALWAYS),
            ),
            rows=tuple(
                (name.replace("_", " "), _write(value))
                for name, value in row.items()
                if name not in {"kind", "is_approximate", *_LONG} and value is not None
            ),
            footnotes=(
                *(f"{title}: {row[name]}" for name, title in _LONG.items() if row.get(name)),
                *((_APPROXIMATE,) if row.get("is_approximate") else ()),
                *(CAVEATS if row["kind"] == "recipe" else ()),
            ),
        )
        for row in rows
    )
    return Report(title="formats", run="", sections=sections)


def _write(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
