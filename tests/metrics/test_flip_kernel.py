"""The compiled kernel against the torch path: every count identical, every sum close."""

import dataclasses
import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch

from altgrad_inspect.formats import FloatFormat, element_format
from altgrad_inspect.metrics.flip_kernel import MIN_WEIGHTS, describe_grid, worth_compiling
from altgrad_inspect.metrics.flips import FlipMeter
from altgrad_inspect.quantize import scales as scales_module
from altgrad_inspect.quantize.spec import parse_quantizer
from altgrad_inspect.records import FlipCounts

pytest.importorskip("numba", reason="the kernel needs numba: pip install altgrad-inspect[fast]")
STRIP = 1024  # of the kernel, which is not imported before it is known that it can be

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
    "e0m15:tensor:none",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz:channel",
    "float8_e4m3:group=5",
]


def follow(spec: str, run: list[torch.Tensor], *, compiled: bool) -> list[FlipCounts]:
    meter = FlipMeter(parse_quantizer(spec), tuple(run[0].shape), compiled=compiled)
    meter.start(run[0])
    return [meter.advance(a, b) for a, b in pairwise(run)]


def assert_paths_agree(spec: str, run: list[torch.Tensor]) -> list[FlipCounts]:
    compiled = follow(spec, run, compiled=True)
    for one, other in zip(compiled, follow(spec, run, compiled=False), strict=True):
        assert_same(one, other)
    return compiled


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
    outlier.reshape(-1)[min(1, flat.numel() - 1)] = 40.0
    broken = moved.clone()
    broken.reshape(-1)[2::29] = torch.nan
    broken.reshape(-1)[min(5, flat.numel() - 1)] = torch.inf
    run = [first, moved, first.clone(), moved.clone(), outlier, first * 1.01, broken, moved]
    return [weights.to(dtype) for weights in run]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("spec", SPECS)
def test_the_kernel_counts_what_torch_counts(spec: str, dtype: torch.dtype) -> None:
    for seed, shape in enumerate([(37, 129), (3, 5, 40), (5000,)]):
        run = make_run(seed, shape, dtype)
        assert_paths_agree(spec, run)


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
        assert_paths_agree(f"{name}:tensor:none", run)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("spec", ["e4m3:tensor:none", "e5m2", "fp16:tensor:none", "int8:group=7"])
def test_every_16_bit_weight_is_read_as_torch_reads_it(spec: str, dtype: torch.dtype) -> None:
    every = torch.arange(-(1 << 15), 1 << 15).to(torch.int16).view(dtype)
    finite = every[torch.isfinite(every)]
    assert_paths_agree(spec, [every, every.roll(1), every.roll(-3)])
    assert_paths_agree(spec, [finite, finite.roll(1), finite.flip(0), finite])


@pytest.mark.parametrize("shape", [(1, 1), (1, 63), (2, 64), (7, 150), (1, STRIP), (3, STRIP + 65)])
@pytest.mark.parametrize(
    "spec", ["e4m3", "e3m4:channel", "e2m1:group=1", "e5m2:block=2x3", "e4m3:block=1x128:pow2"]
)
def test_strips_rows_and_blocks_may_end_anywhere(spec: str, shape: tuple[int, int]) -> None:
    assert_paths_agree(spec, make_run(1, shape, torch.float32))


def test_a_stack_of_matrices_has_blocks_of_its_own_for_each() -> None:
    assert_paths_agree("e4m3:block=4x100", make_run(2, (3, 6, 250), torch.float32))


def test_blocks_that_changed_their_scale_beside_blocks_that_did_not() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(4, 2 * STRIP, generator=generator) + 0.5
    later = first * 1.001
    later[1, 40], later[2, STRIP + 7] = 30.0, 0.0
    (counts, _) = assert_paths_agree("e4m3:group=32:pow2", [first, later, first])
    assert 0 < counts.num_scales_changed < counts.num_scales
    assert counts.num_recoded > counts.num_flipped > 0


def test_rows_that_shared_a_scale_and_no_longer_do() -> None:
    first = torch.rand(3, STRIP, generator=torch.Generator().manual_seed(1))
    first[:, 0] = 1.0
    later = first * 0.99
    later[1, 0], later[2, 0] = 3.0, 1.0
    (counts, _) = assert_paths_agree("e4m3:channel", [first, later, first])
    assert counts.num_scales_changed == 2


def test_a_strip_of_one_scale_after_one_of_several() -> None:
    first = torch.rand(2, 1600, generator=torch.Generator().manual_seed(2))
    first[:, 0], first[:, 1500:] = 1.0, 0.1  # the second strip ends in what the third begins with
    assert_paths_agree("e4m3:block=1x1500", [first, first * 0.99, first])


