"""The catalogue of number formats as a report. No pyarrow."""

from collections.abc import Mapping, Sequence
from typing import Final

from altgrad_inspect.reports.model import ALWAYS, Column, Kind, Report, Section, Value

_COLUMNS: Final = {
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


def build_formats_report(rows: Sequence[Mapping[str, Value]]) -> Report:
    """List formats; ``rows`` are keyed like `_COLUMNS`."""
    section = Section(
        title="Number formats",
        columns=tuple(_COLUMNS.values()),
        rows=tuple(tuple(row[name] for name in _COLUMNS) for row in rows),
        footnotes=(
            "smallest: above zero; specials: which codes are not finite numbers",
            "any other split is understood as well, e.g. e4m11: no specials, bias 2**(E-1) - 1",
        ),
    )
    return Report(title="formats", run="", sections=(section,))
