"""Findings of the gate as text: one line each and a last line that sums up, or Markdown."""

from collections import Counter

import pyarrow as pa

from altgrad_inspect.display import display_name
from altgrad_inspect.records import Severity
from altgrad_inspect.reports.model import Column, Kind, Report, Section
from altgrad_inspect.reports.render_terminal import PIPE, Page
from altgrad_inspect.reports.style import ASCII, find_look, render_styled
from altgrad_inspect.tables.results import Results
from altgrad_inspect.tables.schema import SCHEMA_VERSION


def render_findings(
    findings: pa.Table, results: Results, *, fail_on: str, page: Page = PIPE
) -> str:
    """Write one line a finding, worst first, and one line that sums up.

    Lines are never wrapped or shortened: a line is a finding, for people and for grep.

    Args:
        findings: Table with the columns of ``ALERTS``.
        results: What they were found in.
        fail_on: The least severity of a finding.
        page: Colours and letters of the output.
    """
    lines = [_render_line(row, page) for row in findings.to_pylist()]
    lines.append(_render_summary(findings, results, fail_on, page))
    text = "\n".join(lines)
    if page.ascii_only:
        text = text.translate(ASCII).encode("ascii", "backslashreplace").decode("ascii")
    return f"{text}\n"


def _render_line(row: dict[str, object], page: Page) -> str:
    severity = str(row["severity"])
    word = render_styled(f"{find_look(severity).symbol} {severity}", severity, color=page.color)
    layer = display_name(str(row["layer"])) if row["layer"] else "the whole run"
    matrix = f"[{row['matrix']}]" if row["matrix"] else ""
    onset = "" if row["step_onset"] is None else f" since step {row['step_onset']}"
    message = display_name(str(row["message"]))
    return f"{word} {row['rule']} {layer}{matrix}{onset}: {message}"


def summarise(findings: pa.Table, results: Results, fail_on: str) -> str:
    """Return one sentence: how many findings, in how many layers, and what failed."""
    verdicts = results.verdicts
    num_layers = 0 if verdicts is None else verdicts.num_rows
    severities = Counter(findings.column("severity").to_pylist())
    parts = [
        f"{severities[severity]:,} {severity}"
        for severity in reversed(Severity)
        if severities[severity]
    ]
    num_hit = len(set(findings.column("layer").to_pylist()))
    looked = f" of {num_layers:,}" if num_layers else ""
    if parts:
        text = f"{_count(findings.num_rows, 'finding')} in {num_hit:,}{looked} layers: "
        text += ", ".join(parts)
    else:
        seen = f" in {_count(num_layers, 'layer')}" if num_layers else ""
        text = f"no findings{seen} at or above {fail_on}"
    failed = results.num_failed
    return f"{text}; {_count(failed, 'row')} failed" if failed else text


def _render_summary(findings: pa.Table, results: Results, fail_on: str, page: Page) -> str:
    calm = "failed" if results.num_failed else "ok"
    look = str(findings.column("severity")[0].as_py()) if findings.num_rows else calm
    symbol = render_styled(find_look(look).symbol, look, color=page.color)
    return f"{symbol} {display_name(results.run)}: {summarise(findings, results, fail_on)}"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def build_findings_report(findings: pa.Table, results: Results, *, fail_on: str) -> Report:
    """Return the findings as a report with one table, for Markdown."""
    columns = (
        Column(title="severity", kind=Kind.LOOK),
        Column(title="rule", kind=Kind.WORD),
        Column(title="layer", kind=Kind.TEXT),
        Column(title="since step", kind=Kind.STEP),
        Column(title="what", kind=Kind.WORD),
    )
    names = ("severity", "rule", "layer", "step_onset", "message")
    rows = tuple(tuple(row[name] for name in names) for row in findings.to_pylist())
    summary = (summarise(findings, results, fail_on),)
    sections = (Section(title="Findings", columns=columns, rows=rows),) if rows else ()
    return Report(
        title="check", run=results.run, notes=(*summary, *results.notes), sections=sections
    )


def describe_findings(findings: pa.Table, results: Results, *, fail_on: str) -> dict[str, object]:
    """Return the findings as one JSON document, without the exit status."""
    return {
        "schema_version": SCHEMA_VERSION,
        "subject": "check",
        "run": results.run,
        "fail_on": fail_on,
        "settings": results.settings,
        "notes": results.notes,
        "num_failed": results.num_failed,
        "findings": findings.to_pylist(),
    }
