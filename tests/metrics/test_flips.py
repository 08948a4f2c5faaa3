"""Flip counts: against an independent numpy and ml_dtypes program, and by hand."""

import dataclasses
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise

import ml_dtypes  # noqa: F401  # registers the dtypes with numpy
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from altgrad_inspect.metrics.flips import FlipMeter
from altgrad_inspect.quantize import scales as scales_module
from altgrad_inspect.quantize.spec import parse_quantizer
from altgrad_inspect.records import FlipCounts

Array = NDArray[np.float32]
MAX = {"float8_e4m3fn": 448.0, "float8_e5m2": 57344.0, "float4_e2m1fn": 6.0}
MANTISSA_BITS = {"float8_e4m3fn": 3, "float8_e5m2": 2, "float4_e2m1fn": 1}
MIN_EXPONENT = {"float8_e4m3fn": -6, "float8_e5m2": -14, "float4_e2m1fn": 0}


@dataclass
class Oracle:
    """The definitions again, in numpy, whole arrays at a time."""

    dtype: str
    channel: bool = False

    def scales(self, w: Array) -> Array:
        finite = np.where(np.isfinite(w), np.abs(w), 0).astype(np.float32)
        amax = finite.max(axis=1, keepdims=True) if self.channel else finite.max(keepdims=True)
        scale = (amax / np.float32(MAX[self.dtype])).astype(np.float32)
        scale = np.maximum(scale, np.float32(2.0**-126))
        return np.where(amax == 0, np.float32(1), scale)

    def codes(self, w: Array, s: Array) -> NDArray[np.int64]:
        with np.errstate(over="ignore", invalid="ignore"):
            x = np.clip(w / s, -MAX[self.dtype], MAX[self.dtype])
            raw = x.astype(np.dtype(self.dtype)).view(np.uint8).astype(np.int64)
        half = 8 if self.dtype == "float4_e2m1fn" else 128
        codes = np.where(raw >= half, -(raw - half), raw)
        return np.where(np.isnan(w), -999, codes)

    def measure(self, a: Array, b: Array, before: Array | None) -> dict[str, object]:
        s_a, s_b = self.scales(a), self.scales(b)
        from_, to = self.codes(a, s_a), self.codes(b, s_a)
        own = self.codes(b, s_b)
        updated = a.view(np.int32) != b.view(np.int32)
        flipped = from_ != to
        moved = flipped & (from_ != -999) & (to != -999)
        step = np.abs(to - from_)[moved]
        edges = [0, 1, 2, 4, 8, 16, 32, 64, 128, 10**6]
        with np.errstate(over="ignore", invalid="ignore"):
            x_own = np.abs(b / s_b).astype(np.float64)
        top = MAX[self.dtype]
        half_ulp = (top - self.below_top()) / 2
        clipped = x_own > top + half_ulp
        if self.dtype == "float8_e5m2":  # 57344 has an odd code: the tie leaves the range
            clipped |= x_own == top + half_ulp
        return {
            "num_weights": a.size,
            "num_updated": int(updated.sum()),
            "num_flipped": int(flipped.sum()),
            "num_recoded": int((own != from_).sum()),
            "num_scales": s_a.size,
            "num_scales_changed": int((s_a != s_b).sum()),
            "num_up": int((to > from_)[moved].sum()),
            "num_down": int((to < from_)[moved].sum()),
            "num_sign_flipped": int((np.sign(from_) * np.sign(to) < 0)[moved].sum()),
            "num_to_zero": int((moved & (to == 0)).sum()),
            "num_from_zero": int((moved & (from_ == 0)).sum()),
            "num_reverted": None
            if before is None
            else int((flipped & (self.codes(before, s_a) == to)).sum()),
            "num_saturated": int(clipped.sum()),
            "num_underflowed": int(((b != 0) & (own == 0)).sum()),
            "num_nonfinite": int((~np.isfinite(b)).sum()),
            "code_step_max": int(step.max()) if step.size else None,
            "code_step_histogram": tuple(
                int(((step > low) & (step <= high)).sum()) for low, high in pairwise(edges)
            ),
        }

    def below_top(self) -> float:
        return {"float8_e4m3fn": 416.0, "float8_e5m2": 49152.0, "float4_e2m1fn": 4.0}[self.dtype]

    def expected_flips(self, a: Array, b: Array) -> float:
        s = self.scales(a).astype(np.float64)
        x = np.abs((a / self.scales(a)).astype(np.float64))
        x = np.minimum(x, MAX[self.dtype])
        exponent = np.floor(np.log2(np.where(x == 0, 1e-300, x)))
        ulp = 2.0 ** (np.maximum(exponent, MIN_EXPONENT[self.dtype]) - MANTISSA_BITS[self.dtype])
        change = np.abs(b.astype(np.float64) - a.astype(np.float64))
        return float(np.minimum(1, change / (s * ulp)).sum())


