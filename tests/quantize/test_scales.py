"""Scales against a loop over blocks in numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from altgrad_inspect.quantize import scales as scales_module
from altgrad_inspect.quantize.rules import fit_scales
from altgrad_inspect.quantize.rules.amax import SMALLEST_SCALE
from altgrad_inspect.quantize.scales import Scales, tiles, view_for
from altgrad_inspect.quantize.spec import parse_quantizer

GRANULARITIES = ["tensor", "channel", "block=3x5", "block=128x128", "group=4", "group=7"]


def scale_of_every_weight(scales: Scales) -> torch.Tensor:
    full = torch.empty(scales.view.shape)
    for rows, cols in tiles(scales.view, torch.device("cpu")):
        full[rows, cols] = scales.tile(rows, cols)
    return full


def expected_scale(block: np.ndarray, maximum: float, rule: str) -> np.float32:
    finite = np.abs(block[np.isfinite(block)]).astype(np.float32)
    if finite.size == 0 or finite.max() == 0:
        return np.float32(1)
    scale = np.float32(finite.max() / np.float32(maximum))
    scale = max(scale, np.float32(SMALLEST_SCALE))
    if rule == "pow2":
        scale = np.float32(2.0 ** math.ceil(math.log2(float(scale))))
    return np.float32(scale)


def block_bounds(
    granularity: str, matrices: int, rows: int, cols: int
) -> list[tuple[slice, slice]]:
    """Blocks of the (matrices * rows, cols) view, found one by one."""
    if granularity == "tensor":
        return [(slice(0, matrices * rows), slice(0, cols))]
    high, wide = 1, cols
    if granularity.startswith("block="):
        high, wide = map(int, granularity.removeprefix("block=").split("x"))
    elif granularity.startswith("group="):
        wide = int(granularity.removeprefix("group="))
    return [
        (slice(m * rows + r, m * rows + min(r + high, rows)), slice(c, min(c + wide, cols)))
        for m in range(matrices)
        for r in range(0, rows, high)
        for c in range(0, cols, wide)
    ]


@settings(max_examples=120, deadline=None)
@given(
    granularity=st.sampled_from(GRANULARITIES),
    rule=st.sampled_from(["amax", "pow2"]),
    fmt=st.sampled_from(["e4m3", "e2m1", "int8", "e0m7"]),
    matrices=st.integers(1, 3),
    rows=st.integers(1, 9),
    cols=st.integers(1, 13),
    seed=st.integers(0, 2**16),
    tile=st.sampled_from([4, 5, 64, 1 << 16]),
)
def test_every_weight_gets_the_scale_of_its_block(  # noqa: PLR0917
    granularity: str, rule: str, fmt: str, matrices: int, rows: int, cols: int, seed: int, tile: int
) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((matrices * rows, cols)).astype(np.float32)
    weights *= 10.0 ** rng.integers(-3, 3)
    weights[rng.random(weights.shape) < 0.1] = rng.choice([0.0, np.nan, np.inf, -np.inf])
    quantizer = parse_quantizer(f"{fmt}:{granularity}:{rule}")
    view = view_for(quantizer, num_matrices=matrices, rows=rows, cols=cols)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scales_module, "TILE_WEIGHTS", tile)
        scales = fit_scales(torch.from_numpy(weights).reshape(view.shape), quantizer, view)
        got = scale_of_every_weight(scales).reshape(weights.shape).numpy()
    bounds = block_bounds(granularity, matrices, rows, cols)
    assert scales.values.numel() == len(bounds)
    for at in bounds:
        assert (got[at] == expected_scale(weights[at], quantizer.fmt.max, rule)).all()


@pytest.mark.parametrize("granularity", ["group=4", "group=7", "block=2x3", "channel"])
def test_a_tile_may_begin_and_end_inside_of_a_block(granularity: str) -> None:
    quantizer = parse_quantizer(f"e4m3:{granularity}")
    view = view_for(quantizer, num_matrices=2, rows=3, cols=23)
    weights = torch.randn(6, 23, generator=torch.Generator().manual_seed(0))
    scales = fit_scales(weights, quantizer, view)
    whole = scales.tile(slice(0, 6), slice(0, 23)).expand(6, 23)
    for start in range(23):
        for stop in range(start + 1, 24):
            part = scales.tile(slice(1, 5), slice(start, stop)).expand(4, stop - start)
            assert torch.equal(part, whole[1:5, start:stop])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_scales_of_any_dtype_are_those_of_the_same_numbers_in_float32(
    granularity: str, dtype: torch.dtype
) -> None:
    quantizer = parse_quantizer(f"e4m3:{granularity}")
    view = view_for(quantizer, num_matrices=1, rows=7, cols=11)
    weights = torch.randn(7, 11, generator=torch.Generator().manual_seed(0)).to(dtype)
    for value in (0.0, -0.0, torch.nan, torch.inf, -torch.inf):
        weights[3, 4:8] = value
        scales = fit_scales(weights.reshape(view.shape), quantizer, view)
        wide = fit_scales(weights.float().reshape(view.shape), quantizer, view)
        assert torch.equal(scales.values, wide.values)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("shape", [(1, 0, 4), (1, 4, 0), (0, 3, 3)])
def test_empty_layers_have_scales_without_a_crash(
    granularity: str, shape: tuple[int, int, int]
) -> None:
    quantizer = parse_quantizer(f"e4m3:{granularity}")
    num_matrices, rows, cols = shape
    view = view_for(quantizer, num_matrices=num_matrices, rows=rows, cols=cols)
    scales = fit_scales(torch.empty(view.shape), quantizer, view)
    assert torch.isfinite(scales.values).all()


def test_a_power_of_two_scale_is_rounded_up_and_kept_when_exact() -> None:
    quantizer = parse_quantizer("int8:channel:pow2")
    view = view_for(quantizer, num_matrices=1, rows=3, cols=1)
    weights = torch.tensor([[127.0], [127.1], [126.9]])
    assert fit_scales(weights, quantizer, view).values.flatten().tolist() == [1.0, 2.0, 1.0]


def test_a_scale_never_underflows_and_wide_formats_need_none() -> None:
    tiny = torch.full((1, 4), 1e-45)
    quantizer = parse_quantizer("e4m3")
    view = view_for(quantizer, num_matrices=1, rows=1, cols=4)
    assert fit_scales(tiny, quantizer, view).values.item() == SMALLEST_SCALE
    wide = parse_quantizer("bf16")
    assert fit_scales(tiny, wide, view_for(wide, num_matrices=1, rows=1, cols=4)).values == 1


def test_none_and_numbers_ignore_the_weights() -> None:
    weights = torch.tensor([[3.0, torch.nan]])
    for spec, value in (("e4m3:tensor:none", 1.0), ("e4m3:channel:0.5", 0.5)):
        quantizer = parse_quantizer(spec)
        view = view_for(quantizer, num_matrices=1, rows=1, cols=2)
        assert fit_scales(weights, quantizer, view).values.tolist() == [[value]]
