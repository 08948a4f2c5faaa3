"""Long layer names on a narrow terminal: leave out what distinguishes layers least."""

from collections.abc import Iterator
from typing import Final

from rich.cells import cell_len, chop_cells

ELLIPSIS: Final = "…"


def shorten_name(name: str, width: int) -> str:
    """Return ``name`` in at most ``width`` terminal cells.

    The dotted parts that say least go first: those before the layer number, then a final
    ``weight``, then those between: ``model.layers.12.self_attn.q_proj.weight`` becomes
    ``…12.self_attn.q_proj.weight``, ``…12.self_attn.q_proj…``, ``…12…q_proj.weight``.
    What is still too long is cut in the middle.
    """
    if cell_len(name) <= width:
        return name
    shorter = name
    for shorter in _leave_out_parts(name.split(".")):
        if cell_len(shorter) <= width:
            return shorter
    return _cut_middle(shorter, width)


def _leave_out_parts(parts: list[str]) -> Iterator[str]:
    number = next((index for index, part in enumerate(parts) if part.isdigit()), 0)
    for start in range(1, number + 1):
        yield ELLIPSIS + ".".join(parts[start:])
    if not number:
        return
    if parts[-1] == "weight" and len(parts) > number + 2:
        yield ELLIPSIS + ".".join(parts[number:-1]) + ELLIPSIS
    if len(parts) > number + 3:
        yield ELLIPSIS + parts[number] + ELLIPSIS + ".".join(parts[-2:])


def _cut_middle(name: str, width: int) -> str:
    if width <= 1:
        return ELLIPSIS[:width]
    head = (width - 1) // 3
    return _first_cells(name, head) + ELLIPSIS + _first_cells(name[::-1], width - 1 - head)[::-1]


def _first_cells(text: str, width: int) -> str:
    piece = chop_cells(text, width)[0] if width else ""
    return piece if cell_len(piece) <= width else ""
