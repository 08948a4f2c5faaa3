"""The same spectra on a CUDA device as on the CPU."""

import math

import pytest
import torch

from altgrad_inspect.metrics.spectrum import measure_spectrum
from altgrad_inspect.metrics.spectrum_estimate import estimate_spectrum, measure_stable_rank
from altgrad_inspect.records import Spectrum, StableRank, Undefined

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SHAPES = ((1, 9), (64, 64), (300, 128), (128, 3000), (5000, 96), (1024, 1024))


def both(matrix: torch.Tensor) -> tuple[Spectrum, Spectrum]:
    on_cpu = measure_spectrum(matrix, keep_singular_values=True)
    on_gpu = measure_spectrum(matrix.cuda(), keep_singular_values=True)
    assert isinstance(on_cpu, Spectrum)
    assert isinstance(on_gpu, Spectrum)
    return on_cpu, on_gpu


def assert_same(matrix: torch.Tensor) -> None:
    on_cpu, on_gpu = both(matrix)
    assert on_gpu.stable_rank == pytest.approx(on_cpu.stable_rank, rel=1e-12)
    bound = on_cpu.effective_rank_error + on_gpu.effective_rank_error
    assert on_gpu.effective_rank == pytest.approx(on_cpu.effective_rank, rel=bound)
    assert on_gpu.effective_rank_error < 1e-5
    assert on_gpu.numerical_rank == on_cpu.numerical_rank
    assert on_gpu.spectral_norm == pytest.approx(on_cpu.spectral_norm, rel=1e-12)
    assert on_gpu.frobenius_norm == pytest.approx(on_cpu.frobenius_norm, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_random_matrices_agree(shape: tuple[int, int], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    assert_same(torch.randn(shape, generator=generator).to(dtype))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matrices_that_need_the_svd_agree(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    left = torch.randn(shape[0], 1, generator=generator)
    assert_same(left @ torch.randn(1, shape[1], generator=generator))
    assert_same(torch.ones(shape))


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_magnitude_does_not_matter(factor: float) -> None:
    assert_same(torch.randn(200, 100, generator=torch.Generator().manual_seed(2)) * factor)


def test_undefined_matrices_are_undefined_there_too() -> None:
    matrix = torch.ones(20, 30)
    matrix[3, 4] = math.nan
    for undefined in (matrix, torch.zeros(20, 30)):
        on_gpu = measure_spectrum(undefined.cuda())
        assert isinstance(on_gpu, Undefined)
        assert on_gpu == measure_spectrum(undefined)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_estimates_agree_as_well(dtype: torch.dtype) -> None:
    matrix = torch.randn(1100, 1024, generator=torch.Generator().manual_seed(4)).to(dtype)
    on_cpu, on_gpu = estimate_spectrum(matrix), estimate_spectrum(matrix.cuda())
    assert isinstance(on_cpu, Spectrum)
    assert isinstance(on_gpu, Spectrum)
    assert on_gpu.stable_rank == pytest.approx(on_cpu.stable_rank, rel=1e-8)
    # The probes are the same; only their products are rounded in another order.
    assert on_gpu.effective_rank == pytest.approx(on_cpu.effective_rank, rel=1e-4)
    alone = measure_stable_rank(matrix.cuda())
    assert isinstance(alone, StableRank)
    assert alone.stable_rank == on_gpu.stable_rank
