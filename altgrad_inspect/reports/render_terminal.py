"""A report as plain lines for a terminal or a pipe; pure, and the only one with colours.

With a ``width`` lines are wrapped, long names are shortened and the least telling columns
left out until a table fits. Without one (a pipe, a file) nothing is shortened.
"""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len

from altgrad_inspect.display import display_name
from altgrad_inspect.reports.cells import UNDEFINED, render_cell, render_series
from altgrad_inspect.reports.model import (
    ALWAYS,
    LEFT_ALIGNED,
    Attention,
    Column,
    Count,
    Evidence,
    Kind,
    Report,
    Section,
)
from altgrad_inspect.reports.shorten import shorten_name
from altgrad_inspect.reports.style import ASCII, find_look, render_styled

_INDENT: Final = "  "
_GUTTER: Final = 2
_WIDE: Final = 120
"""From this width on, series get twice the room."""

_MIN_NAME_WIDTH: Final = 22
"""Columns are left out before names are shortened below this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What is written on.

    Attributes:
        width: Cells of a line; None for a pipe, which has no width.
        color: Whether colour sequences are written.
        ascii_only: Whether the output cannot hold anything but ASCII.
    """

    width: int | None = None
    color: bool = False
    ascii_only: bool = False

    @property
    def series_width(self) -> int:
        """Most bars in a series."""
        return 8 if self.width is not None and self.width < _WIDE else 16


PIPE: Final = Page()


def render_terminal(report: Report, page: Page = PIPE) -> str:
    """Write ``report`` as lines, ending with a line break.

    Everything that comes from a file is one printable line each, whatever it contains.
    """
    blocks = [_render_head(report, page)]
    if report.has_alerts:
        blocks.append(_render_attention(report, page))
    blocks += [list(_render_section(section, page)) for section in report.sections]
    text = "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks if block)
    if page.ascii_only:
        text = text.translate(ASCII).encode("ascii", "backslashreplace").decode("ascii")
    return f"{text}\n"


def _render_head(report: Report, page: Page) -> list[str]:
    title = render_styled(f"altgrad-inspect {report.title}", "title", color=page.color)
    lines = [f"{title}  {_fit(report.run, page, used=18 + len(report.title))}"]
    label_width = max((len(fact.label) for fact in report.facts), default=0)
    for fact in report.facts:
        label = f"{_INDENT}{fact.label:<{label_width}}  "
        lines += _wrap(display_name(fact.text), page, first=label)
    if shown := [count for count in report.counts if count.number]:
        lines += ["", *_flow_counts(shown, page)]
    if report.notes:
        lines.append("")
    for note in report.notes:
        lines += _wrap(display_name(note), page, first=f"{_INDENT}note: ")
    return lines


def _flow_counts(counts: Sequence[Count], page: Page) -> Iterator[str]:
    """Write the counts beside each other, on as many lines as they need."""
    line, used = _INDENT, 0
    for count in counts:
        text = f"{find_look(count.look).symbol} {count.number:,} {count.label}"
        if used and page.width is not None and used + len(text) + 5 > page.width:
            yield line
            line, used = _INDENT, 0
        line += "   " * bool(used) + render_styled(text, count.look, color=page.color)
        used += 3 * bool(used) + len(text)
    yield line


def _render_attention(report: Report, page: Page) -> list[str]:
    if not report.attention:
        tick = render_styled(f"{find_look('ok').symbol} ok", "ok", color=page.color)
        return [f"{_INDENT}{tick}  no layer needs attention"]
    lines = [render_styled("Needs attention", "title", color=page.color)]
    for attention in report.attention:
        lines += _render_layer(attention, page)
    return lines


def _render_layer(attention: Attention, page: Page) -> Iterator[str]:
    look = find_look(attention.severity)
    mark = f"{look.symbol} {look.word or attention.severity}"
    styled = render_styled(f"{mark:<10}", attention.severity, color=page.color)
    yield f"{_INDENT}{styled}  {_fit(attention.layer or 'the whole run', page, used=14)}"
    for evidence in attention.evidence:
        yield from _render_evidence(evidence, page)


def _render_evidence(evidence: Evidence, page: Page) -> Iterator[str]:
    where = f" of matrix {evidence.matrix}" if evidence.matrix else ""
    since = "" if evidence.step_onset is None else f", since step {evidence.step_onset}"
    bars = render_series(evidence.series, max_width=page.series_width)
    styled = render_styled(bars, "series", color=page.color)
    yield f"{_INDENT * 2}{display_name(evidence.rule)}{where}{since}  {styled}"
    yield from _wrap(display_name(evidence.message), page, first=_INDENT * 3)


