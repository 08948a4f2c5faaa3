"""All singular values of a matrix in float64, by the Gram matrix or by QR and SVD.

`find_by_gram` is the fast way: accumulate W^T W in float64 without a float64 copy of W,
then its eigenvalues. It cannot resolve values below about 2e-7 * s1.
`find_by_svd` is the accurate way, two to five times slower: QR by blocks of rows, then SVD.

Both look at W times a power of two, so that squares neither overflow nor underflow, along
its longer side, so that the work grows with the cube of the shorter one only. Both return
values with bounds on their errors (`altgrad_inspect.metrics.certificate`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from altgrad_inspect.metrics.certificate import (
    UNIT_ROUNDOFF,
    eigensolver_error,
    gram_value_errors,
    summation_error,
    svd_value_errors,
)
from altgrad_inspect.metrics.solver_place import placed_for_solver

CPU_BLOCK_ROWS: Final = 512
"""A block of so many rows in float64 stays in the cache while it is multiplied."""

CUDA_BLOCK_ROWS: Final = 2048
"""A GPU needs larger products than a cache would hold; the bound grows with them."""

NUM_COLUMN_BLOCKS: Final = 8
"""Blocks of columns from the diagonal on: 9/16 of all products, in pieces still large enough."""

MAX_NUMPY_COLUMNS: Final = 1024
"""Up to here the eigenvalues come from numpy (OpenBLAS), up to 1.8 times faster than torch (MKL) on
AMD and as fast on Intel; above, torch reduces large matrices in two stages."""

MAX_ONE_STEP_EXPONENT: Final = 1000
"""2**1000 is a float64, and what is left of any exponent after it is one too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SingularValues:
    """Singular values of W * 2**exponent, with what is known about their rounding.

    Attributes:
        values: On the CPU in float64, descending; rows and columns of zeros add no value.
        errors: Bounds on the error of each value.
        squared_norm: Sum of the squares of the scaled weights, from the weights.
        squared_norm_error: Bound on its relative error.
    """

    values: Float[Tensor, " n"]
    errors: Float[Tensor, " n"]
    squared_norm: float
    squared_norm_error: float


def find_by_gram(matrix: Float[Tensor, "rows cols"], *, exponent: int) -> SingularValues | None:
    """Return sqrt(eigenvalues of W^T W), or None if the eigensolver fails or contradicts itself.

    The sums of the eigenvalues and of their squares must be the trace and the squared norm
    of the Gram matrix: they are two independent ways to the same numbers, and cost nothing.
    """
    gram = _accumulate_gram(matrix, exponent=exponent)
    diagonal = gram.diagonal()
    live = diagonal > 0
    if not bool(live.all()):
        gram = gram[live][:, live]
        diagonal = gram.diagonal()
    num_columns = diagonal.numel()
    eigenvalues = _find_eigenvalues(gram)
    if eigenvalues is None:
        return None
    trace = float(diagonal.sum())
    off_diagonal = float(torch.triu(gram, diagonal=1).square_().sum())
    squares = float(diagonal.square().sum()) + 2 * off_diagonal
    solver_error = eigensolver_error(float(eigenvalues[0]), num_columns=num_columns)
    if not _agrees(eigenvalues, trace=trace, squares=squares, error=solver_error):
        return None
    num_additions = _count_additions(matrix)
    values = eigenvalues.clamp(min=0).sqrt()
    error = solver_error + summation_error(trace, num_additions=num_additions)
    return SingularValues(
        values=values,
        errors=gram_value_errors(values, error),
        squared_norm=trace,
        squared_norm_error=(num_additions + num_columns) * UNIT_ROUNDOFF,
    )


def find_by_svd(matrix: Float[Tensor, "rows cols"], *, exponent: int) -> SingularValues:
    """Return the singular values by orthogonal transformations alone.

    Rows and columns of zeros are left out first, which changes no other value. Tall
    matrices are reduced block by block to their triangle (sequential TSQR, Demmel et al.
    2012, arXiv:0808.2664, section 4), so memory is that of two blocks.
    """
    nonzero = matrix != 0
    dense = _select(_select(matrix, nonzero.any(1), dim=0), nonzero.any(0), dim=1)
    tall = orient_tall(dense)
    num_rows, num_columns = tall.shape
    block_rows = max(2 * num_columns, CPU_BLOCK_ROWS)
    triangle = tall.new_empty((0, num_columns), dtype=torch.float64)
    squared_norm, num_rows_left = 0.0, num_rows
    for block in scaled_blocks(tall, exponent=exponent, block_rows=block_rows):
        squared_norm += float(block.square().sum())
        stacked = torch.cat([triangle, block])
        num_rows_left -= len(block)
        last = num_rows_left == 0  # the SVD reduces the last block itself
        triangle = stacked if last else torch.linalg.qr(stacked, mode="r").R
    with placed_for_solver(triangle) as placed:
        # The default on CUDA is Jacobi, which is slower and less accurate for small values.
        driver = "gesvd" if placed.is_cuda else None
        values = torch.linalg.svdvals(placed, driver=driver).cpu()
    return SingularValues(
        values=values,
        errors=svd_value_errors(values, num_rows=num_rows, num_columns=num_columns),
        squared_norm=squared_norm,
        squared_norm_error=(num_rows + num_columns) * UNIT_ROUNDOFF,
    )


