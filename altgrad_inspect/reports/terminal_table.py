"""A section as lines: a table whose columns fit the page, and its notes."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.cells import cell_len

from altgrad_inspect.display import display_name
from altgrad_inspect.reports.cells import UNDEFINED, render_cell
from altgrad_inspect.reports.model import ALWAYS, LEFT_ALIGNED, Column, Kind, Section
from altgrad_inspect.reports.page import INDENT, Page
from altgrad_inspect.reports.shorten import shorten_name

_GUTTER: Final = 2

_MIN_NAME_WIDTH: Final = 22
"""Columns are left out before names are shortened below this."""


def render_section(section: Section, page: Page) -> Iterator[str]:
    """Write the title, the rows that fit the page, and what has to be said about them."""
    yield page.style(display_name(section.title), "title")
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
        yield f"{INDENT}nothing to show"
    for note in notes:
        for line in page.wrap(display_name(note), first=f"{INDENT}· "):
            yield page.style(line, "dim")


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
    room = page.width - len(INDENT)
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
    yield page.style((INDENT + gutter.join(titles)).rstrip(), "dim")
    for row in texts:
        cells = [
            _render_styled_cell(row[index], columns[index], width, page)
            for index, width in zip(chosen, widths, strict=True)
        ]
        yield INDENT + gutter.join(cells)


def _render_styled_cell(text: str, column: Column, width: int, page: Page) -> str:
    fitted = shorten_name(text, width) if column.kind is Kind.TEXT else text
    padded = _align(fitted, column, width)
    if column.kind is Kind.LOOK:
        key = fitted
    elif fitted == UNDEFINED:
        key = "dim"
    else:
        key = "series" if column.kind is Kind.SERIES else ""
    return padded.replace(fitted, page.style(fitted, key), 1)


def _align(text: str, column: Column, width: int) -> str:
    padding = " " * (width - cell_len(text))
    return text + padding if column.kind in LEFT_ALIGNED else padding + text
