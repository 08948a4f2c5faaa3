"""Draw docs/performance.svg from docs/performance.jsonl.

    BENCH_RESULTS=docs/performance.jsonl make bench
    .venv/bin/python docs/draw_performance.py

Left the phases of `report`, right the spectra: bars are seconds over the floor, which is the
line at 1.
"""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
WIDTH, BAR, GAP, LABEL, MARGIN = 380, 14, 8, 150, 24
INK, OURS, LINE = "#24292f", "#3b6ea5", "#c4532d"


def read_rows() -> list[dict[str, float | str]]:
    """Every measured line."""
    lines = (HERE / "performance.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def draw_panel(title: str, bars: Sequence[tuple[str, float, str]], left: int) -> str:
    """Horizontal bars, each with its label and its value as text; the line is at 1."""
    most = max([1.0, *(value for _, value, _ in bars)])
    scale = (WIDTH - LABEL - 60) / most
    x = left + LABEL
    parts = [f'<text x="{left}" y="{MARGIN}" font-weight="bold">{escape(title)}</text>']
    y = MARGIN + GAP
    for label, value, text in bars:
        y += BAR + GAP
        parts.append(
            f'<text x="{x - 6}" y="{y}" text-anchor="end">{escape(label)}</text>'
            f'<rect x="{x}" y="{y - BAR + 3}" width="{value * scale:.1f}" height="{BAR}" '
            f'fill="{OURS}"/>'
            f'<text x="{x + value * scale + 4:.1f}" y="{y}">{escape(text)}</text>'
        )
    at_one = x + scale
    parts.append(
        f'<line x1="{at_one:.1f}" x2="{at_one:.1f}" y1="{MARGIN + GAP}" y2="{y + GAP}" '
        f'stroke="{LINE}" stroke-dasharray="4 3"/>'
    )
    return "".join(parts)


def find_bars(
    rows: Sequence[dict[str, float | str]], benchmark: str
) -> list[tuple[str, float, str]]:
    """The lines of a benchmark that have a floor: name, times the floor, that as text."""
    bars = []
    for row in rows:
        if row["benchmark"] == benchmark and row["floor"]:
            ratio = float(row["seconds"]) / float(row["floor"])
            bars.append((str(row["case"]).strip(), ratio, f"{ratio:.2f}x"))
    return bars


def main() -> None:
    """Write the picture."""
    rows = read_rows()
    found = [
        ("report on 10 x MiniLM, over its floor", find_bars(rows, "floor")),
        ("ranks of one matrix, over the floor", find_bars(rows, "spectrum")),
    ]
    panels = [(title, bars) for title, bars in found if bars]
    height = MARGIN + 3 * GAP + max(len(bars) for _, bars in panels) * (BAR + GAP)
    body = "".join(
        draw_panel(title, bars, 10 + index * WIDTH) for index, (title, bars) in enumerate(panels)
    )
    picture = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{len(panels) * WIDTH + 20}" '
        f'height="{height}" font-family="sans-serif" font-size="11" fill="{INK}">'
        f'<rect width="100%" height="100%" fill="white"/>{body}</svg>\n'
    )
    (HERE / "performance.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
