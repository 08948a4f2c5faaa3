"""The compiled loops against integers, known eigenvalues, LAPACK, and the other path."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from altgrad_inspect.metrics.eigenvalues import find_eigenvalues
from altgrad_inspect.metrics.gram import accumulate_gram
from altgrad_inspect.metrics.singular_values import find_by_gram
from altgrad_inspect.metrics.spectrum import measure_spectrum
from altgrad_inspect.metrics.spectrum_kernel import (
    BLOCK_ROWS,
    MAX_COLUMNS,
    MIN_SECONDS,
    CompiledProducts,
    find_eigenvalues_compiled,
    worth_compiling_spectra,
)
from altgrad_inspect.records import Spectrum

pytest.importorskip("numba", reason="the kernels need numba: pip install altgrad-inspect[fast]")

Array = NDArray[np.floating[Any]]
UNIT_ROUNDOFF = 2.0**-53
MOST_ERROR = 10.0
"""In units of sqrt(n) * u * lambda1, that of LAPACK included; the certificate allows for 16."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def small_integers(seed: int, rows: int, cols: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-9, 10, (rows, cols), generator=generator)


def upper(matrix: torch.Tensor) -> torch.Tensor:
    return torch.triu(matrix)


COLUMNS = [*range(1, 58), 63, 64, 65, 71, 72, 73, 95, 96, 97, 120, 129]


@pytest.mark.parametrize("stored_by", ["rows", "columns"])
@pytest.mark.parametrize("num_columns", COLUMNS)
def test_products_of_integers_are_exact(num_columns: int, stored_by: str) -> None:
    """On every way to cut columns into tiles; blocks of other lengths, the longest not first."""
    products = CompiledProducts(num_columns, 19)
    expected = torch.zeros(num_columns, num_columns, dtype=torch.int64)
    for seed, num_rows in enumerate([7, 19, 1, 8]):
        block = small_integers(seed, num_rows, num_columns)
        expected += block.T @ block
        given = block.double()
        products.add(given if stored_by == "rows" else given.T.contiguous().mT)
    assert torch.equal(upper(products.total()).long(), upper(expected))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(5, 5), (600, 37), (37, 600), (BLOCK_ROWS, 40), (1, 9)])
def test_gram_matrices_of_integers_are_exact(shape: tuple[int, int], dtype: torch.dtype) -> None:
    matrix = small_integers(3, *shape)
    tall = matrix if shape[0] >= shape[1] else matrix.T
    gram = accumulate_gram(matrix.to(dtype), exponent=2, compiled=True)
    assert torch.equal(upper(gram.matrix), upper((tall.T @ tall).double() * 16))


def test_a_slice_of_a_larger_matrix_is_read_where_it_lies() -> None:
    large = small_integers(5, 90, 80).float()
    part = large[10:70, 7:33]
    expected = accumulate_gram(part.clone(), exponent=0, compiled=True).matrix
    assert torch.equal(
        upper(accumulate_gram(part, exponent=0, compiled=True).matrix), upper(expected)
    )


def test_the_bounds_cover_every_addition_of_the_compiled_products() -> None:
    matrix = torch.ones(BLOCK_ROWS * 2 + 76, 30)
    found = find_by_gram(matrix, exponent=0, compiled=True)
    assert found is not None
    assert found.squared_norm_error == (BLOCK_ROWS + 3 + 1 + 30) * UNIT_ROUNDOFF


@pytest.mark.parametrize("weight", [1.0, 0.1, 1 / 3])
@pytest.mark.parametrize("shape", [(30_000, 20), (300, 6000), (200, 200)])
def test_constant_matrices_stay_inside_the_bounds(shape: tuple[int, int], weight: float) -> None:
    matrix = torch.full(shape, weight)
    truth = float(matrix[0, 0]) * math.sqrt(math.prod(shape))
    found = find_by_gram(matrix, exponent=0, compiled=True)
    assert found is not None
    assert abs(float(found.values[0]) - truth) <= float(found.errors[0]) + truth * 2**-52
    assert bool((found.values[1:] <= found.errors[1:]).all())
    assert abs(found.squared_norm / truth**2 - 1) <= found.squared_norm_error + 2**-52


def tridiagonal(diagonal: Array, off_diagonal: Array) -> Array:
    matrix: Array = np.diag(diagonal) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1)
    return matrix