def follow(spec: str, *checkpoints: torch.Tensor, compiled: bool = False) -> list[FlipCounts]:
    meter = FlipMeter(parse_quantizer(spec), tuple(checkpoints[0].shape), compiled=compiled)
    meter.start(checkpoints[0])
    pairs = pairwise(checkpoints)
    return [meter.advance(earlier, later) for earlier, later in pairs]


@settings(max_examples=200, deadline=None)
@given(
    dtype=st.sampled_from(list(MAX)),
    channel=st.booleans(),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 33)),
    seed=st.integers(0, 2**20),
    move=st.sampled_from([1e-3, 0.05, 1.0]),
    dirty=st.booleans(),
    tile=st.sampled_from([8, 1 << 16]),
    compiled=st.sampled_from([False, find_spec("numba") is not None]),
)
def test_every_count_is_that_of_the_oracle(  # noqa: PLR0917
    dtype: str,
    channel: bool,  # noqa: FBT001
    shape: tuple[int, int],
    seed: int,
    move: float,
    dirty: bool,  # noqa: FBT001
    tile: int,
    compiled: bool,  # noqa: FBT001
) -> None:
    rng = np.random.default_rng(seed)
    run = [rng.standard_normal(shape).astype(np.float32)]
    for _ in range(3):
        step = rng.standard_normal(shape) * move * (rng.random(shape) < 0.8)
        run.append((run[-1] + step).astype(np.float32))
    run[3] = run[1].copy() if seed % 3 == 0 else run[3]  # then everything reverts
    if dirty:
        for w in run:
            w[rng.random(shape) < 0.1] = rng.choice([0.0, -0.0, np.nan, np.inf, -np.inf])
    oracle = Oracle(dtype=dtype, channel=channel)
    spec = f"{dtype}:{'channel' if channel else 'tensor'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scales_module, "TILE_WEIGHTS", tile)
        measured = follow(spec, *map(torch.from_numpy, run), compiled=compiled)
    for at, counts in enumerate(measured):
        expected = oracle.measure(run[at], run[at + 1], run[at - 1] if at else None)
        got = dataclasses.asdict(counts)
        assert {key: got[key] for key in expected} == expected
        assert counts.num_stalled == counts.num_updated - counts.num_flipped
        if np.isfinite(run[at]).all() and np.isfinite(run[at + 1]).all():
            a, b = run[at].astype(np.float64), run[at + 1].astype(np.float64)
            norm = np.linalg.norm(b - a)
            assert counts.update_norm == pytest.approx(norm, rel=1e-12)
            assert counts.update_mean_abs == pytest.approx(np.abs(b - a).mean(), rel=1e-12)
            assert counts.num_expected_flips == pytest.approx(
                oracle.expected_flips(run[at], run[at + 1]), rel=1e-6
            )
            if np.linalg.norm(a):
                assert counts.relative_update == pytest.approx(norm / np.linalg.norm(a), rel=1e-12)
        else:
            assert counts.update_norm is counts.num_expected_flips is counts.flip_excess is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("spec", ["e4m3", "int8:channel", "e9m6", "e2m1:group=4:pow2", "bf16"])
