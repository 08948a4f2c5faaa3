"""All singular values of a matrix in float64, by the Gram matrix or by QR and SVD.

`find_by_gram` is the fast way: accumulate W^T W in float64 without a float64 copy of W,
then its eigenvalues. It cannot resolve values below about 2e-7 * s1.
`find_by_svd` is the accurate way, two to five times slower: QR by blocks of rows, then SVD.

Both look at W times a power of two, so that squares neither overflow nor underflow, along
its longer side, so that the work grows with the cube of the shorter one only. Both return
values with bounds on their errors (`altgrad_inspect.metrics.certificate`).
"""

import math
from dataclasses import dataclass
from typing import Final

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
from altgrad_inspect.metrics.eigenvalues import find_eigenvalues
from altgrad_inspect.metrics.gram import accumulate_gram
from altgrad_inspect.metrics.scaled_blocks import orient_tall, scaled_blocks
from altgrad_inspect.metrics.solver_place import placed_for_solver

MIN_QR_ROWS: Final = 512
"""Fewer rows are not worth a reduction of their own."""

_SQUARED_ROWS: Final = 256


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


def find_by_gram(
    matrix: Float[Tensor, "rows cols"], *, exponent: int, compiled: bool = False
) -> SingularValues | None:
    """Return sqrt(eigenvalues of W^T W), or None if the eigensolver fails or contradicts itself.

    The sums of the eigenvalues and of their squares must be the trace and the squared norm
    of the Gram matrix: they are two independent ways to the same numbers, and cost nothing.

    Args:
        matrix: Weights of any float dtype, on any device; not changed.
        exponent: Of the power of two.
        compiled: Whether to use the compiled loops where they apply; needs numba.
    """
    accumulated = accumulate_gram(matrix, exponent=exponent, compiled=compiled)
    gram, num_additions = accumulated.matrix, accumulated.num_additions
    diagonal = gram.diagonal()
    live = diagonal > 0
    if not bool(live.all()):
        gram = gram[live][:, live]
        diagonal = gram.diagonal()
    num_columns = diagonal.numel()
    eigenvalues = find_eigenvalues(gram, compiled=compiled)
    if eigenvalues is None:
        return None
    trace = float(diagonal.sum())
    squares = float(diagonal.square().sum()) + 2 * _sum_squares_above_diagonal(gram)
    solver_error = eigensolver_error(float(eigenvalues[0]), num_columns=num_columns)
    if not _agrees(eigenvalues, trace=trace, squares=squares, error=solver_error):
        return None
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
    block_rows = max(2 * num_columns, MIN_QR_ROWS)
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


def _select(matrix: Tensor, live: Tensor, *, dim: int) -> Tensor:
    return matrix if bool(live.all()) else matrix.index_select(dim, live.nonzero().flatten())


def _sum_squares_above_diagonal(gram: Tensor) -> float:
    """In blocks of rows, so that the squares stay in the cache."""
    return sum(
        float(torch.triu(gram[start : start + _SQUARED_ROWS, start:], diagonal=1).square_().sum())
        for start in range(0, len(gram), _SQUARED_ROWS)
    )


def _agrees(eigenvalues: Tensor, *, trace: float, squares: float, error: float) -> bool:
    """Whether the eigenvalues have the trace and the squared norm that they must have."""
    num_values = eigenvalues.numel()
    sum_error = abs(float(eigenvalues.sum()) - trace)
    squares_error = abs(float(eigenvalues.square().sum()) - squares)
    squares_bound = 2 * math.sqrt(num_values * squares) * error + num_values * error**2
    # NaN compares as False, so it never agrees.
    return sum_error <= num_values * error and squares_error <= squares_bound
