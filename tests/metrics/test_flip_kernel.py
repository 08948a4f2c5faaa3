"""The compiled kernel against the torch path: every count identical, every sum close."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from altgrad_inspect.formats import element_format
from altgrad_inspect.metrics.flip_kernel import MIN_WEIGHTS, describe_grid, worth_compiling
from altgrad_inspect.metrics.flips import FlipMeter
from altgrad_inspect.quantize import scales as scales_module
from altgrad_inspect.quantize.spec import parse_quantizer
from altgrad_inspect.records import FlipCounts

pytest.importorskip("numba", reason="the kernel needs numba: pip install altgrad-inspect[fast]")

SPLITS = [f"e{e}m{7 - e}" for e in range(8)]
SPECS = [
    *SPLITS,
    "int8",
    "int4:channel",
    "e2m1:group=32:pow2",
    "e3m4:block=3x50",
    "e4m3:channel:none",
    "fp16:tensor:none",
    "e6m9",
]


def follow(spec: str, run: list[torch.Tensor], *, compiled: bool) -> list[FlipCounts]:
    meter = FlipMeter(parse_quantizer(spec), tuple(run[0].shape), compiled=compiled)
    meter.start(run[0])
    return [meter.advance(a, b) for a, b in pairwise(run)]


def assert_same(one: FlipCounts, other: FlipCounts) -> None:
    for field in dataclasses.fields(FlipCounts):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, float) and isinstance(right, float):
            tolerance = 1e-6 if field.name == "num_expected_flips" else 1e-12
            assert math.isclose(left, right, rel_tol=tolerance), field.name
        else:
            assert left == right, field.name


def make_run(seed: int, shape: tuple[int, ...], dtype: torch.dtype) -> list[torch.Tensor]:
    """Moves of every size, zeros of both signs, reverts, a new outlier, and NaN at the end."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(shape, generator=generator)
    flat = first.reshape(-1)
    flat[::7], flat[3::11] = 0.0, -0.0
    moved = first + torch.randn(shape, generator=generator) * 10.0 ** (
        torch.rand(shape, generator=generator) * 6 - 5
    )
    outlier = moved.clone()
    outlier.reshape(-1)[1] = 40.0
    broken = moved.clone()
    broken.reshape(-1)[2::29] = torch.nan
    broken.reshape(-1)[5] = torch.inf
    run = [first, moved, first.clone(), moved.clone(), outlier, first * 1.01, broken, moved]
    return [weights.to(dtype) for weights in run]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("spec", SPECS)
def test_the_kernel_counts_what_torch_counts(spec: str, dtype: torch.dtype) -> None:
    for seed, shape in enumerate([(37, 129), (3, 5, 40), (5000,)]):
        run = make_run(seed, shape, dtype)
        pairs = zip(
            follow(spec, run, compiled=True), follow(spec, run, compiled=False), strict=True
        )
        for compiled, torched in pairs:
            assert_same(compiled, torched)


def test_every_midpoint_of_every_split_gets_the_same_code_in_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scales_module, "TILE_WEIGHTS", 1 << 10)
    for name in (*SPLITS, "int8", "fp16"):
        fmt = element_format(name)
        values = np.array([fmt.value_of(i) for i in range(fmt.code_of_max + 1)], np.float32)
        middles = (values[:-1] + values[1:]) / 2
        around = [np.nextafter(middles, np.float32(side)) for side in (-np.inf, np.inf)]
        points = torch.from_numpy(np.concatenate([values, middles, *around]).astype(np.float32))
        points = torch.cat([points, -points])
        run = [torch.zeros_like(points), points, -points, points.roll(1)]
        spec = f"{name}:tensor:none"
        pairs = zip(
            follow(spec, run, compiled=True), follow(spec, run, compiled=False), strict=True
        )
        for compiled, torched in pairs:
            assert_same(compiled, torched)


def test_formats_beyond_float32_and_wide_weights_take_the_torch_path() -> None:
    assert describe_grid(element_format("e9m6")) is None
    assert describe_grid(element_format("bf16")) is None
    run = [weights.double() for weights in make_run(0, (8, 8), torch.float32)]
    pairs = zip(
        follow("e4m3", run, compiled=True), follow("e4m3", run, compiled=False), strict=True
    )
    assert all(one == other for one, other in pairs)


def test_only_large_runs_compile() -> None:
    assert not worth_compiling(MIN_WEIGHTS - 1)
    assert worth_compiling(MIN_WEIGHTS)