def test_flips_are_updates_in_every_dtype(dtype: torch.dtype, spec: str) -> None:
    generator = torch.Generator().manual_seed(1)
    earlier = torch.randn(16, 24, generator=generator, dtype=torch.float64).to(dtype)
    later = earlier + 0.01 * torch.randn(16, 24, generator=generator).to(dtype)
    later[0] = earlier[0]
    (counts,) = follow(spec, earlier, later)
    assert 0 < counts.num_flipped <= counts.num_updated <= 15 * 24
    assert counts.num_up + counts.num_down == counts.num_flipped
    assert sum(counts.code_step_histogram) == counts.num_flipped


def test_one_update_flips_and_one_stalls() -> None:
    earlier = torch.tensor([1.0, 1.0, 1.0])
    later = torch.tensor([1.0, 1.01, 1.3])  # the next value after 1 is 1.25
    (counts,) = follow("e5m2:tensor:none", earlier, later)
    assert (counts.num_weights, counts.num_updated, counts.num_flipped) == (3, 2, 1)
    assert (counts.num_stalled, counts.stall_fraction) == (1, 0.5)
    assert counts.flip_fraction == pytest.approx(1 / 3)
    assert (counts.code_step_mean, counts.code_step_max) == (1.0, 1)


def test_a_new_outlier_recodes_everything_and_flips_nothing_else() -> None:
    earlier = torch.linspace(0.5, 1.0, 64)
    later = earlier.clone()
    later[0] = 3.0
    (counts,) = follow("e4m3", earlier, later)
    assert counts.num_updated == counts.num_flipped == 1
    assert counts.num_recoded > 60
    assert counts.scale_ratio_max == pytest.approx(3.0)


def test_a_zero_that_changes_sign_is_an_update_and_no_flip() -> None:
    (counts,) = follow("e5m2:tensor:none", torch.tensor([0.0]), torch.tensor([-0.0]))
    assert (counts.num_updated, counts.num_flipped, counts.num_underflowed) == (1, 0, 0)


def test_the_same_nan_is_no_update_and_a_new_one_is_a_flip_without_direction() -> None:
    earlier = torch.tensor([torch.nan, 1.0, 2.0])
    later = torch.tensor([torch.nan, torch.nan, 2.0])
    (counts,) = follow("e3m4:tensor:none", earlier, later)
    assert (counts.num_updated, counts.num_flipped, counts.num_nonfinite) == (1, 1, 2)
    assert (counts.num_up, counts.num_down, counts.code_step_max) == (0, 0, None)
    assert counts.update_norm is None


def test_nothing_updated_has_no_stall_fraction_and_no_excess() -> None:
    same = torch.ones(100)
    (counts,) = follow("e4m3", same, same.clone())
    assert counts.stall_fraction is None
    assert counts.flip_excess is None
    assert (counts.update_norm, counts.relative_update) == (0.0, 0.0)


def test_an_empty_layer_has_counts_and_no_fractions() -> None:
    (counts,) = follow("e4m3:channel", torch.empty(0, 4), torch.empty(0, 4))
    assert counts.num_weights == 0
    assert counts.flip_fraction is counts.recode_fraction is counts.update_norm is None


def test_weights_uniform_in_their_cells_have_an_excess_of_one() -> None:
    generator = torch.Generator().manual_seed(0)
    earlier = torch.rand(200_000, generator=generator) + 1  # 8 cells of one binade of e4m3
    later = earlier + 1e-3 * torch.randn(200_000, generator=generator)
    (counts,) = follow("e4m3:tensor:none", earlier, later)
    assert counts.flip_excess == pytest.approx(1.0, abs=0.05)