def second_difference(n: int) -> tuple[Array, Array]:
    angles = np.arange(1, n + 1) * math.pi / (n + 1)
    return tridiagonal(np.full(n, 2.0), np.full(n - 1, -1.0)), 2 - 2 * np.cos(angles)


def clement(n: int) -> tuple[Array, Array]:
    """Zero diagonal, so that shifts meet entries; whole eigenvalues -n + 1, -n + 3, ..., n - 1."""
    i = np.arange(1.0, n)
    return tridiagonal(np.zeros(n), np.sqrt(i * (n - i))), np.arange(1.0 - n, n, 2)


def turned(values: Array, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((len(values), len(values)))).Q
    matrix: Array = (basis * values) @ basis.T
    return matrix, np.sort(values)


def in_blocks(n: int) -> tuple[Array, Array]:
    """Two matrices that do not touch, and a column of zeros between them."""
    first, values = second_difference(n)
    matrix = np.zeros((2 * n + 1, 2 * n + 1))
    matrix[:n, :n], matrix[n + 1 :, n + 1 :] = first, 3 * first
    return matrix, np.sort([*values, 0.0, *(3 * values)])


def arrow(n: int) -> tuple[Array, Array]:
    """Ones around a diagonal of ones: 1 + sqrt(n - 1), 1 - sqrt(n - 1), and 1 for the others."""
    matrix = np.eye(n)
    matrix[0, 1:] = matrix[1:, 0] = 1.0
    root = math.sqrt(n - 1)
    return matrix, np.sort([1 - root, *np.ones(n - 2), 1 + root])


KNOWN: Final = MappingProxyType(
    {
        "second difference": second_difference,
        "Clement": clement,
        "identity": lambda n: (np.eye(n), np.ones(n)),
        "zeros": lambda n: (np.zeros((n, n)), np.zeros(n)),
        "ones": lambda n: (np.ones((n, n)), np.sort([float(n), *np.zeros(n - 1)])),
        "diagonal": lambda n: (np.diag(np.arange(n, 0.0, -1)), np.arange(1.0, n + 1)),
        "two values": lambda n: turned(np.where(np.arange(n) % 2 == 0, 1.0, -1.0)),
        "geometric": lambda n: turned(np.logspace(0, -30, n)),
        "one large": lambda n: turned(np.array([1e8, *np.ones(n - 1)])),
        "cluster": lambda n: turned(1 + 1e-14 * np.arange(n)),
        "blocks": in_blocks,
        "arrow": arrow,
    }
)


def assert_close(matrix: Array, expected: Array) -> None:
    given = torch.from_numpy(np.triu(matrix))
    kept = given.clone()
    found = find_eigenvalues_compiled(given)
    assert found is not None
    assert torch.equal(given, kept)
    assert bool((found.diff() >= 0).all())
    unit = math.sqrt(len(matrix)) * UNIT_ROUNDOFF * np.abs(expected).max()
    assert np.abs(found.numpy() - expected).max() <= MOST_ERROR * unit


@pytest.mark.parametrize("size", [2, 3, 5, 8, 9, 16, 31, 64, 65, 200])
@pytest.mark.parametrize("build", KNOWN.values(), ids=KNOWN)
def test_eigenvalues_that_are_known_are_found(
    build: Callable[[int], tuple[Array, Array]], size: int
) -> None:
    assert_close(*build(size))


@pytest.mark.parametrize("size", range(1, 70))
def test_every_small_size_agrees_with_lapack(size: int) -> None:
    rng = np.random.default_rng(size)
    symmetric = rng.standard_normal((size, size))
    symmetric += symmetric.T
    assert_close(symmetric, np.linalg.eigvalsh(symmetric))


@pytest.mark.parametrize("exponent", [-300, -40, 40, 300])
def test_sizes_far_from_one_are_found(exponent: int) -> None:
    matrix, expected = second_difference(60)
    assert_close(matrix * 2.0**exponent, expected * 2.0**exponent)


@pytest.mark.parametrize("exponent", range(-560, -500, 4))
def test_numbers_whose_squares_vanish_do_no_harm(exponent: int) -> None:
    """A column whose squares are subnormal has no direction that could be reflected."""
    matrix, _ = second_difference(12)
    matrix[:6, 6:] = 2.0**exponent * np.random.default_rng(0).standard_normal((6, 6))
    matrix[6:, :6] = matrix[:6, 6:].T
    assert_close(matrix, np.linalg.eigvalsh(matrix))


