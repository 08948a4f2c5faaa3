"""The layers to look at, as lines: one block a fault, and one line for what is no fault."""

from collections.abc import Iterator
from typing import Final

from rich.cells import cell_len

from altgrad_inspect.display import display_name
from altgrad_inspect.reports.cells import render_series
from altgrad_inspect.reports.model import Attention, Evidence, Report
from altgrad_inspect.reports.page import INDENT, Page
from altgrad_inspect.reports.style import find_look
from altgrad_inspect.reports.wording import (
    NUM_EXAMPLES,
    render_also,
    render_course,
    render_layers,
    render_message,
    render_since,
)

_BODY: Final = INDENT * 2
_NUM_BARS: Final = 16


def render_attention(report: Report, page: Page) -> list[list[str]]:
    """Return blocks of lines: what needs attention, worst first; then what is worth knowing."""
    blocks: list[list[str]] = []
    if report.attention:
        width = max(cell_len(display_name(one.word)) for one in report.attention)
        title = page.style("Needs attention", "title")
        told = ""
        for one in report.attention:
            lines = list(_render_block(one, page, width))
            if one.look_at != told:  # the same advice again would only be noise
                lines += _render_labelled("look at", one.look_at, page)
            told = one.look_at
            blocks.append(lines)
        blocks[0].insert(0, title)
    else:
        key = "undecided" if report.is_undecided else "ok"
        text = (
            "too early to say: every layer is undecided"
            if report.is_undecided
            else "no layer needs attention"
        )
        blocks.append([INDENT + page.style(f"{find_look(key).symbol} {text}", key)])
    if report.information:
        lines = [page.style("Worth knowing", "title")]
        width = max(cell_len(display_name(one.word)) for one in report.information)
        for one in report.information:
            lines += _render_information(one, page, width)
        blocks.append(lines)
    return blocks


def _render_block(attention: Attention, page: Page, width: int) -> Iterator[str]:
    word = display_name(attention.word)
    head = f"{find_look(attention.severity).symbol} {word}{' ' * (width - cell_len(word))}"
    styled = page.style(head, attention.severity)
    first = attention.cases[0]
    if len(attention.cases) == 1:
        name = page.fit(first.layer or "the whole run", used=len(INDENT) + cell_len(head) + 2)
        yield f"{INDENT}{styled}  {page.style(name, 'title')}"
        since = [(text, "")] if (text := render_since(attention)) else []
        yield from page.flow([*_render_bars(first.evidence), *since], indent=_BODY, gap="  ")
        yield from page.wrap(render_message(first.evidence, first.layer), first=_BODY)
        if first.also:
            yield from _render_labelled("also", render_also(first), page)
    else:
        number = page.style(f"{len(attention.cases):,} layers", "title")
        yield f"{INDENT}{styled}  {number}  {render_since(attention)}"
        yield from page.wrap(render_layers(attention), first=_BODY)
        yield from _render_examples(attention, page)
        yield from _render_labelled("for example", display_name(first.evidence.message), page)


def _render_examples(attention: Attention, page: Page) -> Iterator[str]:
    """Write one line of bars a layer, for some of the layers of a block."""
    for case in attention.cases[:NUM_EXAMPLES]:
        bars = render_series(case.evidence.series, max_width=_NUM_BARS)
        if bars:
            name = page.fit(case.layer, used=len(_BODY) + len(bars) + 2)
            yield f"{_BODY}{page.style(bars, 'series')}  {name}"


def _render_bars(evidence: Evidence) -> list[tuple[str, str]]:
    if not evidence.series:
        return []
    bars = render_series(evidence.series, max_width=_NUM_BARS)
    return [(bars, "series"), (render_course(evidence), "")]


def _render_labelled(label: str, text: str, page: Page) -> Iterator[str]:
    first, *rest = page.wrap(text, first=f"{_BODY}{label}: ", later=_BODY + INDENT)
    yield first.replace(f"{label}:", page.style(f"{label}:", "dim"), 1)
    yield from rest


def _render_information(attention: Attention, page: Page, width: int) -> Iterator[str]:
    look = find_look(attention.word if attention.word == "undecided" else attention.severity)
    word = display_name(attention.word)
    head = f"{look.symbol} {word}{' ' * (width - cell_len(word))}"
    since = render_since(attention)
    number = len(attention.cases)
    many = f"{number:,} layers: " if number > NUM_EXAMPLES else ""
    text = f"{many}{render_layers(attention)}{', ' * bool(since)}{since}"
    if attention.word == "undecided":
        case = attention.cases[0]
        text += f". {'For example: ' * (number > 1)}{render_message(case.evidence, case.layer)}"
    first, *rest = page.wrap(text, first=f"{INDENT}{head}  ", later=_BODY)
    yield first.replace(head, page.style(head, attention.severity), 1)
    yield from rest
