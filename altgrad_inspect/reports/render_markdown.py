"""A report as GitHub-flavoured Markdown, where no name is taken for markup."""

import re
from collections.abc import Iterator
from typing import Final

from altgrad_inspect.display import display_name
from altgrad_inspect.reports.cells import render_cell, render_series
from altgrad_inspect.reports.model import LEFT_ALIGNED, Attention, Kind, Report, Section
from altgrad_inspect.reports.style import find_look

_MARKUP: Final = re.compile(
    r"[\\`*\[\]<>&|~#$!]"
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # inside a word it is no emphasis
    r"|:(?=\S)|(?<=www)\."  # addresses become links by themselves
    r"|^[-+=]|^\d+(?=[.)])"  # lists and rules
)
_MENTION: Final = re.compile(r"@(?=\w)")


def render_markdown(report: Report) -> str:
    """Write ``report`` as Markdown, ending with a line break."""
    lines = [f"# altgrad-inspect {escape_markdown(report.title)}: {render_code(report.run)}", ""]
    lines += [f"- {fact.label}: {escape_markdown(fact.text)}" for fact in report.facts]
    counts = [
        f"{find_look(count.look).symbol} {count.number:,} {count.label}"
        for count in report.counts
        if count.number
    ]
    if counts:
        lines.append(f"- {', '.join(counts)}")
    lines += [f"- note: {escape_markdown(note)}" for note in report.notes]
    if report.has_alerts:
        lines += ["", "## Needs attention", "", *_render_attention(report)]
    for section in report.sections:
        lines += ["", *_render_section(section)]
    return "\n".join(lines) + "\n"


def escape_markdown(text: str) -> str:
    """Return ``text`` as one printable line in which nothing is markup."""
    escaped = _MARKUP.sub(
        lambda found: "".join(f"&#{ord(character)};" for character in found[0]), display_name(text)
    )
    return _MENTION.sub("@&#8203;", escaped)  # GitHub looks for mentions after unescaping


def render_code(name: str) -> str:
    """Return a name as a code span; one with ``|`` escaped, since tables split spans there."""
    shown = display_name(name)
    if "|" in shown or not shown:
        return escape_markdown(shown)
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def _render_attention(report: Report) -> Iterator[str]:
    if not report.attention:
        yield f"{find_look('ok').symbol} no layer needs attention"
    for attention in report.attention:
        yield from _render_layer(attention)


def _render_layer(attention: Attention) -> Iterator[str]:
    symbol = find_look(attention.severity).symbol
    layer = render_code(attention.layer) if attention.layer else "the whole run"
    yield f"- {symbol} {attention.severity}: {layer}"
    for evidence in attention.evidence:
        where = f" of matrix {evidence.matrix}" if evidence.matrix else ""
        since = "" if evidence.step_onset is None else f" since step {evidence.step_onset}"
        bars = render_series(evidence.series)
        yield (
            f"  - {escape_markdown(evidence.rule)}{where}{since}: "
            f"{escape_markdown(evidence.message)} {bars}".rstrip()
        )


def _render_section(section: Section) -> Iterator[str]:
    yield f"## {escape_markdown(section.title)}"
    yield ""
    if section.rows:
        yield _line(escape_markdown(column.title) for column in section.columns)
        yield _line("---" if column.kind in LEFT_ALIGNED else "---:" for column in section.columns)
    else:
        yield "nothing to show"
    for row in section.rows:
        yield _line(
            _render_value(render_cell(value, column.kind), column.kind)
            for value, column in zip(row, section.columns, strict=True)
        )
    notes = [*section.explain_undefined(range(len(section.columns))), *section.footnotes]
    if notes:
        yield ""
    yield from (f"- {escape_markdown(note)}" for note in notes)


def _render_value(text: str, kind: Kind) -> str:
    if kind in {Kind.TEXT, Kind.WORD, Kind.LOOK}:
        return render_code(text) if kind is Kind.TEXT else escape_markdown(text)
    return text


def _line(cells: Iterator[str]) -> str:
    return f"| {' | '.join(cells)} |"
