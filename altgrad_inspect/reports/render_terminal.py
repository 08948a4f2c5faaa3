"""A report as plain lines for a terminal or a pipe; pure, and the only one with colours.

With a ``width`` lines are wrapped, long names are shortened and the least telling columns
left out until a table fits. Without one (a pipe, a file) nothing is shortened.
"""

from altgrad_inspect.display import display_name
from altgrad_inspect.reports.model import Count, Report
from altgrad_inspect.reports.page import INDENT, PIPE, Page
from altgrad_inspect.reports.style import ASCII, find_look
from altgrad_inspect.reports.terminal_attention import render_attention
from altgrad_inspect.reports.terminal_table import render_section

__all__ = ["PIPE", "Page", "render_terminal"]


def render_terminal(report: Report, page: Page = PIPE) -> str:
    """Write ``report`` as lines, ending with a line break.

    Everything that comes from a file is one printable line each, whatever it contains.
    """
    blocks = _render_head(report, page)
    if report.has_alerts:
        blocks += render_attention(report, page)
    blocks += [list(render_section(section, page)) for section in report.sections]
    if report.hint:
        blocks.append([page.style(line, "dim") for line in page.wrap(report.hint, first="")])
    text = "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks if block)
    if page.ascii_only:
        text = text.translate(ASCII).encode("ascii", "backslashreplace").decode("ascii")
    return f"{text}\n"


def _render_head(report: Report, page: Page) -> list[list[str]]:
    """Return what was looked at, what was found, and what is not known."""
    title = page.style(f"altgrad-inspect {report.title}", "title")
    lines = [f"{title}  {page.fit(report.run, used=18 + len(report.title))}"]
    label_width = max((len(fact.label) for fact in report.facts), default=0)
    for fact in report.facts:
        label = f"{fact.label:<{label_width}}  "
        first, *rest = page.wrap(display_name(fact.text), first=INDENT + label)
        lines += [first.replace(label, page.style(label, "dim"), 1), *rest]
    counts = [_render_count(count) for count in report.counts if count.number]
    remarks = []
    for gap in report.gaps:
        mark = f"{find_look(gap.look).symbol} "
        first, *rest = page.wrap(display_name(gap.text), first=INDENT + mark)
        remarks += [first.replace(mark, page.style(mark, gap.look), 1), *rest]
    for note in report.notes:
        remarks += page.wrap(display_name(note), first=f"{INDENT}note: ")
    return [lines, page.flow(counts, indent=INDENT, gap=" · "), remarks]


def _render_count(count: Count) -> tuple[str, str]:
    return f"{find_look(count.look).symbol} {count.number:,} {count.label}", count.look
