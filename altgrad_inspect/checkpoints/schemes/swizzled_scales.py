"""Block scales in the order that tensor cores read."""

import torch
from torch import Tensor

_TILE_ROWS, _TILE_COLS, _ROWS_OF_TILE = 128, 4, 32


def unswizzle_scales(stored: Tensor, *, rows: int, cols: int) -> Tensor | None:
    """Bring block scales from the order that tensor cores read into that of a matrix.

    They come in tiles of 128 rows and 4 columns, padded to whole ones, tiles row by row. A tile
    is stored as 32 rows of 16: row r and column c of it at (r % 32, 4 * (r // 32) + c) (NVIDIA:
    cuBLAS, "1D block scaling factors layout"; torchao: prototype/mx_formats/utils.py).

    Args:
        stored: Any shape and dtype; scales in this order have one byte each.
        rows: Of the matrix of scales.
        cols: Of the matrix of scales.

    Returns:
        (rows, cols); None if the number of bytes is not that of the padded matrix.
    """
    row_tiles, col_tiles = -(-rows // _TILE_ROWS), -(-cols // _TILE_COLS)
    num_scales = row_tiles * col_tiles * _TILE_ROWS * _TILE_COLS
    if not stored.nbytes == stored.numel() == num_scales:
        return None
    content = stored.reshape(-1).view(torch.uint8)
    tiles = content.reshape(
        row_tiles, col_tiles, _ROWS_OF_TILE, _TILE_ROWS // _ROWS_OF_TILE, _TILE_COLS
    )
    matrix = tiles.permute(0, 3, 2, 1, 4).reshape(row_tiles * _TILE_ROWS, col_tiles * _TILE_COLS)
    return matrix[:rows, :cols].contiguous().view(stored.dtype)
