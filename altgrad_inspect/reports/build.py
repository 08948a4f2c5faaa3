"""Results to report: the facts, the counts, the layers to look at, the sections."""

import math
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, Final

import pyarrow as pa

from altgrad_inspect.records import Severity, Status, Verdict
from altgrad_inspect.reports.attention import build_attention
from altgrad_inspect.reports.build_sections import build_sections
from altgrad_inspect.reports.cells import render_bytes
from altgrad_inspect.reports.comparisons import COMPARISONS, build_comparison
from altgrad_inspect.reports.gaps import build_gaps
from altgrad_inspect.reports.model import Count, Fact, Report
from altgrad_inspect.tables.arrays import build_array
from altgrad_inspect.tables.results import Results

Tables = Mapping[str, pa.Table]

TITLES: Mapping[str, str] = {"ranks": "rank", "trends": "trend", "checkpoints": "ls"}
"""What the report of a subject is called, where that is not the subject itself."""

_ORDER: Final = tuple(str(verdict) for verdict in Verdict)

_LOOKS: Final[Mapping[str, str]] = {Verdict.HEALTHY: "healthy", Verdict.UNDECIDED: "undecided"}
"""Verdicts that do not look like their severity."""


def build_report(
    results: Results,
    *,
    verbose: bool = False,
    shown: Collection[str] | None = None,
    hint: str = "",
) -> Report:
    """Say for people what the tables of ``results`` say.

    Args:
        results: Any tables of one run.
        verbose: Show every row, one block a layer, and the alerts of severity ``info``.
        shown: Names of the tables to print, of those that are there. None means the main
            table; for a report, which has none, all of them if ``verbose``, else none.
        hint: One line about what else can be had.
    """
    if results.subject in COMPARISONS:
        return build_comparison(results, verbose=verbose)
    tables = results.tables
    attention, information = (
        build_attention(tables, verbose=verbose) if "alerts" in tables else ((), ())
    )
    counts = _build_counts(tables)
    return Report(
        title=TITLES.get(results.subject, results.subject),
        run=results.run,
        facts=_build_facts(results),
        notes=results.notes,
        counts=counts,
        gaps=build_gaps(tables),
        attention=attention,
        information=information,
        sections=build_sections(results, shown=shown, verbose=verbose),
        has_alerts="alerts" in tables,
        is_undecided=bool(counts) and {count.label for count in counts} == {Verdict.UNDECIDED},
        hint=hint,
    )


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
    if results.device:
        facts.append(Fact(label="device", text=results.device))
    return tuple(facts)


def _describe_run(table: pa.Table) -> list[Fact]:
    # To compare with a Python value, pyarrow would import pandas: a quarter of a second.
    is_ok = [status == Status.OK.value for status in table.column("status").to_pylist()]
    checkpoints = table.filter(build_array(is_ok, pa.bool_()))
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
    limit = 10.0 ** math.ceil(math.log10(max(*bounds, 1e-16)))
    return [Fact(label="ranks", text=f"{methods.pop()}, relative error below {limit:.0e}")]


def _values(table: pa.Table, column: str) -> list[Any]:
    """Return the defined values of a column."""
    return [value for value in table.column(column).to_pylist() if value is not None]


def _build_counts(tables: Tables) -> tuple[Count, ...]:
    """Count the verdicts, worst first; the alerts by severity if there are no verdicts."""
    if "verdicts" in tables:
        rows = tables["verdicts"].select(["verdict", "severity"]).to_pylist()
        worst: dict[str, Severity] = {}
        for row in rows:
            word, severity = row["verdict"], Severity(row["severity"])
            worst[word] = max(severity, worst.get(word, severity), key=lambda one: one.rank)
        numbers = Counter(row["verdict"] for row in rows)
        words = sorted(worst, key=lambda word: (-worst[word].rank, _ORDER.index(word)))
        return tuple(
            Count(label=word, number=numbers[word], look=_LOOKS.get(word, worst[word].value))
            for word in words
        )
    if "alerts" in tables:
        found = Counter(tables["alerts"].column("severity").to_pylist())
        return tuple(
            Count(label=severity.value, number=found[severity.value], look=severity.value)
            for severity in sorted(Severity, key=lambda one: -one.rank)
            if found[severity.value]
        )
    return ()


def _plural(word: str, number: int) -> str:
    return word if number == 1 else f"{word}s"