def _accumulate_gram(matrix: Tensor, *, exponent: int) -> Tensor:
    """Return the scaled Gram matrix of the shorter side, float64; at least the upper triangle."""
    tall = orient_tall(matrix)
    num_columns = tall.shape[1]
    gram = torch.zeros((num_columns, num_columns), dtype=torch.float64, device=matrix.device)
    # Squares of narrower dtypes fit in float64 as they are, and n * n numbers are fewer.
    scale_first = matrix.dtype == torch.float64
    add = _add_products_on_cuda if matrix.is_cuda else _SymmetricProducts(num_columns)
    block_exponent = exponent if scale_first else 0
    for block in scaled_blocks(tall, exponent=block_exponent, block_rows=_block_rows(matrix)):
        add(gram, block)
    return gram if scale_first else scale_(gram, 2 * exponent)


class _SymmetricProducts:
    """Adds B^T B by numpy, which knows that the product is symmetric and does half of the work.

    Each product is made on its own and then added: BLAS may else add row after row onto a large
    sum, which rounds far worse.
    """

    def __init__(self, num_columns: int) -> None:
        self._product = np.empty((num_columns, num_columns))

    def __call__(self, gram: Tensor, block: Tensor) -> None:
        rows = block.numpy()
        gram.add_(torch.from_numpy(np.dot(rows.T, rows, out=self._product)))


def _add_products_on_cuda(gram: Tensor, block: Tensor) -> None:
    """Add the upper triangle of B^T B, in blocks of columns from the diagonal on."""
    num_columns = block.shape[1]
    width = max(math.ceil(num_columns / NUM_COLUMN_BLOCKS), 64)
    for start in range(0, num_columns, width):
        stop = min(start + width, num_columns)
        gram[start:stop, start:].add_(block[:, start:stop].mT @ block[:, start:])


def _find_eigenvalues(gram: Tensor) -> Tensor | None:
    """Return all eigenvalues, descending and on the CPU; None if LAPACK does not converge."""
    try:
        with placed_for_solver(gram) as placed:
            if placed.is_cuda or len(placed) > MAX_NUMPY_COLUMNS:
                eigenvalues: Tensor = torch.linalg.eigvalsh(placed, UPLO="U").cpu()
            else:
                eigenvalues = torch.from_numpy(np.linalg.eigvalsh(placed.numpy(), UPLO="U"))
    except (np.linalg.LinAlgError, torch.linalg.LinAlgError):  # type: ignore[attr-defined]
        return None
    return eigenvalues.flip(0) if bool(torch.isfinite(eigenvalues).all()) else None


def scaled_blocks(
    tall: Tensor, *, exponent: int, block_rows: int
) -> Iterator[Float[Tensor, "block n"]]:
    """Yield blocks of rows in float64, times 2**exponent, in one buffer that is used again.

    Args:
        tall: (rows, n), of any float dtype, on any device; not changed.
        exponent: Of the power of two, of any size.
        block_rows: The most rows in a block, at least 1.
    """
    num_rows, num_columns = tall.shape
    size = min(block_rows, num_rows)
    if tall.stride(0) >= tall.stride(1):
        buffer = torch.empty((size, num_columns), dtype=torch.float64, device=tall.device)
    else:  # the transpose of a stored wide matrix: copy along its rows
        buffer = torch.empty((num_columns, size), dtype=torch.float64, device=tall.device).mT
    for start in range(0, num_rows, size):
        rows = tall[start : start + size]
        yield scale_(buffer[: len(rows)].copy_(rows), exponent)


def scale_(tensor: Tensor, exponent: int) -> Tensor:
    """Multiply in place by 2**exponent, which may itself be too large for a float64."""
    if exponent == 0:
        return tensor
    first = max(min(exponent, MAX_ONE_STEP_EXPONENT), -MAX_ONE_STEP_EXPONENT)
    tensor.mul_(math.ldexp(1.0, first))
    return tensor.mul_(math.ldexp(1.0, exponent - first)) if exponent != first else tensor


def orient_tall(matrix: Tensor) -> Tensor:
    """Return the matrix or its transpose, as a view with at least as many rows as columns."""
    return matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT


def _select(matrix: Tensor, live: Tensor, *, dim: int) -> Tensor:
    return matrix if bool(live.all()) else matrix.index_select(dim, live.nonzero().flatten())


def _block_rows(matrix: Tensor) -> int:
    return CUDA_BLOCK_ROWS if matrix.is_cuda else CPU_BLOCK_ROWS


def _count_additions(matrix: Tensor) -> int:
    """Bound the additions, and the other roundings, that a product in the Gram matrix goes through.

    The other ones, all of which only float64 has: of the product itself, and of its two
    factors where the matrix is a difference of stored ones.
    """
    length, block_rows = max(matrix.shape), _block_rows(matrix)
    other = 3 if matrix.dtype == torch.float64 else 1
    return min(length, block_rows) + math.ceil(length / block_rows) + other


def _agrees(eigenvalues: Tensor, *, trace: float, squares: float, error: float) -> bool:
    """Whether the eigenvalues have the trace and the squared norm that they must have."""
    num_values = eigenvalues.numel()
    sum_error = abs(float(eigenvalues.sum()) - trace)
    squares_error = abs(float(eigenvalues.square().sum()) - squares)
    squares_bound = 2 * math.sqrt(num_values * squares) * error + num_values * error**2
    # NaN compares as False, so it never agrees.
    return sum_error <= num_values * error and squares_error <= squares_bound
