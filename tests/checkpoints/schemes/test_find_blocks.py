"""Which weights share a scale, told from shapes, against numpy; and where shapes are not enough."""

import numpy as np
import pytest
import torch

from altgrad_inspect.checkpoints.schemes.blocks import (
    BLOCK_COLS,
    BLOCK_ROWS,
    WHOLE_GROUPS,
    find_blocks,
)
from altgrad_inspect.quantize.scales import Scales
from altgrad_inspect.refs import Fact

WHOLE: dict[str, Fact] = {WHOLE_GROUPS: True}
KNOWN: dict[str, Fact] = {BLOCK_ROWS: 5, BLOCK_COLS: 48}


@pytest.mark.parametrize(
    ("shape", "scale_shape", "facts", "block"),
    [
        ((40,), (5,), {}, (8,)),
        ((6, 8), (), {}, (6, 8)),
        ((6, 8), (1,), {}, (6, 8)),
        ((6, 8), (6,), {}, (1, 8)),
        ((6, 8), (6, 1), {}, (1, 8)),
        ((6, 96), (6, 2), {}, (1, 48)),
        ((1, 96), (1, 2), WHOLE, (1, 48)),
        ((256, 384), (2, 3), {}, (128, 128)),
        ((201, 260), (2, 3), {}, (128, 128)),
        ((256, 384), (2, 1, 3, 1), {}, (128, 128)),
        ((12, 96), (3, 2), KNOWN, (5, 48)),
        ((3, 6, 8), (), {}, (3, 6, 8)),
        ((3, 6, 8), (3,), {}, (1, 6, 8)),
        ((3, 6, 8), (3, 1), {}, (1, 6, 8)),
        ((3, 6, 8), (3, 6), {}, (1, 1, 8)),
        ((3, 6, 8), (3, 8), {}, (1, 6, 1)),
        ((3, 6, 8), (3, 1, 1), {}, (1, 6, 8)),
        ((3, 6, 64), (3, 6, 2), {}, (1, 1, 32)),
        ((3, 201, 64), (3, 2, 1), {}, (1, 128, 64)),
    ],
)
def test_every_weight_has_the_scale_of_its_block(
    shape: tuple[int, ...],
    scale_shape: tuple[int, ...],
    facts: dict[str, Fact],
    block: tuple[int, ...],
) -> None:
    blocks = find_blocks(shape, scale_shape, facts)
    assert blocks is not None
    rows, cols = blocks.view.shape
    stored = torch.arange(float(np.prod(scale_shape, dtype=int))).reshape(scale_shape)
    scales = Scales(values=blocks.spread(stored), view=blocks.view)
    found = scales.tile(slice(0, rows), slice(0, cols)).expand(rows, cols).reshape(shape)
    counts = [-(-size // part) for size, part in zip(shape, block, strict=True)]
    for index in np.ndindex(shape):
        at = tuple(place // part for place, part in zip(index, block, strict=True))
        assert found[index] == np.ravel_multi_index(at, counts)


@pytest.mark.parametrize(
    ("shape", "scale_shape", "facts"),
    [
        ((6, 8), (7,), {}),
        ((6, 8), (8, 6), {}),
        ((6, 8), (6, 8, 2), {}),
        ((6, 8), (0, 8), {}),
        ((0, 8), (1,), {}),
        ((3, 6, 6), (3, 6), {}),  # rows or columns
        ((3, 6, 8), (2, 6, 8), {}),
        ((2, 3, 4, 5), (1,), {}),
        ((12, 96), (2, 3), {BLOCK_ROWS: 5, BLOCK_COLS: 48}),
        ((9, 64), (9, 7), WHOLE),
        ((192, 64), (2, 1), {}),  # blocks of 96 or 128
        ((41, 8), (3, 1), {}),  # 14 to 20, of which 16 is too small to be sure
    ],
)
def test_shapes_that_do_not_tell(
    shape: tuple[int, ...], scale_shape: tuple[int, ...], facts: dict[str, Fact]
) -> None:
    assert find_blocks(shape, scale_shape, facts) is None
