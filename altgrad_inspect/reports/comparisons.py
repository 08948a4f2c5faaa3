"""Reports that set things side by side: two checkpoints, two runs, one run in many formats."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from altgrad_inspect.records import Status
from altgrad_inspect.reports.model import Count, Fact, Report, Section
from altgrad_inspect.reports.sections.compare import build_compare_facts, build_compare_sections
from altgrad_inspect.reports.sections.diff import build_diff_facts, build_diff_sections
from altgrad_inspect.reports.sections.run import build_skipped_section
from altgrad_inspect.reports.sections.sweep import build_sweep_facts, build_sweep_sections
from altgrad_inspect.tables.results import Results

Parts = tuple[tuple[Fact, ...], tuple[Section, ...]]


def _build_diff(results: Results, verbose: bool) -> Parts:  # noqa: FBT001
    table = results.tables["diff"]
    facts = build_diff_facts(results.settings, table)
    return facts, build_diff_sections(table, verbose=verbose)


def _build_sweep(results: Results, verbose: bool) -> Parts:  # noqa: FBT001
    facts = build_sweep_facts(results.tables)
    return facts, build_sweep_sections(results.tables, verbose=verbose)


def _build_compare(results: Results, verbose: bool) -> Parts:  # noqa: FBT001
    facts = build_compare_facts(results.settings, results.tables["compare_totals"])
    return facts, build_compare_sections(results.tables, verbose=verbose)


COMPARISONS: Final[Mapping[str, Callable[[Results, bool], Parts]]] = MappingProxyType(
    {"diff": _build_diff, "sweep": _build_sweep, "compare": _build_compare}
)
"""Subject -> what builds the facts and the sections of its report."""


def build_comparison(results: Results, *, verbose: bool) -> Report:
    """Say for people what the tables of a comparison say.

    Args:
        results: Of one of the subjects of `COMPARISONS`.
        verbose: Show every row.
    """
    facts, sections = COMPARISONS[results.subject](results, verbose)
    skipped = results.skipped
    if results.subject == "sweep" and skipped is not None and skipped.num_rows:
        sections = (*sections, build_skipped_section(skipped, verbose=verbose))
    return Report(
        title=results.subject,
        run=results.run,
        facts=facts,
        notes=results.notes,
        counts=_count(results),
        sections=sections,
    )


def _count(results: Results) -> tuple[Count, ...]:
    """Count what is not ``ok`` in the main table, and the layers that a sweep left out."""
    table = results.to_arrow()
    statuses = table.column("status").to_pylist() if "status" in table.column_names else []
    counts = [
        Count(label=f"{status.value} rows", number=statuses.count(status.value), look=status.value)
        for status in (Status.UNDEFINED, Status.FAILED)
    ]
    if results.subject == "sweep" and results.skipped is not None:
        number = len(set(results.skipped.column("layer").to_pylist()))
        counts.append(Count(label="layers left out", number=number, look="skipped"))
    return tuple(count for count in counts if count.number)