def _render_section(section: Section, page: Page) -> Iterator[str]:
    yield render_styled(display_name(section.title), "title", color=page.color)
    notes = list(section.footnotes)
    if section.rows:
        texts = [
            [
                render_cell(value, column.kind, series_width=page.series_width)
                for value, column in zip(row, section.columns, strict=True)
            ]
            for row in section.rows
        ]
        chosen, widths = _choose_columns(section.columns, texts, page)
        notes = [*section.explain_undefined(chosen), *notes]
        left_out = [c.title for i, c in enumerate(section.columns) if i not in chosen]
        if left_out:
            notes.append(f"no room for {', '.join(left_out)}: widen the terminal, or pipe")
        yield from _render_rows(section.columns, texts, chosen, widths, page)
    else:
        yield f"{_INDENT}nothing to show"
    for note in notes:
        for line in _wrap(display_name(note), page, first=f"{_INDENT}· "):
            yield render_styled(line, "dim", color=page.color)


def _choose_columns(
    columns: Sequence[Column], texts: Sequence[Sequence[str]], page: Page
) -> tuple[list[int], list[int]]:
    """Return which columns are shown, and the width of each of them."""
    natural = [
        max(cell_len(text) for text in (column.title, *(row[index] for row in texts)))
        for index, column in enumerate(columns)
    ]
    chosen = list(range(len(columns)))
    if page.width is None:
        return chosen, natural
    room = page.width - len(_INDENT)
    is_name = [column.kind is Kind.TEXT for column in columns]
    least = [min(w, _MIN_NAME_WIDTH) if n else w for w, n in zip(natural, is_name, strict=True)]
    while _total(least, chosen) > room:
        weakest = min(chosen, key=lambda index: (columns[index].weight, -index))
        if columns[weakest].weight >= ALWAYS:
            break
        chosen.remove(weakest)
    widths = [natural[index] for index in chosen]
    names = [position for position, index in enumerate(chosen) if is_name[index]]
    while names and sum(widths) + _GUTTER * (len(widths) - 1) > room:
        widest = max(names, key=lambda position: widths[position])
        if widths[widest] <= 4:
            break
        widths[widest] -= 1
    for position in names:  # shortened names may need less than there was room for
        column = [columns[chosen[position]].title, *(row[chosen[position]] for row in texts)]
        widths[position] = max(cell_len(shorten_name(text, widths[position])) for text in column)
    return chosen, widths


def _total(widths: Sequence[int], chosen: Sequence[int]) -> int:
    return sum(widths[index] for index in chosen) + _GUTTER * (len(chosen) - 1)


def _render_rows(
    columns: Sequence[Column],
    texts: Sequence[Sequence[str]],
    chosen: Sequence[int],
    widths: Sequence[int],
    page: Page,
) -> Iterator[str]:
    gutter = " " * _GUTTER
    shown = [columns[index] for index in chosen]
    titles = [
        _align(column.title, column, width) for column, width in zip(shown, widths, strict=True)
    ]
    yield render_styled((_INDENT + gutter.join(titles)).rstrip(), "dim", color=page.color)
    for row in texts:
        cells = [
            _render_styled_cell(row[index], columns[index], width, page)
            for index, width in zip(chosen, widths, strict=True)
        ]
        yield _INDENT + gutter.join(cells)


def _render_styled_cell(text: str, column: Column, width: int, page: Page) -> str:
    fitted = shorten_name(text, width) if column.kind is Kind.TEXT else text
    padded = _align(fitted, column, width)
    if column.kind is Kind.LOOK:
        key = fitted
    elif fitted == UNDEFINED:
        key = "dim"
    else:
        key = "series" if column.kind is Kind.SERIES else ""
    return padded.replace(fitted, render_styled(fitted, key, color=page.color), 1)


def _align(text: str, column: Column, width: int) -> str:
    padding = " " * (width - cell_len(text))
    return text + padding if column.kind in LEFT_ALIGNED else padding + text


def _fit(name: str, page: Page, *, used: int) -> str:
    text = display_name(name)
    return text if page.width is None else shorten_name(text, max(8, page.width - used))


def _wrap(text: str, page: Page, *, first: str) -> list[str]:
    """Break ``text`` into lines behind ``first``, the later ones indented as far."""
    if page.width is None:
        return [first + text]
    lines = textwrap.wrap(
        text,
        width=max(page.width, len(first) + 20),
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_on_hyphens=False,
    )
    return lines or [first]
