"""What lines are written on, and how text is fitted to it."""

import textwrap
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len

from altgrad_inspect.display import display_name
from altgrad_inspect.reports.shorten import shorten_name
from altgrad_inspect.reports.style import render_styled

INDENT: Final = "  "

_PROSE: Final = 120
"""Sentences are broken at this width on a wider terminal: longer lines are hard to read."""

_WIDE: Final = 120
"""From this width on, series get twice the room."""


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
        """Most bars in a series of a table."""
        return 8 if self.width is not None and self.width < _WIDE else 16

    def style(self, text: str, key: str) -> str:
        """Return ``text`` in the colour of ``key``, if there are colours."""
        return render_styled(text, key, color=self.color)

    def fit(self, name: str, *, used: int) -> str:
        """Return a name as printable text that fits beside ``used`` cells."""
        text = display_name(name)
        return text if self.width is None else shorten_name(text, max(8, self.width - used))

    def wrap(self, text: str, *, first: str, later: str | None = None) -> list[str]:
        """Break ``text`` into lines behind ``first``, the later ones behind ``later``.

        Without ``later`` they are indented as far as the first.
        """
        if self.width is None:
            return [first + text]
        rest = " " * cell_len(first) if later is None else later
        lines = textwrap.wrap(
            text,
            width=max(min(self.width, _PROSE), len(first) + 20),
            initial_indent=first,
            subsequent_indent=rest,
            break_on_hyphens=False,
        )
        return lines or [first]

    def flow(self, pieces: list[tuple[str, str]], *, indent: str, gap: str) -> list[str]:
        """Write styled pieces beside each other, on as many lines as they need.

        Args:
            pieces: Text and key of its colour; a text is never broken.
            indent: What every line begins with.
            gap: What stands between two pieces.
        """
        lines: list[str] = []
        used = 0
        for text, key in pieces:
            needed = cell_len(gap) + cell_len(text)
            if lines and (self.width is None or used + needed <= self.width):
                lines[-1] += gap + self.style(text, key)
                used += needed
            else:
                lines.append(indent + self.style(text, key))
                used = cell_len(indent) + cell_len(text)
        return lines


PIPE: Final = Page()
