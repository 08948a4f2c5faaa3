"""Matrices of many kinds against numpy's float64 SVD of the same stored values.

The kinds are what weights look like and what breaks ways to find singular values: slow and
fast decay, exact and rounded low rank, one large entry, row or column, zeros, and ties.
"""

from collections.abc import Callable
from importlib.util import find_spec
from types import MappingProxyType
from typing import Final

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from altgrad_inspect.metrics.spectrum import measure_spectrum
from altgrad_inspect.records import Spectrum

Array = NDArray[np.float64]
Family = Callable[[np.random.Generator, int, int], Array]

SHAPES: Final = ((96, 96), (300, 128), (128, 300), (600, 40), (200, 192))


def orthonormal(rng: np.random.Generator, rows: int, cols: int) -> Array:
    basis: Array = np.linalg.qr(rng.standard_normal((rows, cols))).Q
    return basis


def decaying(spectrum: Callable[[Array, int], Array]) -> Family:
    def build(rng: np.random.Generator, rows: int, cols: int) -> Array:
        rank = min(rows, cols)
        values = spectrum(np.arange(1.0, rank + 1), rank)
        scaled = orthonormal(rng, rows, rank) * values
        matrix: Array = scaled @ orthonormal(rng, cols, rank).T
        return matrix

    return build


def low_rank(rank: int, *, noise: float = 0.0) -> Family:
    def build(rng: np.random.Generator, rows: int, cols: int) -> Array:
        left, right = rng.standard_normal((rows, rank)), rng.standard_normal((rank, cols))
        return left @ right + noise * rng.standard_normal((rows, cols))

    return build


def whole_low_rank(rank: int) -> Family:
    def build(rng: np.random.Generator, rows: int, cols: int) -> Array:
        left = rng.integers(-3, 4, (rows, rank)).astype(np.float64)
        return left @ rng.integers(-3, 4, (rank, cols))

    return build


def enlarged(region: tuple[slice | int, slice | int], factor: float) -> Family:
    def build(rng: np.random.Generator, rows: int, cols: int) -> Array:
        matrix = rng.standard_normal((rows, cols))
        matrix[region] *= factor
        return matrix

    return build


def graded_rows(rng: np.random.Generator, rows: int, cols: int) -> Array:
    return np.logspace(0, -10, rows)[:, None] * rng.standard_normal((rows, cols))


def mostly_zero(rng: np.random.Generator, rows: int, cols: int) -> Array:
    sparse: Array = rng.standard_normal((rows, cols)) * (rng.random((rows, cols)) < 0.01)
    return sparse


def toeplitz(_rng: np.random.Generator, rows: int, cols: int) -> Array:
    matrix: Array = 1.0 / (1.0 + np.abs(np.arange(rows)[:, None] - np.arange(cols)[None, :]))
    return matrix


