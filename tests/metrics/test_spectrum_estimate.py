"""Lanczos and stochastic quadrature against numpy's float64 SVD of the same stored values.

For more seeds than 6, set ``ALTGRAD_INSPECT_TEST_SEEDS=200``.
"""

import math
import os
from functools import cache

import numpy as np
import pytest
import torch

from altgrad_inspect.metrics import lanczos
from altgrad_inspect.metrics.lanczos import find_top_direction, measure_direction
from altgrad_inspect.metrics.spectrum import measure_spectrum
from altgrad_inspect.metrics.spectrum_estimate import (
    MAX_STABLE_ASPECT,
    MIN_STABLE_SIDE,
    estimate_spectrum,
    keep_stable_rank,
    measure_stable_rank,
)
from altgrad_inspect.records import Spectrum, StableRank, Undefined
from tests.metrics.test_spectrum_families import FAMILIES

NUM_SEEDS = int(os.environ.get("ALTGRAD_INSPECT_TEST_SEEDS", "6"))

every_family = pytest.mark.parametrize("name", FAMILIES)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@cache
def build(name: str, rows: int, cols: int) -> torch.Tensor:
    return torch.from_numpy(FAMILIES[name](np.random.default_rng(7), rows, cols)).float()


def estimated(matrix: torch.Tensor, *, seed: int = 0) -> Spectrum:
    spectrum = estimate_spectrum(matrix, seed=seed)
    assert isinstance(spectrum, Spectrum)
    assert spectrum.method == "estimate"
    return spectrum


def exact(matrix: torch.Tensor) -> Spectrum:
    spectrum = measure_spectrum(matrix)
    assert isinstance(spectrum, Spectrum)
    return spectrum


@every_family
@pytest.mark.parametrize("shape", [(256, 256), (500, 200), (200, 384)], ids=str)
def test_lanczos_finds_the_largest_value_to_eight_digits(shape: tuple[int, int], name: str) -> None:
    matrix = build(name, *shape)
    exponent = -math.frexp(float(matrix.abs().max()))[1]
    largest = float(np.linalg.norm(matrix.double().numpy(), 2)) * 2.0**exponent
    for seed in range(5):
        top = find_top_direction(matrix, exponent=exponent, seed=seed)
        assert top is not None
        error = abs(top.squared_length / largest**2 - 1)
        assert error <= top.error + 1e-13
        # Where no value stands apart, float32 products cannot tell the first few apart.
        assert error <= (2e-7 if name == "all equal values" else 1e-8)
        assert top.error <= 1e-6


@every_family
def test_the_error_bar_holds_for_at_least_95_percent_of_the_seeds(name: str) -> None:
    matrix = build(name, 256, 192)
    truth = exact(matrix)
    held = 0
    for seed in range(NUM_SEEDS):
        spectrum = estimated(matrix, seed=seed)
        error = abs(math.log(spectrum.effective_rank / truth.effective_rank))
        held += error <= math.log1p(spectrum.effective_rank_error) + truth.effective_rank_error
        assert spectrum.effective_rank_error < 0.15
        assert spectrum.stable_rank == pytest.approx(
            truth.stable_rank, rel=spectrum.stable_rank_error + truth.stable_rank_error
        )
        assert spectrum.nuclear_norm == pytest.approx(truth.nuclear_norm, rel=0.03)
        assert spectrum.participation_ratio == pytest.approx(truth.participation_ratio, rel=0.1)
        assert spectrum.outlier_share == pytest.approx(truth.outlier_share, rel=1e-6)
        assert spectrum.frobenius_norm == pytest.approx(truth.frobenius_norm, rel=1e-13)
        assert spectrum.numerical_rank is None
    assert NUM_SEEDS - held <= max(1, 0.05 * NUM_SEEDS)


def test_the_bar_is_narrow_for_weights_as_they_are() -> None:
    """It shrinks with the number of columns."""
    spectrum = estimated(build("gaussian", 1024, 512))
    assert spectrum.effective_rank_error < 0.005


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not() -> None:
    matrix = build("gaussian", 256, 192)
    assert estimated(matrix) == estimated(matrix.clone())
    assert estimated(matrix).effective_rank != estimated(matrix, seed=1).effective_rank
    assert estimated(matrix).stable_rank == pytest.approx(
        estimated(matrix, seed=1).stable_rank, rel=1e-8
    )


def test_the_caller_s_random_numbers_are_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    estimated(build("gaussian", 256, 192))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_estimated_as_well(dtype: torch.dtype) -> None:
    matrix = build("i^-1/2", 200, 256).to(dtype)
    before = matrix.clone()
    spectrum, truth = estimated(matrix), exact(matrix)
    assert torch.equal(matrix, before)
    assert spectrum.stable_rank == pytest.approx(truth.stable_rank, rel=1e-7)
    assert spectrum.effective_rank == pytest.approx(
        truth.effective_rank, rel=spectrum.effective_rank_error
    )


