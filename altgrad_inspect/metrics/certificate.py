"""How far off singular values and ranks can be, from the rounding of their computation.

Everything here is about values that were *already* found: errors of single values first
(`gram_value_errors`, `svd_value_errors`), then what they do to a rank.
u = 2**-53 is half the distance between 1 and the next float64.
"""

import math
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

UNIT_ROUNDOFF: Final = 2.0**-53

EIGENSOLVER_FACTOR: Final = 16.0
"""Measured on 126 matrices up to n = 2048: at most 2.9 * sqrt(n) * u * lambda1."""

SVD_ALLOWANCE: Final = 32
"""For small matrices, where the largest error measured was 33 * u * s1 (at 16 by 16)."""


def eigensolver_error(largest: float, *, num_columns: int) -> float:
    """Bound the error of every eigenvalue of a symmetric matrix that was found in float64.

    16 * sqrt(n) * u * lambda1. The solver is backward stable, so its eigenvalues are those of
    a matrix within p(n) * u * lambda1 (Weyl's inequality); sqrt(n) and its factor are
    measured, with a margin of 5, since the proven p(n) is far from what any matrix shows.

    Args:
        largest: lambda1, the largest eigenvalue.
        num_columns: n.
    """
    return EIGENSOLVER_FACTOR * math.sqrt(num_columns) * UNIT_ROUNDOFF * largest


def summation_error(squared_norm: float, *, num_additions: int) -> float:
    """Bound the error of the eigenvalues of W^T W that comes from summing its products.

    L * u * sum(w**2), when no product goes through more than L additions (and one rounding
    of its own if W is float64; products of narrower numbers are exact). By Cauchy-Schwarz
    no partial sum of entry (i, j) exceeds norm_i * norm_j, so the error matrix is below
    L * u * (norms norms^T) entry by entry, whose norm is that (Higham 2002, section 3.5).
    This is the worst case, and constant matrices come within a few times of it: there every
    addition rounds to the same side.
    """
    return num_additions * UNIT_ROUNDOFF * squared_norm


def gram_value_errors(
    singular_values: Float[Tensor, " n"], eigenvalue_error: float
) -> Float[Tensor, " n"]:
    """Bound the error of each singular value s = sqrt(max(lambda, 0)).

    From abs(s**2 - t**2) <= E follow abs(s - t) <= E / (s + t) <= E / s, which is sharp for
    large s, and abs(s - t) <= sqrt(E), which is all that is known near zero.
    """
    return torch.clamp(eigenvalue_error / singular_values, max=math.sqrt(eigenvalue_error))


def svd_value_errors(
    singular_values: Float[Tensor, " n"], *, num_rows: int, num_columns: int
) -> Float[Tensor, " n"]:
    """Bound the error of each singular value that QR and SVD in float64 found.

    Both are made of orthogonal transformations, so what they return are the singular values
    of a matrix within p(m, n) * u * s1 of the given one, and each moved by no more than that
    (Weyl's inequality; Higham 2002, theorem 19.4, where p is a polynomial that no matrix
    comes near). The bound taken is (m + n + 32) * u * s1. Measured: at most 0.4 * n for
    random matrices, and 0.25 * m for constant ones, where every addition in the norm of a
    column rounds to the same side.
    """
    error = (num_rows + num_columns + SVD_ALLOWANCE) * UNIT_ROUNDOFF * singular_values.max()
    return torch.full_like(singular_values, float(error))


def effective_rank_error(
    singular_values: Float[Tensor, " n"], value_errors: Float[Tensor, " n"]
) -> float:
    """Bound the relative error of exp(entropy of s / sum(s)).

    With p = s / sum(s), errors e_i move p by at most T = sum(e) / sum(s) in total variation:
    half of sum(abs(s - t)) / S from the values and half of it again from their sum. Then
    abs(dH) <= T * ln(n - 1) + h2(T), with h2 the binary entropy (Audenaert 2007,
    arXiv:quant-ph/0610146, theorem 1), and never more than ln(n). The rounding of the
    entropy itself is added.

    Returns:
        exp(bound on abs(dH)) - 1; 0 for one value, whose effective rank is 1 by definition.
    """
    num_values = singular_values.numel()
    if num_values == 1:
        return 0.0
    distance = float(value_errors.sum() / singular_values.sum())
    rounding = 32 * UNIT_ROUNDOFF * (1 + math.log(num_values))
    return math.expm1(entropy_error(distance, num_values=num_values) + rounding)


def entropy_error(distance: float, *, num_values: int) -> float:
    """Bound how far the entropies of two distributions can be apart.

    T * ln(n - 1) + h2(T), and never more than ln(n) (Audenaert 2007, theorem 1).

    Args:
        distance: T, at least their distance in total variation, half of sum(abs(p - q)).
        num_values: n, at least 2.
    """
    most = math.log(num_values)
    if not distance < 1 - 1 / num_values:
        return most
    if distance <= 0:
        return 0.0
    binary_entropy = -distance * math.log(distance) - (1 - distance) * math.log1p(-distance)
    return min(most, distance * math.log(num_values - 1) + binary_entropy)


def stable_rank_error(squared_norm_error: float, *, value_error: float, largest: float) -> float:
    """Bound the relative error of sum(w**2) / s1**2.

    Args:
        squared_norm_error: Relative error of sum(w**2). It is a sum of positive numbers, so it
            is off by at most u for each addition that one term goes through.
        value_error: Bound on the error of s1.
        largest: s1 as found.
    """
    relative = value_error / largest
    return squared_norm_error + 2 * relative + relative**2


def certain_count(
    singular_values: Float[Tensor, " n"], value_errors: Float[Tensor, " n"], threshold: float
) -> int | None:
    """Count the values above ``threshold``; None if an error could move one across it."""
    above = singular_values > threshold
    surely_above = singular_values - value_errors > threshold
    maybe_above = singular_values + value_errors > threshold
    if not torch.equal(surely_above, maybe_above):
        return None
    return int(above.sum())
