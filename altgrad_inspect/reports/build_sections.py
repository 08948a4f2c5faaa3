"""Which tables a report prints, and what builds the section of each."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

import pyarrow as pa

from altgrad_inspect.reports.model import Section
from altgrad_inspect.reports.sections.flips import build_flips_sections
from altgrad_inspect.reports.sections.ranks import build_ranks_sections
from altgrad_inspect.reports.sections.run import (
    build_checkpoints_section,
    build_layers_section,
    build_skipped_section,
)
from altgrad_inspect.reports.sections.trends import build_trends_sections
from altgrad_inspect.reports.sections.verdicts import build_verdicts_section
from altgrad_inspect.tables.results import Results

PRINTABLE: Final = ("verdicts", "flips", "ranks", "trends")
"""The tables that a report prints if it is asked to."""

_EVERY: Final[Mapping[str, Collection[str]]] = {
    "report": ("checkpoints", *PRINTABLE, "skipped"),
    "trends": ("checkpoints", "verdicts", "trends", "skipped"),
    "checkpoints": ("checkpoints", "layers"),
}
"""Subject -> what is printed if everything is asked for."""

_Build = Callable[[pa.Table], Iterable[Section]]


def build_sections(
    results: Results, *, shown: Collection[str] | None, verbose: bool
) -> tuple[Section, ...]:
    """Build the sections of a report, in a fixed order.

    Args:
        results: Any tables of one run.
        shown: Names of tables. None means all of the subject if ``verbose``; else the main
            table, which a report does not have.
        verbose: Every row, not one a layer.
    """
    tables, subject = results.tables, results.subject
    if shown is None:
        every = _EVERY.get(subject, ("checkpoints", subject, "skipped"))
        shown = every if verbose or subject == "checkpoints" else (subject,)
    builders: Mapping[str, _Build] = {
        "checkpoints": lambda table: [build_checkpoints_section(table)],
        "layers": lambda table: [build_layers_section(table)],
        "verdicts": lambda table: [build_verdicts_section(table)],
        "flips": lambda table: build_flips_sections(table, verbose=verbose),
        "ranks": lambda table: build_ranks_sections(table, verbose=verbose),
        "trends": lambda table: build_trends_sections(table, verbose=verbose),
        "skipped": lambda table: _build_skipped(table, verbose=verbose),
    }
    chosen = [name for name in builders if name in shown and name in tables]
    return tuple(section for name in chosen for section in builders[name](tables[name]))


def _build_skipped(table: pa.Table, *, verbose: bool) -> list[Section]:
    return [build_skipped_section(table, verbose=verbose)] if table.num_rows else []
