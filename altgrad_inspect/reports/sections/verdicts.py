"""Verdicts, one row a layer, worst first."""

from typing import Final

import pyarrow as pa

from altgrad_inspect.records import Severity, Verdict
from altgrad_inspect.reports.model import ALWAYS, Column, Kind, Section
from altgrad_inspect.reports.sections.rows import natural_key, read_rows

_READ: Final = ("layer", "verdict", "severity", "step_onset")
_ORDER: Final = tuple(str(verdict) for verdict in Verdict)

_NO_FAULT: Final = frozenset({Verdict.HEALTHY, Verdict.UNDECIDED})

_COLUMNS: Final = (
    Column(title="layer", kind=Kind.TEXT, weight=ALWAYS),
    Column(title="verdict", kind=Kind.WORD, weight=ALWAYS),
    Column(title="severity", kind=Kind.LOOK, weight=80),
    Column(title="since", kind=Kind.STEP, weight=90),
)


def build_verdicts_section(table: pa.Table) -> Section:
    """List the layers with their verdicts: worst severity first, then natural order."""
    rows = read_rows(table, _READ)
    rows.sort(
        key=lambda row: (
            -Severity(row["severity"]).rank,
            _ORDER.index(row["verdict"]),
            natural_key(row["layer"]),
        )
    )
    for row in rows:
        if row["verdict"] in _NO_FAULT:
            row["severity"] = None
    return Section(
        title="Verdicts",
        columns=_COLUMNS,
        rows=tuple(tuple(row[name] for name in _READ) for row in rows),
        footnotes=("verdicts.parquet has the evidence of each",) if rows else (),
    )
