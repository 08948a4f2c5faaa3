"""Results to report: the facts, the counts, the layers to look at, the sections."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from altgrad_inspect.records import Status
from altgrad_inspect.reports.attention import build_attention
from altgrad_inspect.reports.cells import render_bytes
from altgrad_inspect.reports.model import Count, Fact, Report, Section
from altgrad_inspect.reports.sections.flips import build_flips_sections
from altgrad_inspect.reports.sections.ranks import build_ranks_sections
from altgrad_inspect.reports.sections.run import (
    build_absent_sections,
    build_checkpoints_section,
    build_layers_section,
    build_skipped_section,
)
from altgrad_inspect.reports.sections.trends import build_trends_sections
from altgrad_inspect.tables.results import Results

Tables = Mapping[str, pa.Table]

TITLES: Mapping[str, str] = {"ranks": "rank", "trends": "trend", "checkpoints": "ls"}
"""What the report of a subject is called, where that is not the subject itself."""


def build_report(results: Results, *, verbose: bool = False) -> Report:
    """Say for people what the tables of ``results`` say.

    Args:
        results: Any tables of one run; a section is built for each that is there.
        verbose: Show every row and the alerts of severity ``info``, not only the summary.
    """
    tables = results.tables
    return Report(
        title=TITLES.get(results.subject, results.subject),
        run=results.run,
        facts=_build_facts(results),
        notes=results.notes,
        counts=_build_counts(results),
        attention=build_attention(tables, verbose=verbose) if "alerts" in tables else (),
        sections=_build_sections(results.subject, tables, verbose=verbose),
        has_alerts="alerts" in tables,
    )


def _build_sections(subject: str, tables: Tables, *, verbose: bool) -> tuple[Section, ...]:
    sections: list[Section] = []
    lists_run = subject == "checkpoints"
    if "checkpoints" in tables and (lists_run or verbose):
        sections.append(build_checkpoints_section(tables["checkpoints"]))
    elif "checkpoints" in tables:
        sections += build_absent_sections(tables["checkpoints"])
    if "layers" in tables:
        sections.append(build_layers_section(tables["layers"]))
    if "flips" in tables and subject != "trends":
        sections += build_flips_sections(tables["flips"], verbose=verbose)
    if "ranks" in tables and subject != "trends":
        sections += build_ranks_sections(tables["ranks"], verbose=verbose)
    if "trends" in tables and (subject == "trends" or verbose):
        sections += build_trends_sections(tables["trends"], verbose=verbose)
    if "skipped" in tables and tables["skipped"].num_rows:
        sections.append(build_skipped_section(tables["skipped"], verbose=verbose))
    return tuple(sections)


def _build_facts(results: Results) -> tuple[Fact, ...]:
    tables = results.tables
    facts = []
    if "checkpoints" in tables:
        facts += _describe_run(tables["checkpoints"])
        facts += _describe_selection(tables)
    if "flips" in tables:
        quantizers = sorted(set(_values(tables["flips"], "quantizer")))
        facts.append(Fact(label="quantizer", text=", ".join(quantizers) or "none"))
    if "ranks" in tables:
        facts += _describe_ranks(tables["ranks"])
    return tuple(facts)


def _describe_run(table: pa.Table) -> list[Fact]:
    checkpoints = table.filter(pc.field("status") == Status.OK.value)
    steps = checkpoints.column("step").to_pylist()
    weights = _values(checkpoints, "num_weights")
    layers = _values(checkpoints, "num_layers")
    sizes = _values(checkpoints, "size_bytes")
    span = (
        f", steps {steps[0]} to {steps[-1]}"
        if len(steps) > 1
        else "".join(f", step {step}" for step in steps)
    )
    parts = []
    if layers:
        parts.append(f"{max(layers):,} layers")
    if weights:
        parts.append(f"{max(weights):,} weights")
    if sizes:
        parts.append(f"{render_bytes(sum(sizes))} over the run")
    facts = [Fact(label="checkpoints", text=f"{len(steps):,}{span}")]
    return [*facts, Fact(label="each holds", text=", ".join(parts))] if parts else facts


def _describe_selection(tables: Tables) -> list[Fact]:
    """Say how many layers were looked at, if the checkpoints hold more."""
    named = [tables[name] for name in ("flips", "ranks", "skipped", "layers") if name in tables]
    num_seen = len({layer for table in named for layer in _values(table, "layer")})
    num_layers = max(_values(tables["checkpoints"], "num_layers"), default=0)
    if not 0 < num_seen < num_layers:
        return []
    return [Fact(label="looked at", text=f"{num_seen:,} {_plural('layer', num_seen)}")]


def _describe_ranks(ranks: pa.Table) -> list[Fact]:
    """Say how the ranks were found, if all of them were found in one way."""
    methods = set(_values(ranks, "method"))
    bounds = [*_values(ranks, "stable_rank_error"), *_values(ranks, "effective_rank_error")]
    if len(methods) != 1 or not bounds:
        return []
    return [Fact(label="ranks", text=f"{methods.pop()}, relative error up to {max(bounds):.1g}")]


def _values(table: pa.Table, column: str) -> list[Any]:
    """Return the defined values of a column."""
    return [value for value in table.column(column).to_pylist() if value is not None]


def _build_counts(results: Results) -> tuple[Count, ...]:
    tables = results.tables
    counts = []
    if "alerts" in tables:
        severities = tables["alerts"].column("severity").to_pylist()
        counts += [
            Count(label="critical", number=severities.count("critical"), look="critical"),
            Count(
                label=_plural("warning", severities.count("warning")),
                number=severities.count("warning"),
                look="warning",
            ),
            Count(label="info", number=severities.count("info"), look="info"),
        ]
    if "skipped" in tables:
        number = len(set(_values(tables["skipped"], "layer")))
        counts.append(
            Count(label=f"{_plural('layer', number)} left out", number=number, look="skipped")
        )
    undefined = _count_status(tables, Status.UNDEFINED)
    counts += [
        Count(label=f"undefined {_plural('row', undefined)}", number=undefined, look="undefined"),
        Count(
            label=f"failed {_plural('row', results.num_failed)}",
            number=results.num_failed,
            look="failed",
        ),
    ]
    return tuple(counts)


def _count_status(tables: Tables, status: Status) -> int:
    return sum(
        table.column("status").to_pylist().count(status.value)
        for table in tables.values()
        if "status" in table.column_names
    )


def _plural(word: str, number: int) -> str:
    return word if number == 1 else f"{word}s"
