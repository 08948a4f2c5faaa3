"""Status, state and severity: one word, one symbol and one colour each, said once.

Only the sixteen named colours of the terminal are used, which its owner has chosen to be
legible on a light or a dark ground; the word always stands beside the colour.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a status looks: ``sgr`` is the parameter of the terminal's colour sequence."""

    word: str
    symbol: str
    sgr: str


PLAIN: Final = Look(word="", symbol=" ", sgr="")

LOOKS: Final[Mapping[str, Look]] = MappingProxyType(
    {
        "critical": Look(word="critical", symbol="✖", sgr="1;31"),
        "warning": Look(word="warning", symbol="▲", sgr="33"),
        "info": Look(word="info", symbol="•", sgr="36"),
        "ok": Look(word="ok", symbol="✔", sgr="32"),
        "healthy": Look(word="healthy", symbol="✔", sgr="32"),
        "undecided": Look(word="undecided", symbol="?", sgr="2"),
        "failed": Look(word="failed", symbol="✖", sgr="1;31"),
        "undefined": Look(word="undefined", symbol="-", sgr="33"),
        "skipped": Look(word="skipped", symbol="-", sgr="2"),
        "warmup": Look(word="warmup", symbol="•", sgr="2"),
        "insufficient": Look(word="insufficient", symbol="-", sgr="2"),
        "title": Look(word="", symbol="", sgr="1"),
        "dim": Look(word="", symbol="", sgr="2"),
        "series": Look(word="", symbol="", sgr="36"),
    }
)

ASCII: Final = str.maketrans(
    {
        "✖": "x",
        "▲": "!",
        "•": "*",
        "✔": "+",
        "…": "~",
        "→": ">",
        "·": "-",
        "\N{MULTIPLICATION SIGN}": "x",
        **dict(zip("▁▂▃▄▅▆▇█", "_.:-=+*#", strict=True)),
    }
)
"""For an output that cannot hold the symbols: the nearest ASCII character of each."""


def find_look(key: str) -> Look:
    """Return the look of a status, state or severity; a plain one if it has none."""
    return LOOKS.get(key, PLAIN)


def render_styled(text: str, key: str, *, color: bool) -> str:
    """Return ``text`` in the colour of ``key``, or as it is without ``color``."""
    sgr = find_look(key).sgr
    return f"\x1b[{sgr}m{text}\x1b[0m" if color and sgr and text else text