def test_every_weight_may_flip_as_far_as_codes_go_and_back() -> None:
    top = torch.full((5, STRIP), 127.0)
    counts = assert_paths_agree("int8:tensor:none", [top, -top, top])
    assert (
        counts[1].num_flipped == counts[1].num_reverted == counts[1].num_sign_flipped == 5 * STRIP
    )
    assert (counts[0].num_down, counts[1].num_up) == (5 * STRIP, 5 * STRIP)
    assert (counts[0].code_step_mean, counts[0].code_step_max) == (254.0, 254)
    assert counts[0].code_step_histogram == (*[0] * 8, 5 * STRIP)


def test_steps_of_16_bit_codes_are_counted_whole() -> None:
    top = torch.full((3 * STRIP,), 60000.0)
    counts = assert_paths_agree("fp16:tensor:none", [top, -top, torch.zeros_like(top)])
    assert counts[0].code_step_max == 2 * 0x7B53  # the code of 60000 in float16
    assert counts[1].num_to_zero == 3 * STRIP


def test_nothing_flips_where_nothing_moved() -> None:
    (first, *_) = make_run(0, (9, STRIP), torch.float32)
    (counts,) = assert_paths_agree("e4m3:group=64", [first, first.clone()])
    assert counts.num_updated == counts.num_flipped == counts.num_recoded == 0


def test_saturated_weights_are_counted_at_the_later_scales() -> None:
    base = torch.ones(2 * STRIP)
    large = base * 500
    counts = assert_paths_agree("e4m3:tensor:none", [base, large, base])
    assert [one.num_saturated for one in counts] == [2 * STRIP, 0]


def test_the_tie_above_the_largest_value_leaves_the_range_if_its_code_is_odd() -> None:
    # 57344 and 448 are the largest values, 61440 and 464 half a spacing above them.
    for spec, limit, is_clipped in (("e5m2", 61440.0, True), ("e4m3", 464.0, False)):
        start = torch.ones(STRIP)
        for sign in (1.0, -1.0):
            (counts,) = assert_paths_agree(f"{spec}:tensor:none", [start, start * sign * limit])
            assert counts.num_saturated == (STRIP if is_clipped else 0)
            beyond = torch.full_like(start, sign * limit * 1.001)
            (counts,) = assert_paths_agree(f"{spec}:tensor:none", [start, beyond])
            assert counts.num_saturated == STRIP


@pytest.mark.parametrize("place", [0, STRIP - 1, STRIP, 3 * STRIP - 1])
def test_one_weight_that_is_not_finite_costs_no_other_its_count(place: int) -> None:
    generator = torch.Generator().manual_seed(3)
    first = torch.randn(3 * STRIP, generator=generator)
    moved = first + 0.1 * torch.randn(3 * STRIP, generator=generator)
    for value in (math.nan, math.inf, -math.inf):
        broken = moved.clone()
        broken[place] = value
        counts = assert_paths_agree("e4m3:tensor:none", [first, broken, first, moved])
        assert [one.num_nonfinite for one in counts] == [1, 0, 0]
        assert [one.update_norm is None for one in counts] == [True, True, False]


@pytest.mark.parametrize(
    "change", [torch.Tensor.t, lambda weights: weights[::2, 3:]], ids=["transposed", "cut"]
)
def test_weights_need_not_be_contiguous(change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        run = [change(weights) for weights in make_run(4, (40, 60), dtype)]
        whole = [weights.contiguous() for weights in run]
        got = assert_paths_agree("e4m3:channel", run)
        assert got == follow("e4m3:channel", whole, compiled=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("compiled", [True, False])
def test_weights_are_left_as_they_were(dtype: torch.dtype, compiled: bool) -> None:  # noqa: FBT001
    run = make_run(5, (20, 70), dtype)
    kept = [weights.clone() for weights in run]
    follow("e4m3:block=3x50", run, compiled=compiled)
    follow("e9m6:tensor:none", run, compiled=compiled)
    for weights, copy in zip(run, kept, strict=True):
        assert torch.equal(weights.nan_to_num(7.0), copy.nan_to_num(7.0))


def test_sums_are_the_same_every_time_and_for_every_size_of_tile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = make_run(6, (50, 333), torch.float32)
    once = follow("e4m3:group=32", run, compiled=True)
    monkeypatch.setattr(scales_module, "TILE_WEIGHTS", 1 << 9)
    assert follow("e4m3:group=32", run, compiled=True) == once


def test_formats_beyond_float32_and_wide_weights_take_the_torch_path() -> None:
    assert describe_grid(element_format("e9m6")) is None
    assert describe_grid(element_format("bf16")) is None
    high = element_format("e7m0")
    assert isinstance(high, FloatFormat)
    assert describe_grid(high) is not None
    assert describe_grid(dataclasses.replace(high, bias=0)) is None  # 2**23 cells overflow
    run = [weights.double() for weights in make_run(0, (8, 8), torch.float32)]
    assert follow("e4m3", run, compiled=True) == follow("e4m3", run, compiled=False)


def test_only_large_runs_compile() -> None:
    assert not worth_compiling(MIN_WEIGHTS - 1)
    assert worth_compiling(MIN_WEIGHTS)
