"""Which weights share a scale, from the shape of a weight and of its blocks."""

from math import prod

import torch
from torch import Tensor

from altgrad_inspect.quantize.scales import View


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


def count_blocks(view: View) -> tuple[int, int]:
    """(Block rows of all matrices, block columns) of a view."""
    if view.block_rows is None:
        return 1, 1
    block_rows = -(-view.rows // view.block_rows)
    return view.num_matrices * block_rows, -(-view.cols // view.block_cols)


def fit_blocks(stored: Tensor, view: View) -> Tensor | None:
    """Return one number a block in the order of ``view``; None if there are more or fewer."""
    rows, cols = count_blocks(view)
    return stored.reshape(rows, cols) if stored.numel() == rows * cols else None


_TILE_ROWS, _TILE_COLS, _ROWS_OF_TILE = 128, 4, 32


def unswizzle_scales(stored: Tensor, *, rows: int, cols: int) -> Tensor | None:
    """Bring block scales from the order that tensor cores read into that of a matrix.

    They come in tiles of 128 rows and 4 columns, padded to whole ones, tiles row by row. A tile
    is stored as 32 rows of 16: row r and column c of it at (r % 32, 4 * (r // 32) + c) (NVIDIA:
    cuBLAS, "1D block scaling factors layout"; torchao: prototype/mx_formats/utils.py).

    Args:
        stored: Any shape and dtype of one byte.
        rows: Of the matrix of scales.
        cols: Of the matrix of scales.

    Returns:
        (rows, cols); None if the number of scales is not that of the padded matrix.
    """
    row_tiles, col_tiles = -(-rows // _TILE_ROWS), -(-cols // _TILE_COLS)
    if stored.numel() != row_tiles * col_tiles * _TILE_ROWS * _TILE_COLS:
        return None
    content = stored.reshape(-1).view(torch.uint8)
    tiles = content.reshape(
        row_tiles, col_tiles, _ROWS_OF_TILE, _TILE_ROWS // _ROWS_OF_TILE, _TILE_COLS
    )
    matrix = tiles.permute(0, 3, 2, 1, 4).reshape(row_tiles * _TILE_ROWS, col_tiles * _TILE_COLS)
    return matrix[:rows, :cols].contiguous().view(stored.dtype)
