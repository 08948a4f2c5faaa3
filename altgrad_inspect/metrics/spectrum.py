"""Ranks of a matrix from all of its singular values, with certified bounds on their errors.

The Gram matrix gives the values fast; a bound computed from them says how wrong the ranks
can be. Where that is too much, QR and SVD give them again. So every row is exact in the
sense of the definitions, whatever the matrix, and says how exact.
"""

import math
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from altgrad_inspect.metrics.certificate import (
    certain_count,
    effective_rank_error,
    stable_rank_error,
)
from altgrad_inspect.metrics.singular_values import SingularValues, find_by_gram, find_by_svd
from altgrad_inspect.records import Spectrum, Undefined

MAX_EFFECTIVE_RANK_ERROR: Final = 1e-5
"""What `exact` promises of the effective rank; a larger bound calls for the SVD."""


TOO_LARGE: Final = "norms too large for a float64"
"""Why a matrix of finite weights may have no spectrum."""


@torch.no_grad()
def measure_spectrum(
    matrix: Float[Tensor, "rows cols"],
    *,
    keep_singular_values: bool = False,
    stored_eps: float | None = None,
    compiled: bool = False,
) -> Spectrum | Undefined:
    """Measure the ranks and norms of a matrix, exactly.

    With singular values s1 >= ... >= sn >= 0 and p = s / sum(s):

        stable rank      sum(s**2) / s1**2, in [1, n] (Rudelson & Vershynin 2007, JACM 54(4))
        effective rank   exp(-sum(p * ln(p))), in [1, n] (Roy & Vetterli 2007, EUSIPCO)
        participation    sum(s**2)**2 / sum(s**4), in [1, n]
        outlier share    (max abs(w) / s1)**2, in (0, 1]

    Ranks are clamped to these ranges, in which they lie by proof: the clamp can only move
    a rounded value towards the true one.

    The numerical rank counts the values above max(rows, cols) * eps * s1. It is None where
    that threshold is s1 or more, as for bfloat16 from 128 rows on: the rule then cannot
    tell any direction from rounding. Where the Gram matrix leaves a value on either side
    of the threshold in doubt, the SVD decides; its values are compared as they are, as
    numpy.linalg.matrix_rank does.

    Args:
        matrix: Weights in float16, bfloat16, float32 or float64, on any device; not changed.
        keep_singular_values: Also return all min(rows, cols) values, descending.
        stored_eps: Distance from 1 to the next number of the dtype that the layer was
            stored in, if that is not the dtype of ``matrix``.
        compiled: Whether to use the compiled loops where they apply; needs numba.

    Returns:
        The ranks; or `Undefined` for a matrix that has none: without weights, all zeros,
        with NaN or Inf, or with norms too large for a float64.
    """
    largest_weight = find_largest_weight(matrix)
    if isinstance(largest_weight, Undefined):
        return largest_weight
    exponent = -math.frexp(largest_weight)[1]
    eps = torch.finfo(matrix.dtype).eps if stored_eps is None else stored_eps
    found, numerical_rank = _find_exact(
        matrix,
        exponent=exponent,
        relative_threshold=max(matrix.shape) * eps,
        compiled=compiled,
    )
    try:
        return _build_spectrum(
            found,
            num_values=min(matrix.shape),
            numerical_rank=numerical_rank,
            largest_weight=math.ldexp(largest_weight, exponent),
            exponent=exponent,
            keep_singular_values=keep_singular_values,
        )
    except OverflowError:
        return Undefined(reason=TOO_LARGE)


def find_largest_weight(matrix: Float[Tensor, "rows cols"]) -> float | Undefined:
    """Return the largest magnitude, or why the matrix has no spectrum."""
    if matrix.numel() == 0:
        return Undefined(reason="no weights")
    low, high = matrix.aminmax()
    largest_weight = max(-float(low), float(high))
    if not math.isfinite(largest_weight):
        return Undefined(reason=_nonfinite_reason(matrix))
    if largest_weight == 0:
        return Undefined(reason="zero matrix")
    return largest_weight


def _find_exact(
    matrix: Tensor, *, exponent: int, relative_threshold: float, compiled: bool
) -> tuple[SingularValues, int | None]:
    """Return values whose certificate holds, and the numerical rank."""
    countable = relative_threshold < 1
    by_gram = find_by_gram(matrix, exponent=exponent, compiled=compiled)
    if by_gram is not None:
        values, errors = by_gram.values, by_gram.errors
        threshold = relative_threshold * float(values[0])
        count = certain_count(values, errors, threshold) if countable else None
        if effective_rank_error(values, errors) <= MAX_EFFECTIVE_RANK_ERROR and (
            count is not None or not countable
        ):
            return by_gram, count
    by_svd = find_by_svd(matrix, exponent=exponent)
    above = by_svd.values > relative_threshold * by_svd.values[0]
    return by_svd, int(above.sum()) if countable else None


def _build_spectrum(
    found: SingularValues,
    *,
    num_values: int,
    numerical_rank: int | None,
    largest_weight: float,
    exponent: int,
    keep_singular_values: bool,
) -> Spectrum:
    """Turn scaled values into ranks and unscaled norms; OverflowError if a norm is too large."""
    values = found.values
    most = float(num_values)
    largest = float(values[0])
    squares = values.square()
    total_of_squares = float(squares.sum())
    participation = total_of_squares**2 / float(squares.square().sum())
    shares = values / values.sum()
    effective_rank = math.exp(float(torch.special.entr(shares).sum()))
    kept: tuple[float, ...] | None = None
    if keep_singular_values:
        zeros = [0.0] * (num_values - len(values))
        kept = tuple(math.ldexp(value, -exponent) for value in [*values.tolist(), *zeros])
    return Spectrum(
        stable_rank=_clamp(found.squared_norm / largest**2, 1.0, most),
        effective_rank=_clamp(effective_rank, 1.0, most),
        spectral_norm=math.ldexp(largest, -exponent),
        frobenius_norm=math.ldexp(math.sqrt(found.squared_norm), -exponent),
        nuclear_norm=math.ldexp(float(values.sum()), -exponent),
        numerical_rank=numerical_rank,
        participation_ratio=_clamp(participation, 1.0, most),
        outlier_share=_clamp((largest_weight / largest) ** 2, 0.0, 1.0),
        method="exact",
        stable_rank_error=_stable_rank_error(found),
        effective_rank_error=effective_rank_error(values, found.errors),
        singular_values=kept,
    )


def _stable_rank_error(found: SingularValues) -> float:
    if found.values.numel() == 1:
        return 0.0
    return stable_rank_error(
        found.squared_norm_error,
        value_error=float(found.errors[0]),
        largest=float(found.values[0]),
    )


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _nonfinite_reason(matrix: Tensor) -> str:
    num_nan = int(matrix.isnan().sum())
    num_inf = int(matrix.isinf().sum())
    return f"{num_nan:,} NaN and {num_inf:,} Inf among {matrix.numel():,} weights"
