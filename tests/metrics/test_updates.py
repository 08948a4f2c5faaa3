"""Spectra of differences against numpy in float64, and the rounding floor against its model."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from altgrad_inspect.metrics.gram import count_additions
from altgrad_inspect.metrics.updates import measure_rounding_floor, measure_update
from altgrad_inspect.records import Spectrum, Undefined

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def draw(seed: int, shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def exact(earlier: torch.Tensor, later: torch.Tensor) -> NDArray[np.float64]:
    difference: NDArray[np.float64] = later.double().numpy() - earlier.double().numpy()
    return difference


@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (1, 7), (9, 1)])
@pytest.mark.parametrize("later_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_spectrum_is_that_of_the_difference_in_float64(
    dtype: torch.dtype, later_dtype: torch.dtype, shape: tuple[int, int]
) -> None:
    earlier, later = draw(1, shape, dtype), draw(2, shape, later_dtype)
    kept = earlier.clone(), later.clone()
    found = measure_update(earlier, later, keep_singular_values=True).spectrum
    assert isinstance(found, Spectrum)
    values = np.linalg.svd(exact(earlier, later), compute_uv=False)
    assert found.singular_values == pytest.approx(values, rel=1e-12)
    assert found.stable_rank == pytest.approx((values**2).sum() / values[0] ** 2, rel=1e-12)
    shares = values / values.sum()
    assert found.effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert found.frobenius_norm == pytest.approx(np.sqrt((values**2).sum()), rel=1e-14)
    assert torch.equal(earlier, kept[0])
    assert torch.equal(later, kept[1])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.floats(1e-12, 1e3),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_the_certificate_holds_for_small_updates_of_low_rank(
    seed: int, size: float, dtype: torch.dtype
) -> None:
    earlier = draw(seed, (24, 16), dtype)
    step = size * draw(seed + 1, (24, 2), torch.float64) @ draw(seed + 2, (2, 16), torch.float64)
    later = (earlier.double() + step).to(dtype)
    found = measure_update(earlier, later).spectrum
    values = np.linalg.svd(exact(earlier, later), compute_uv=False)
    if values[0] == 0:
        assert found == Undefined(reason="no update")
        return
    assert isinstance(found, Spectrum)
    stable = (values**2).sum() / values[0] ** 2
    kept = values[values > 0] / values.sum()
    effective = np.exp(-(kept * np.log(kept)).sum())
    slack = 1e-13  # numpy's own rounding
    assert abs(found.stable_rank / stable - 1) <= found.stable_rank_error + slack
    assert abs(found.effective_rank / effective - 1) <= found.effective_rank_error + slack
    assert found.effective_rank_error <= 1e-5


def test_the_numerical_rank_uses_the_coarser_of_the_stored_dtypes() -> None:
    earlier = torch.zeros(4, 4)
    later = torch.diag(torch.tensor([1.0, 2.0**-8, 2.0**-9, 0.0]))
    counts = {}
    for dtype in (torch.float32, torch.float16):  # eps * 4 is 2**-21 and 2**-8
        found = measure_update(earlier, later.to(dtype)).spectrum
        assert isinstance(found, Spectrum)
        counts[dtype] = found.numerical_rank
    assert counts == {torch.float32: 3, torch.float16: 1}


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_weights_are_no_update(dtype: torch.dtype) -> None:
    weights = draw(3, (5, 4), dtype)
    assert measure_update(weights, weights.clone()).spectrum == Undefined(reason="no update")


def test_minus_zero_is_no_update_of_zero() -> None:
    found = measure_update(torch.zeros(2, 2), torch.full((2, 2), -0.0))
    assert found.spectrum == Undefined(reason="no update")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_no_number_leaves_no_spectrum(value: float) -> None:
    broken = torch.ones(3, 3)
    broken[1, 1] = value
    found = measure_update(torch.ones(3, 3), broken)
    assert isinstance(found.spectrum, Undefined)
    assert "among 9 weights" in found.spectrum.reason
    assert found.rounding_floor is None


def test_the_floor_by_hand() -> None:
    earlier = torch.tensor([[1.0, 1.99, -4.0, 0.0]], dtype=torch.bfloat16)
    ulps = [2.0**-7, 2.0**-7, 2.0**-5, 2.0**-133]
    squares = sum(ulp**2 for ulp in ulps)
    later = earlier.double()
    assert measure_rounding_floor(earlier, later) == pytest.approx(math.sqrt(squares / 12))
    assert measure_rounding_floor(earlier, earlier) == pytest.approx(math.sqrt(squares / 6))
    assert measure_rounding_floor(later, later.float()) is None
    half = torch.tensor([[1.0, 2.0**-20, 0.0]], dtype=torch.float16)
    squares = 2.0**-20 + 2 * 2.0**-48
    assert measure_rounding_floor(half, later[:, :3]) == pytest.approx(math.sqrt(squares / 12))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_floor_is_what_rounding_leaves_of_independent_errors(dtype: torch.dtype) -> None:
    masters = draw(4, (200, 150), torch.float64)
    moved = masters + 0.05 * draw(5, (200, 150), torch.float64)
    earlier, later = masters.to(dtype), moved.to(dtype)
    noise = exact(earlier, later) - exact(masters, moved)
    floor = measure_rounding_floor(earlier, later)
    assert floor == pytest.approx(float(np.linalg.norm(noise)), rel=0.02)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_update_below_two_floors_is_undefined_and_above_is_not(dtype: torch.dtype) -> None:
    masters = draw(6, (64, 48), torch.float64)
    direction = draw(7, (64, 48), torch.float64)
    floor = measure_rounding_floor(masters.to(dtype), masters.to(dtype))
    assert floor is not None
    unit = floor / float(direction.norm())
    for ratio, is_defined in ((0.1, False), (1.0, False), (5.0, True)):
        later = (masters + ratio * unit * direction).to(dtype)
        found = measure_update(masters.to(dtype), later)
        assert isinstance(found.spectrum, Spectrum) is is_defined
        assert found.rounding_floor == pytest.approx(floor, rel=0.1)
        if isinstance(found.spectrum, Undefined):
            name = str(dtype).removeprefix("torch.")
            assert f"below 2 rounding floors of {name} storage (norm " in found.spectrum.reason


def test_float32_updates_have_no_floor_however_small() -> None:
    earlier = draw(8, (6, 6), torch.float32)
    later = torch.nextafter(earlier, torch.tensor(torch.inf))
    found = measure_update(earlier, later)
    assert isinstance(found.spectrum, Spectrum)
    assert found.rounding_floor is None


def test_a_float32_matrix_saved_in_bfloat16_is_no_more_than_rounding() -> None:
    masters = draw(9, (32, 32), torch.float32)
    found = measure_update(masters, masters.bfloat16()).spectrum
    assert isinstance(found, Undefined)
    assert "bfloat16 storage" in found.reason


def test_large_matrices_go_through_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    earlier, later = draw(10, (33, 8), torch.bfloat16), draw(11, (33, 8), torch.bfloat16)
    whole = measure_update(earlier, later)
    monkeypatch.setattr("altgrad_inspect.metrics.updates._BLOCK_WEIGHTS", 20)
    in_blocks = measure_update(earlier, later)
    assert in_blocks.spectrum == whole.spectrum
    assert in_blocks.rounding_floor == pytest.approx(whole.rounding_floor, rel=1e-14)


def test_the_certificate_allows_for_the_rounding_of_the_difference() -> None:
    narrow = count_additions(9, block_rows=512, dtype=torch.float32)
    assert count_additions(9, block_rows=512, dtype=torch.float64) == narrow + 2
