"""A report as GitHub-flavoured Markdown, where no name is taken for markup."""

import re
from collections.abc import Iterator
from typing import Final

from altgrad_inspect.display import display_name
from altgrad_inspect.reports.cells import render_cell, render_series
from altgrad_inspect.reports.model import LEFT_ALIGNED, Attention, Kind, Report, Section
from altgrad_inspect.reports.style import find_look
from altgrad_inspect.reports.wording import (
    NUM_EXAMPLES,
    render_also,
    render_course,
    render_layers,
    render_message,
    render_since,
)

_MARKUP: Final = re.compile(
    r"[\\`*\[\]<>&|~#$!]"
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # inside a word it is no emphasis
    r"|:(?=\S)|(?<=www)\."  # addresses become links by themselves
    r"|^[-+=]|^\d+(?=[.)])"  # lists and rules
)
_MENTION: Final = re.compile(r"@(?=\w)")


def render_markdown(report: Report) -> str:
    """Write ``report`` as Markdown, ending with a line break; tables are folded away."""
    lines = [f"# altgrad-inspect {escape_markdown(report.title)}: {render_code(report.run)}", ""]
    counts = " · ".join(
        f"{find_look(count.look).symbol} {count.number:,} {count.label}"
        for count in report.counts
        if count.number
    )
    if counts:
        lines += [f"**{counts}**", ""]
    lines += [f"- {fact.label}: {escape_markdown(fact.text)}" for fact in report.facts]
    for gap in report.gaps:
        symbol = find_look(gap.look).symbol.strip("-")  # a dash would be a list in the list
        lines.append(f"- {f'{symbol} '.lstrip()}{escape_markdown(gap.text)}")
    lines += [f"- note: {escape_markdown(note)}" for note in report.notes]
    if report.has_alerts:
        lines += ["", *_render_attention(report)]
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
    if report.attention:
        yield from ("## Needs attention", "")
        for attention in report.attention:
            yield from _render_block(attention)
    elif report.is_undecided:
        yield f"{find_look('undecided').symbol} too early to say: every layer is undecided"
    else:
        yield f"{find_look('ok').symbol} no layer needs attention"
    if report.information:
        yield from ("", "## Worth knowing", "")
    for attention in report.information:
        yield f"- {_render_head(attention, attention.severity)}"


def _render_block(attention: Attention) -> Iterator[str]:
    yield f"- {_render_head(attention, attention.severity)}"
    shown = attention.cases[:NUM_EXAMPLES]
    for case in shown:
        bars = render_series(case.evidence.series)
        name = f" {render_code(case.layer)}" if len(attention.cases) > 1 else ""
        if bars:
            yield f"  - {bars}{name} {escape_markdown(render_course(case.evidence))}"
    first = attention.cases[0]
    if len(attention.cases) == 1:
        yield f"  - {escape_markdown(render_message(first.evidence, first.layer))}"
        if first.also:
            yield f"  - also: {escape_markdown(render_also(first))}"
    else:
        yield f"  - for example: {escape_markdown(first.evidence.message)}"
    yield f"  - look at: {escape_markdown(attention.look_at)}"


def _render_head(attention: Attention, look: str) -> str:
    key = attention.word if attention.word == "undecided" else look
    if len(attention.cases) == 1:
        layer = attention.layers[0]
        where = render_code(layer) if layer else "the whole run"
    else:
        where = f"{len(attention.cases):,} layers: {escape_markdown(render_layers(attention))}"
    since = render_since(attention)
    word = escape_markdown(attention.word)
    return f"{find_look(key).symbol} **{word}** {where}{', ' * bool(since)}{since}"


def _render_section(section: Section) -> Iterator[str]:
    rows = f"{len(section.rows):,} row{'' if len(section.rows) == 1 else 's'}"
    title = f"{escape_markdown(section.title)} ({rows})"
    yield from ("<details>", f"<summary>{title}</summary>", "")
    yield from _render_table(section)
    yield from ("", "</details>")


def _render_table(section: Section) -> Iterator[str]:
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