def repeated_rows(rng: np.random.Generator, rows: int, cols: int) -> Array:
    return np.tile(rng.standard_normal((20, cols)), (rows // 20 + 1, 1))[:rows]


FAMILIES: Final = MappingProxyType(
    {
        "gaussian": lambda rng, m, n: rng.standard_normal((m, n)),
        "positive": lambda rng, m, n: rng.random((m, n)),
        "signs": lambda rng, m, n: rng.choice([-1.0, 1.0], (m, n)),
        "ternary": lambda rng, m, n: rng.integers(-1, 2, (m, n)).astype(np.float64),
        "all equal values": decaying(lambda i, _n: np.ones_like(i)),
        "i^-1/2": decaying(lambda i, _n: i**-0.5),
        "i^-1": decaying(lambda i, _n: i**-1.0),
        "i^-2": decaying(lambda i, _n: i**-2.0),
        "i^-4": decaying(lambda i, _n: i**-4.0),
        "geometric to 1e-8": decaying(lambda i, n: 10 ** (-8 * (i - 1) / (n - 1))),
        "geometric to 1e-16": decaying(lambda i, n: 10 ** (-16 * (i - 1) / (n - 1))),
        "rank 1": low_rank(1),
        "rank 16": low_rank(16),
        "rank 16 and noise": low_rank(16, noise=1e-4),
        "rank 1 of integers": whole_low_rank(1),
        "rank 16 of integers": whole_low_rank(16),
        "ones": lambda _rng, m, n: np.ones((m, n)),
        "a large column": enlarged((slice(None), 0), 1e4),
        "a huge column": enlarged((slice(None), 0), 1e8),
        "a large row": enlarged((0, slice(None)), 1e4),
        "a large weight": enlarged((3, 5), 1e4),
        "graded rows": graded_rows,
        "mostly zero": mostly_zero,
        "toeplitz": toeplitz,
        "repeated rows": repeated_rows,
    }
)

every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def check(matrix: torch.Tensor) -> None:
    """Compare every number with its definition on numpy's singular values, on both paths."""
    check_path(matrix, compiled=False)
    if find_spec("numba"):
        check_path(matrix, compiled=True)


def check_path(matrix: torch.Tensor, *, compiled: bool) -> None:
    values = np.linalg.svd(matrix.double().numpy(), compute_uv=False)
    squares, shares = values**2, values / values.sum()
    entropy = -(shares * np.log(shares, where=shares > 0, out=np.zeros_like(shares))).sum()
    stable, effective = squares.sum() / squares[0], np.exp(entropy)
    own = np.finfo(np.float64).eps * len(values)  # the reference rounds too
    spectrum = measure_spectrum(matrix, keep_singular_values=True, compiled=compiled)
    assert isinstance(spectrum, Spectrum)
    stable_error = abs(spectrum.stable_rank / stable - 1)
    effective_error = abs(spectrum.effective_rank / effective - 1)
    assert stable_error < 1e-12
    assert effective_error < 1e-6
    assert stable_error <= spectrum.stable_rank_error + own
    assert effective_error <= spectrum.effective_rank_error + 1e-10
    assert spectrum.stable_rank_error < 1e-10
    assert spectrum.effective_rank_error < 1e-5
    assert 1 <= spectrum.stable_rank <= spectrum.participation_ratio * (1 + own) ** 2 * len(values)
    assert 1 <= spectrum.effective_rank <= len(values)
    assert spectrum.spectral_norm == pytest.approx(values[0], rel=1e-13)
    assert spectrum.frobenius_norm == pytest.approx(np.linalg.norm(matrix.double()), rel=1e-13)
    assert spectrum.nuclear_norm == pytest.approx(values.sum(), rel=1e-6)
    participation = squares.sum() ** 2 / (squares**2).sum()
    assert spectrum.participation_ratio == pytest.approx(participation, rel=1e-12)
    outlier = float(matrix.double().abs().max()) / values[0]
    assert spectrum.outlier_share == pytest.approx(outlier**2, rel=1e-12)
    threshold = max(matrix.shape) * torch.finfo(matrix.dtype).eps * values[0]
    rank = int((values > threshold).sum()) if threshold < values[0] else None
    assert spectrum.numerical_rank == rank
    assert spectrum.singular_values is not None
    moved = np.abs(np.array(spectrum.singular_values) - values)
    assert moved.max() <= 1e-6 * values[0]


@every_family
@every_shape
def test_float32_agrees_with_the_float64_svd(shape: tuple[int, int], family: Family) -> None:
    rng = np.random.default_rng(shape)
    check(torch.from_numpy(family(rng, *shape)).float())


@every_family
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_other_dtypes_agree_as_well(dtype: torch.dtype, family: Family) -> None:
    rng = np.random.default_rng(1)
    matrix = torch.from_numpy(family(rng, 150, 120))
    if dtype == torch.float16:  # its largest number is 65504
        matrix = matrix * (1000 / matrix.abs().max())
    check(matrix.to(dtype))


@every_family
def test_the_transpose_has_the_same_ranks(family: Family) -> None:
    matrix = torch.from_numpy(family(np.random.default_rng(2), 150, 70)).float()
    plain, turned = measure_spectrum(matrix), measure_spectrum(matrix.T.contiguous())
    assert isinstance(plain, Spectrum)
    assert isinstance(turned, Spectrum)
    assert turned.stable_rank == pytest.approx(plain.stable_rank, rel=2 * plain.stable_rank_error)
    bound = plain.effective_rank_error + turned.effective_rank_error
    assert turned.effective_rank == pytest.approx(plain.effective_rank, rel=bound)
    assert turned.numerical_rank == plain.numerical_rank


@pytest.mark.parametrize("name", ["rank 1", "rank 1 of integers", "i^-4", "a huge column", "ones"])
def test_where_the_gram_matrix_fails_the_answer_is_still_good_to_nine_digits(name: str) -> None:
    """n = 384 is where the Gram matrix alone was measured to be wrong by up to 1e-5."""
    matrix = torch.from_numpy(FAMILIES[name](np.random.default_rng(3), 500, 384)).float()
    values = torch.linalg.svdvals(matrix.double())
    shares = values / values.sum()
    spectrum = measure_spectrum(matrix)
    assert isinstance(spectrum, Spectrum)
    expected = float(torch.special.entr(shares).sum().exp())
    assert spectrum.effective_rank == pytest.approx(expected, rel=2e-9)
    assert spectrum.effective_rank_error < 1e-8
