"""Long layer names on a narrow terminal: leave out what distinguishes layers least."""

from typing import Final

from rich.cells import cell_len, chop_cells

ELLIPSIS: Final = "…"


def shorten_name(name: str, width: int) -> str:
    """Return ``name`` in at most ``width`` terminal cells.

    The dotted parts that say least go first: those before the layer number, then the
    last one (``weight``), so that ``model.layers.12.self_attn.q_proj.weight`` becomes
    ``…12.self_attn.q_proj.weight`` before it is cut in the middle.
    """
    if cell_len(name) <= width:
        return name
    parts = name.split(".")
    first_number = next((i for i, part in enumerate(parts) if part.isdigit()), 0)
    for dropped in range(1, first_number + 1):
        shorter = ELLIPSIS + ".".join(parts[dropped:])
        if cell_len(shorter) <= width:
            return shorter
    if first_number and first_number < len(parts) - 2:
        shorter = ELLIPSIS + ".".join(parts[first_number:-1]) + ELLIPSIS
        if cell_len(shorter) <= width:
            return shorter
    return _cut_middle(name, width)


def _cut_middle(name: str, width: int) -> str:
    if width <= 1:
        return ELLIPSIS[:width]
    head = (width - 1) // 3
    return _first_cells(name, head) + ELLIPSIS + _first_cells(name[::-1], width - 1 - head)[::-1]


def _first_cells(text: str, width: int) -> str:
    piece = chop_cells(text, width)[0] if width else ""
    return piece if cell_len(piece) <= width else ""
