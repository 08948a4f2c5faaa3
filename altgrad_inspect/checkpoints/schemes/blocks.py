"""Which weights share a stored scale: told from shapes, or from the sizes of a block."""

from dataclasses import dataclass
from math import prod
from typing import Final

import torch
from torch import Tensor

from altgrad_inspect.checkpoints.schemes.parts import read_scale
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.quantize.scales import Scales, View
from altgrad_inspect.refs import Fact

BLOCK_ROWS: Final = "block_rows"
BLOCK_COLS: Final = "block_cols"
"""Facts of a layer: the block size that the configuration gives."""

WHOLE_GROUPS: Final = "whole_groups"
"""Fact of a layer: its groups of columns are equally long, so none is cut off at the end."""

_SMALLEST_CUT_OFF: Final = 32
"""Blocks whose last one is cut off are powers of two from here on, unless a configuration says."""


def stack_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(matrices, rows, columns) of a weight of 1 to 3 dimensions, the last one the input."""
    match shape:
        case (cols,):
            return 1, 1, cols
        case (rows, cols):
            return 1, rows, cols
        case (count, rows, cols):
            return count, rows, cols
        case _:
            msg = f"shape {list(shape)}: expected 1 to 3 dimensions"
            raise CheckpointError(msg)


def view_of(shape: tuple[int, ...], *, block_rows: int, block_cols: int) -> View:
    """The 2-D view of a weight whose scales cover blocks of so many rows and columns."""
    count, rows, cols = stack_shape(shape)
    return View(
        num_matrices=count, rows=rows, cols=cols, block_rows=block_rows, block_cols=block_cols
    )


def view_of_blocks(shape: tuple[int, ...], block: tuple[int, ...]) -> View | None:
    """Return a 2-D view of a weight in which its blocks are rectangles; None if there is none.

    Args:
        shape: Of the weight, no dimension 0.
        block: Sizes of a block in the same dimensions, from 1 to those of ``shape``.
    """
    sizes = zip(block, shape, strict=False)
    if len(block) != len(shape) or not all(1 <= part <= size for part, size in sizes):
        return None
    count, rows, cols = 1, 1, prod(shape)
    block_rows: int | None = 1
    block_cols = cols
    match shape, block:
        case _ if block == shape:
            block_rows = None
        case (_,), (block_cols,):
            pass
        case (rows, cols), (block_rows, block_cols):
            pass
        case (count, rows, cols), (1, block_rows, block_cols):
            pass
        case (rows, *inner), (block_rows, *inner_block) if inner == inner_block:
            cols = block_cols = prod(inner)
        case (*outer, cols), (*outer_block, block_cols) if prod(outer_block) == 1:
            rows = prod(outer)
        case _:
            return None
    return View(
        num_matrices=count, rows=rows, cols=cols, block_rows=block_rows, block_cols=block_cols
    )


def fit_blocks(stored: Tensor, view: View) -> Tensor | None:
    """Return one number a block in the order of ``view``; None if there are more or fewer."""
    return stored.reshape(view.num_blocks) if stored.numel() == prod(view.num_blocks) else None


def divide_evenly(shape: tuple[int, ...], counts: tuple[int, ...]) -> tuple[int, ...] | None:
    """Sizes of the blocks that cut a weight into ``counts`` a dimension; None if not evenly."""
    if len(counts) != len(shape) or 0 in counts:
        return None
    pairs = tuple(zip(shape, counts, strict=True))
    return None if any(size % count for size, count in pairs) else tuple(s // c for s, c in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """How stored scales cover a layer.

    Attributes:
        view: The layer as its blocks see it.
    """

    view: View

    def spread(self, stored: Tensor) -> Tensor:
        """Return one number a block, as ``view.num_blocks`` says; one number is that of all."""
        shape = self.view.num_blocks
        whole = stored.reshape(1, 1).expand(shape) if stored.numel() == 1 else stored
        return whole.reshape(shape).contiguous()

    def read(self, scale: Tensor) -> Scales:
        """Return stored scales as those of the layer."""
        return Scales(values=self.spread(read_scale(scale)), view=self.view)


def find_blocks(
    shape: tuple[int, ...], scale_shape: tuple[int, ...], facts: dict[str, Fact] | None = None
) -> Blocks | None:
    """Return the blocks that scales of ``scale_shape`` cut a layer of ``shape`` into.

    Args:
        shape: Of the layer, 1 to 3 dimensions.
        scale_shape: Of the stored scales: one number; one a row or a matrix; one a block, also
            with a dimension of one behind each of two (ModelOpt).
        facts: `BLOCK_ROWS`, `BLOCK_COLS` and `WHOLE_GROUPS` where they are known.

    Returns:
        None if they do not fit, or if blocks of several sizes would do.
    """
    known = facts or {}
    if not 1 <= len(shape) <= 3 or 0 in shape:
        return None
    _, rows, cols = stack_shape(shape)
    counts = _count_blocks(shape, scale_shape)
    if counts is None:
        return None
    block_rows = _block_size(rows, counts[0], known.get(BLOCK_ROWS), is_whole=False)
    if known.get(WHOLE_GROUPS) and (counts[1] == 0 or cols % counts[1]):
        return None
    is_whole = bool(known.get(WHOLE_GROUPS)) or counts[0] == rows > 1
    block_cols = _block_size(cols, counts[1], known.get(BLOCK_COLS), is_whole=is_whole)
    if block_rows is None or block_cols is None:
        return None
    return Blocks(view=view_of(shape, block_rows=block_rows, block_cols=block_cols))


def _count_blocks(shape: tuple[int, ...], scale: tuple[int, ...]) -> tuple[int, int] | None:
    """(Block rows, block columns) of every matrix."""
    if torch.Size(scale).numel() == 1:
        return 1, 1
    if len(shape) == 3:
        return _count_blocks_of_matrices(shape, scale)
    match shape, scale:
        case (_,), (num_blocks,):
            return 1, num_blocks
        case (rows, _), (num_rows,) if num_rows == rows:
            return rows, 1
        case (_, _), (block_rows, block_cols) | (block_rows, 1, block_cols, 1):
            return block_rows, block_cols
        case _:
            return None


def _count_blocks_of_matrices(
    shape: tuple[int, ...], scale: tuple[int, ...]
) -> tuple[int, int] | None:
    count, rows, cols = shape
    if not scale or scale[0] != count:
        return None
    match scale[1:]:
        case () | (1,):
            return 1, 1
        case (num,) if rows != cols:  # else it could be one a row or one a column
            return {rows: (rows, 1), cols: (1, cols)}.get(num)
        case (block_rows, block_cols):
            return block_rows, block_cols
        case _:
            return None


def _block_size(size: int, num_blocks: int, known: Fact, *, is_whole: bool) -> int | None:
    """Return the size of ``num_blocks`` blocks, the last one maybe short; None if it is unsure.

    Args:
        size: Of what is cut.
        num_blocks: Into how many.
        known: The block size that the configuration gives; used if it gives as many blocks.
        is_whole: Whether blocks are likely to be equally long.
    """
    if isinstance(known, int) and known > 0 and -(-size // known) == num_blocks:
        return min(known, size)
    if num_blocks < 1 or num_blocks > size:
        return None
    if num_blocks == 1 or (is_whole and size % num_blocks == 0):
        return size // num_blocks
    smallest = -(-size // num_blocks)
    largest = -(-size // (num_blocks - 1)) - 1
    power = 1 << (smallest - 1).bit_length()
    if smallest in {largest, power}:
        return smallest if -(-size // smallest) == num_blocks else None
    is_cut_off = size % num_blocks != 0 and _SMALLEST_CUT_OFF <= power <= largest
    return power if is_cut_off else None
