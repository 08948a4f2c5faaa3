"""Blocks of weights that share a scale: views, against numpy; swizzled scales."""

from math import prod

import numpy as np
import pytest
import torch

from altgrad_inspect.checkpoints.schemes.blocks import (
    fit_blocks,
    view_of_blocks,
)
from altgrad_inspect.checkpoints.schemes.swizzled_scales import unswizzle_scales
from altgrad_inspect.quantize.scales import Scales

CASES = [
    ((7,), (1,)),
    ((7,), (3,)),
    ((5,), (5,)),
    ((6, 8), (1, 8)),
    ((6, 8), (6, 1)),
    ((6, 8), (6, 8)),
    ((6, 8), (4, 3)),
    ((3, 6, 8), (1, 1, 4)),
    ((3, 6, 8), (1, 4, 8)),
    ((3, 6, 8), (1, 6, 8)),
    ((3, 6, 8), (2, 6, 8)),
    ((3, 6, 8), (3, 6, 8)),
    ((4, 3, 2, 2), (1, 3, 2, 2)),
    ((4, 3, 2, 2), (3, 3, 2, 2)),
    ((4, 3, 2, 6), (1, 1, 1, 4)),
]


def number_blocks(shape: tuple[int, ...], block: tuple[int, ...]) -> np.ndarray:
    """The number of the block of every weight, blocks counted row by row."""
    counts = [-(-size // part) for size, part in zip(shape, block, strict=True)]
    numbers = np.zeros(shape, dtype=np.int64)
    for index in np.ndindex(shape):
        at = tuple(place // part for place, part in zip(index, block, strict=True))
        numbers[index] = np.ravel_multi_index(at, counts)
    return numbers


@pytest.mark.parametrize(("shape", "block"), CASES)
def test_every_weight_has_the_scale_of_its_block(
    shape: tuple[int, ...], block: tuple[int, ...]
) -> None:
    view = view_of_blocks(shape, block)
    assert view is not None
    assert prod(view.shape) == prod(shape)
    expected = number_blocks(shape, block)
    stored = torch.arange(int(expected.max()) + 1, dtype=torch.float32)
    values = fit_blocks(stored, view)
    assert values is not None
    assert tuple(values.shape) == view.num_blocks
    rows, cols = view.shape
    found = Scales(values=values, view=view).tile(slice(0, rows), slice(0, cols))
    assert np.array_equal(found.expand(rows, cols).reshape(shape).numpy(), expected)


@pytest.mark.parametrize(
    ("shape", "block"),
    [
        ((6, 8), (1,)),
        ((6, 8), (0, 8)),
        ((6, 8), (1, 9)),
        ((4, 6, 8), (2, 3, 8)),
        ((4, 3, 2, 2), (1, 1, 2, 2)),
    ],
)
def test_blocks_that_are_no_rectangles(shape: tuple[int, ...], block: tuple[int, ...]) -> None:
    assert view_of_blocks(shape, block) is None


def test_as_many_numbers_as_blocks() -> None:
    view = view_of_blocks((6, 8), (1, 4))
    assert view is not None
    assert fit_blocks(torch.ones(6, 3), view) is None
    assert fit_blocks(torch.ones(12), view) is not None


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (128, 4), (130, 5), (256, 8), (33, 9)])
def test_swizzled_scales_come_back(rows: int, cols: int) -> None:
    """Byte by byte, by the formula of the layout."""
    draw = np.random.default_rng(rows)
    matrix = draw.integers(0, 256, (rows, cols), dtype=np.uint8)
    row_tiles, col_tiles = -(-rows // 128), -(-cols // 4)
    stored = np.zeros(row_tiles * col_tiles * 512, dtype=np.uint8)
    for row, col in np.ndindex(matrix.shape):
        tile = (row // 128) * col_tiles + col // 4
        inner = row % 128
        stored[tile * 512 + (inner % 32) * 16 + (inner // 32) * 4 + col % 4] = matrix[row, col]
    for dtype in (torch.uint8, torch.float8_e4m3fn):
        scales = torch.from_numpy(stored).view(dtype).reshape(-1, 16)
        found = unswizzle_scales(scales, rows=rows, cols=cols)
        assert found is not None
        assert found.dtype is dtype
        assert np.array_equal(found.view(torch.uint8).numpy(), matrix)
    assert unswizzle_scales(torch.zeros(100, dtype=torch.uint8), rows=rows, cols=cols) is None
