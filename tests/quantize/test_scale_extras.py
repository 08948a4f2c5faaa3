"""Scales that do more than divide: factors, shifts, zero points, bounds and uneven columns."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from altgrad_inspect.formats import IntFormat
from altgrad_inspect.quantize import scales as scales_module
from altgrad_inspect.quantize.quantizer import Ties
from altgrad_inspect.quantize.scales import Scales, View, tiles

WIDE = IntFormat(name="int4", bits=4, low=-15, high=15)


def encode(scales: Scales, weights: torch.Tensor, ties: Ties = Ties.EVEN) -> torch.Tensor:
    ordinals = torch.empty(weights.shape, dtype=torch.int16)
    for at in tiles(scales.view, weights.device):
        scaled = scales.scale_down(weights[at], *at)
        ordinals[at] = scales.encode(scaled, WIDE, at, ties=ties).short()
    return ordinals


@settings(max_examples=60)
@given(
    rows=st.integers(1, 7),
    cols=st.integers(1, 11),
    high=st.integers(1, 4),
    wide=st.integers(1, 5),
    matrices=st.integers(1, 2),
    seed=st.integers(0, 999),
    tile=st.sampled_from([3, 1 << 16]),
    multiplies=st.booleans(),
    shifts=st.booleans(),
    zeros=st.booleans(),
)
def test_every_weight_takes_the_steps_of_its_block(  # noqa: PLR0917
    rows: int,
    cols: int,
    high: int,
    wide: int,
    matrices: int,
    seed: int,
    tile: int,
    multiplies: bool,  # noqa: FBT001
    shifts: bool,  # noqa: FBT001
    zeros: bool,  # noqa: FBT001
) -> None:
    draw = np.random.default_rng(seed)
    view = View(num_matrices=matrices, rows=rows, cols=cols, block_rows=high, block_cols=wide)
    shape = (matrices * -(-rows // high), -(-cols // wide))
    blocks: dict[str, NDArray[Any]] = {
        "values": draw.uniform(0.1, 0.3, shape).astype(np.float32),
        "multipliers": draw.uniform(3, 9, shape).astype(np.float32),
        "shifts": draw.uniform(-0.5, 0.5, shape).astype(np.float32),
        "offsets": draw.integers(-3, 3, shape).astype(np.float32),
        "zeros": draw.integers(-3, 3, shape).astype(np.int16),
        "lowest": draw.integers(-9, -1, shape).astype(np.int16),
        "highest": draw.integers(1, 9, shape).astype(np.int16),
    }
    wanted = {"values", "lowest", "highest"}
    wanted |= {"multipliers"} if multiplies else set()
    wanted |= {"shifts"} if shifts else set()
    wanted |= {"zeros", "offsets"} if zeros else set()
    tensors = {name: torch.from_numpy(blocks[name]) for name in wanted}
    scales = Scales(view=view, **tensors)
    weights = draw.standard_normal(view.shape).astype(np.float32)
    weights[0, 0] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scales_module, "TILE_WEIGHTS", tile)
        found = encode(scales, torch.from_numpy(weights))
    for row, col in np.ndindex(*view.shape):
        at = row // rows * (shape[0] // matrices) + row % rows // high, col // wide
        if (row, col) == (0, 0):
            assert found[row, col] == torch.iinfo(torch.int8).min  # NaN stays NaN
            continue
        scaled = weights[row, col] - blocks["shifts"][at] if shifts else weights[row, col]
        scaled = scaled * blocks["multipliers"][at] if multiplies else scaled / blocks["values"][at]
        scaled = scaled + blocks["offsets"][at] if zeros else scaled
        code = int(np.clip(np.rint(scaled), -15, 15)) - (int(blocks["zeros"][at]) if zeros else 0)
        assert found[row, col] == np.clip(code, blocks["lowest"][at], blocks["highest"][at])


def test_columns_may_belong_to_blocks_in_any_order() -> None:
    view = View(num_matrices=1, rows=2, cols=5, block_rows=1, block_cols=3)
    values = torch.tensor([[1.0, 2.0], [4.0, 8.0]])
    order = torch.tensor([1, 0, 0, 1, 0])
    scales = Scales(values=values, view=view, col_blocks=order)
    assert scales.tile(slice(0, 2), slice(1, 5)).tolist() == [[1, 1, 2, 1], [4, 4, 8, 4]]
    weights = torch.full((2, 5), 8.0)
    assert encode(scales, weights).tolist() == [[4, 8, 8, 4, 8], [1, 2, 2, 1, 2]]
    assert not scales.is_plain


def test_only_scales_that_divide_are_plain() -> None:
    view = View(num_matrices=1, rows=1, cols=1, block_rows=1, block_cols=1)
    one = torch.ones((1, 1))
    assert Scales(values=one, view=view, amax=one).is_plain
    for extra in (
        {"multipliers": one},
        {"shifts": one},
        {"offsets": one},
        {"lowest": one.short(), "highest": one.short()},
    ):
        assert not Scales(values=one, view=view, **extra).is_plain


@pytest.mark.parametrize("name", ["multipliers", "shifts", "offsets", "zeros", "lowest"])
def test_another_zero_point_or_factor_is_another_scale(name: str) -> None:
    view = View(num_matrices=1, rows=1, cols=2, block_rows=1, block_cols=1)
    dtype = torch.int16 if name in {"zeros", "lowest"} else torch.float32
    one = Scales(values=torch.ones(1, 2), view=view, **{name: torch.ones((1, 2), dtype=dtype)})
    other = Scales(
        values=torch.ones(1, 2), view=view, **{name: torch.tensor([[1, 2]], dtype=dtype)}
    )
    assert one.differs_from(other).tolist() == [[False, True]]
    assert not one.equals(other)
    assert one.equals(one.cpu())


def test_moving_to_the_cpu_moves_everything() -> None:
    view = View(num_matrices=1, rows=1, cols=2, block_rows=1, block_cols=1)
    full = Scales(
        values=torch.ones(1, 2),
        view=view,
        multipliers=torch.ones(1, 2),
        shifts=torch.ones(1, 2),
        zeros=torch.ones((1, 2), dtype=torch.int16),
        amax=torch.ones(1, 2),
    )
    moved = full.cpu()
    assert moved.equals(full)
    assert moved.amax is not None
    assert moved.zeros is not None