def test_weights_that_hop_over_a_boundary_have_a_large_excess_and_revert() -> None:
    low = torch.full((1000,), 1.0624)  # the boundary between 1 and 1.125 is at 1.0625
    run = [low, low + 4e-4, low, low + 4e-4]
    measured = follow("e4m3:tensor:none", *run)
    assert [counts.num_reverted for counts in measured] == [None, 1000, 1000]
    assert all(counts.num_flipped == 1000 for counts in measured)
    # 1000 weights expect 1000 * 4e-4 / 0.125 = 3.2 flips: too few to divide by
    assert measured[0].num_expected_flips == pytest.approx(3.2, rel=1e-3)
    assert measured[0].flip_excess is None


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_counts_do_not_depend_on_the_size_of_the_weights(size: float) -> None:
    generator = torch.Generator().manual_seed(3)
    earlier = torch.randn(8, 64, generator=generator)
    later = earlier + 0.05 * torch.randn(8, 64, generator=generator)
    factor = 2.0 ** round(np.log2(size))
    (unit,) = follow("e4m3:channel", earlier, later)
    (scaled,) = follow("e4m3:channel", earlier * factor, later * factor)
    assert scaled.num_flipped == unit.num_flipped
    assert scaled.num_recoded == unit.num_recoded
    assert scaled.num_expected_flips == pytest.approx(unit.num_expected_flips, rel=1e-12)
    assert scaled.relative_update == pytest.approx(unit.relative_update, rel=1e-12)


def test_float64_weights_of_any_size_have_norms() -> None:
    earlier = torch.tensor([3e200, 4e200], dtype=torch.float64)
    (counts,) = follow("e4m3", earlier, earlier * 2)
    assert counts.update_norm == pytest.approx(5e200, rel=1e-12)
    assert counts.num_expected_flips == 2.0  # both moved by more than any cell
    (counts,) = follow("e4m3", earlier * 1e-400, torch.zeros(2, dtype=torch.float64))
    assert counts.update_norm == 0.0
    tiny = torch.tensor([3e-200, 4e-200], dtype=torch.float64)
    (counts,) = follow("e4m3", tiny, tiny * 2)
    assert counts.update_norm == pytest.approx(5e-200, rel=1e-12)
    assert counts.num_expected_flips == 0.0  # neither moved by what float32 holds
    assert counts.num_underflowed == 2


def test_stored_codes_are_compared_without_values() -> None:
    codes = torch.tensor([0x30, 0x80, 0x00, 0x7F], dtype=torch.uint8)
    moved = torch.tensor([0x32, 0x00, 0x00, 0x7F], dtype=torch.uint8)
    meter = FlipMeter(parse_quantizer("e4m3:tensor:none"), (4,), values_known=False)
    meter.start(codes.view(torch.float8_e4m3fn))
    counts = meter.advance(codes.view(torch.float8_e4m3fn), moved.view(torch.float8_e4m3fn))
    assert (counts.num_updated, counts.num_flipped, counts.code_step_max) == (2, 1, 2)
    assert counts.update_norm is counts.num_expected_flips is None


@pytest.mark.parametrize(
    ("shape", "num_scales"),
    [((6, 4, 3), 6), ((2, 6, 20), 12), ((5, 3, 2, 2), 5), ((7,), 1), ((), 1), ((4, 6), 4)],
)
def test_channels_are_the_rows_of_the_matrices(shape: tuple[int, ...], num_scales: int) -> None:
    earlier = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    (counts,) = follow("e4m3:channel", earlier, earlier + 0.1)
    assert counts.num_scales == num_scales


def test_advancing_before_the_start_is_our_mistake() -> None:
    meter = FlipMeter(parse_quantizer("e4m3"), (2,))
    with pytest.raises(RuntimeError, match="advance before start"):
        meter.advance(torch.ones(2), torch.ones(2))