def test_the_larger_sizes_agree_with_lapack() -> None:
    for size in (384, 500):
        matrix = torch.randn(2 * size, size, generator=torch.Generator().manual_seed(size)).double()
        gram = (matrix.T @ matrix).numpy()
        assert_close(gram, np.linalg.eigvalsh(gram))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_noticed(bad: float) -> None:
    matrix = torch.eye(20, dtype=torch.float64)
    matrix[3, 9] = bad
    assert find_eigenvalues(matrix, compiled=True) is None


def test_an_iteration_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = pytest.importorskip("altgrad_inspect.metrics.eigenvalues_compiled")
    find = rooms._find_scaled.py_func
    squares = np.array([0.0, 0.25, 0.25, 0.25])
    assert find(np.zeros(4), squares.copy())
    monkeypatch.setattr(rooms, "MAX_STEPS_A_VALUE", 1)
    assert not find(np.zeros(4), squares.copy())


def test_what_the_iteration_gives_up_lapack_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "altgrad_inspect.metrics.eigenvalues.find_eigenvalues_compiled", lambda _: None
    )
    found = find_eigenvalues(torch.diag(torch.tensor([1.0, 3.0, 2.0]).double()), compiled=True)
    assert found is not None
    assert found.tolist() == [3.0, 2.0, 1.0]


def test_larger_matrices_go_to_lapack(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def record(matrix: torch.Tensor) -> torch.Tensor:
        asked.append(len(matrix))
        return torch.ones(len(matrix), dtype=torch.float64)

    monkeypatch.setattr("altgrad_inspect.metrics.eigenvalues.find_eigenvalues_compiled", record)
    monkeypatch.setattr("altgrad_inspect.metrics.spectrum_kernel.MAX_COLUMNS", 30)
    matrix = torch.eye(31, dtype=torch.float64)
    find_eigenvalues(matrix, compiled=True)
    find_eigenvalues(matrix[:30, :30], compiled=True)
    find_eigenvalues(matrix[:30, :30])
    assert asked == [30]
    assert MAX_COLUMNS == 2048


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (96, 96), (300, 70), (70, 300), (513, 200)])
def test_both_paths_find_the_same_ranks(shape: tuple[int, int], dtype: torch.dtype) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    if shape[0] > 64:
        matrix[:, ::9], matrix[5:20] = 0, 0
    compiled = measure_spectrum(matrix, compiled=True)
    other = measure_spectrum(matrix)
    assert isinstance(compiled, Spectrum)
    assert isinstance(other, Spectrum)
    assert compiled.numerical_rank == other.numerical_rank
    assert compiled.stable_rank == pytest.approx(other.stable_rank, rel=1e-13)
    error = compiled.effective_rank_error + other.effective_rank_error + 1e-14
    assert compiled.effective_rank == pytest.approx(other.effective_rank, rel=error)
    assert compiled == measure_spectrum(matrix, compiled=True)


OTHER_TILES = """
import torch
from altgrad_inspect.metrics import vector_code
vector_code.HAS_WIDE_REGISTERS = not vector_code.HAS_WIDE_REGISTERS
from altgrad_inspect.metrics.spectrum_kernel import CompiledProducts, find_eigenvalues_compiled

for num_columns in (1, 7, 8, 9, 40, 61, 64):
    products = CompiledProducts(num_columns, 19)
    block = torch.arange(19.0 * num_columns, dtype=torch.float64).reshape(19, num_columns) % 17
    products.add(block)
    products.add(block.T.contiguous().mT)
    expected = 2 * block.T @ block
    assert torch.equal(torch.triu(products.total()), torch.triu(expected)), num_columns
    found = find_eigenvalues_compiled(expected)
    torch.testing.assert_close(found, torch.linalg.eigvalsh(expected), rtol=1e-13, atol=1e-9)
"""


def test_the_tiles_of_other_processors_give_the_same_numbers(tmp_path: Path) -> None:
    """Those for 16 registers where there are 32, or the other way round."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", OTHER_TILES], check=True, env=environment)


def test_only_runs_that_take_long_are_compiled_for() -> None:
    assert not worth_compiling_spectra(MIN_SECONDS * 0.99)
    assert worth_compiling_spectra(MIN_SECONDS)