@pytest.mark.parametrize("exponent", [-100, -60, -31, 31, 60, 90])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_magnitude_changes_norms_and_no_rank(dtype: torch.dtype, exponent: int) -> None:
    matrix = build("i^-1/2", 200, 160).to(dtype)
    matrix = matrix * (matrix.abs() > 1e-3)  # nothing that becomes subnormal
    scaled, plain = estimated(matrix * 2.0**exponent), estimated(matrix)
    assert scaled.stable_rank == pytest.approx(plain.stable_rank, rel=1e-9)
    assert scaled.effective_rank == pytest.approx(plain.effective_rank, rel=1e-5)
    for norm in ("spectral_norm", "frobenius_norm", "nuclear_norm"):
        ratio = getattr(scaled, norm) / math.ldexp(getattr(plain, norm), exponent)
        assert ratio == pytest.approx(1, rel=1e-5)


def test_float64_beyond_what_float32_holds_is_no_trouble() -> None:
    matrix = build("i^-1/2", 60, 50).double()
    assert estimated(matrix * 1e-250).stable_rank == pytest.approx(
        estimated(matrix).stable_rank, rel=1e-9
    )
    largest = matrix / matrix.abs().max() * 1e308
    assert estimate_spectrum(largest) == Undefined(reason="norms too large for a float64")


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (2, 9), (3, 3), (17, 5)])
def test_small_matrices_have_ranks_within_their_ranges(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    spectrum, truth = estimate_spectrum(matrix), exact(matrix)
    assert isinstance(spectrum, Spectrum)
    assert spectrum.stable_rank == pytest.approx(truth.stable_rank, rel=1e-6)
    assert spectrum.effective_rank == pytest.approx(
        truth.effective_rank, rel=spectrum.effective_rank_error + 1e-6
    )
    assert 1 <= spectrum.effective_rank <= min(shape)


def test_what_has_no_spectrum_has_no_estimate() -> None:
    broken = torch.ones(30, 20)
    broken[3, 4] = math.nan
    for matrix in (broken, torch.zeros(30, 20), torch.zeros(0, 20)):
        undefined = measure_spectrum(matrix)
        assert isinstance(undefined, Undefined)
        assert estimate_spectrum(matrix) == undefined
        assert measure_stable_rank(matrix) == undefined


def test_the_stable_rank_alone_of_a_large_square_is_that_of_all_values() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(MIN_STABLE_SIDE, MIN_STABLE_SIDE + 8, generator=generator)
    found, truth = measure_stable_rank(matrix), keep_stable_rank(exact(matrix))
    assert isinstance(found, StableRank)
    assert found.method == "estimate"
    assert abs(found.stable_rank / truth.stable_rank - 1) <= found.stable_rank_error < 1e-7
    assert found.spectral_norm == pytest.approx(truth.spectral_norm, rel=1e-8)
    assert found.frobenius_norm == pytest.approx(truth.frobenius_norm, rel=1e-13)
    assert found.outlier_share == pytest.approx(truth.outlier_share, rel=1e-7)


@pytest.mark.parametrize("shape", [(64, 64), (40, 40 * MAX_STABLE_ASPECT + 1)])
def test_the_stable_rank_alone_of_others_is_exact(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = measure_stable_rank(matrix)
    assert isinstance(found, StableRank)
    assert found.method == "exact"
    assert found == keep_stable_rank(exact(matrix))


def test_what_does_not_converge_is_measured_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = build("gaussian", 256, 192)
    monkeypatch.setattr(lanczos, "MAX_STEPS", 8)
    assert find_top_direction(matrix, exponent=0) is None
    assert estimate_spectrum(matrix) == exact(matrix)


def test_a_direction_is_measured_in_float64() -> None:
    matrix = torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]])
    length, residual, norm = measure_direction(matrix, torch.tensor([0.0, 2.0]), exponent=1)
    assert (length, residual, norm) == (64.0, 0.0, 100.0)
    length, residual, _ = measure_direction(matrix, torch.tensor([1.0, 1.0]), exponent=0)
    assert length == pytest.approx(12.5)
    assert residual == pytest.approx(3.5)


def test_why_a_truncated_svd_must_not_be_used_for_ranks() -> None:
    """It returns the number of directions that were asked for as the effective rank."""
    matrix = build("gaussian", 512, 512)
    truth = exact(matrix)
    for count in (6, 50):
        torch.manual_seed(0)
        values = torch.svd_lowrank(matrix, q=count)[1].double()
        effective = float(torch.special.entr(values / values.sum()).sum().exp())
        assert effective == pytest.approx(count, rel=0.01)
        assert effective < truth.effective_rank / 7
        stable = float(values.square().sum() / values[0].square())
        assert stable < truth.stable_rank / 2
    spectrum = estimated(matrix)
    assert spectrum.effective_rank == pytest.approx(
        truth.effective_rank, rel=spectrum.effective_rank_error
    )
