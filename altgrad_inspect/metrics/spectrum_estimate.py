"""Ranks of a matrix without all of its singular values: faster for large ones, with error bars.

`measure_stable_rank`: s1 by Lanczos, the squared norm from the weights: nine digits.
`estimate_spectrum`: also the effective rank and the nuclear norm, by stochastic Lanczos
quadrature (Ubaru, Chen & Saad 2017, SIAM J. Matrix Anal. 38(4)) of what is left when the
leading directions, found by subspace iteration, are taken out: three digits.

Both draw from fixed seeds, so that the same weights have the same numbers.
"""

import math
from dataclasses import asdict, dataclass, fields
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from altgrad_inspect.metrics.certificate import UNIT_ROUNDOFF, entropy_error
from altgrad_inspect.metrics.lanczos import (
    GolubKahan,
    TopDirection,
    draw_signs,
    find_top_direction,
    prepare_matrix,
)
from altgrad_inspect.metrics.spectrum import TOO_LARGE, find_largest_weight, measure_spectrum
from altgrad_inspect.records import Spectrum, StableRank, Undefined

MIN_STABLE_SIDE: Final = 1024
"""With fewer columns, on the shorter side, all of the values are found nearly as fast."""

MAX_STABLE_ASPECT: Final = 3
"""In longer matrices the Gram matrix is as fast as the steps of Lanczos."""

MIN_ESTIMATED_SIDE: Final = 3072
"""Estimates take as long as exact ranks at 2048 columns, and half as long at 4096."""

AUTO_SIDE: Final = 8192
"""From here on ``auto`` estimates: one exact spectrum takes more than 20 s of one core."""

NUM_PROBES: Final = 16
NUM_STEPS: Final = 48
NUM_LEADING: Final = 64
NUM_ITERATIONS: Final = 4

PROBE_SIGMAS: Final = 3.0
"""Student's t for 14 degrees of freedom has 2.2 at the two-sided 95 %; the rest is a margin, for
probes that are not normally distributed."""

_SQUARES: Final = 2
"""Which of the sums is that of s**2."""

_MIN_KNOWN: Final = 1e-3
"""A smaller share of the squared norm, as a difference, is known no better than by probes."""

_LOCK_RESIDUAL: Final = 3e-3
"""A direction is taken out if what W^T W makes of it is itself up to this share: the error in
its eigenvalue is of the order of the square."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sums:
    """Sums over all singular values of W times 2**exponent: of s, s * ln(s), s**2 and s**4."""

    totals: Float[Tensor, " 4"]
    entropy_deviation: float


@torch.no_grad()
def measure_stable_rank(
    matrix: Float[Tensor, "rows cols"], *, seed: int = 0, compiled: bool = False
) -> StableRank | Undefined:
    """Measure the stable rank, the spectral and the Frobenius norm, and nothing else.

    By Lanczos where that is faster than the Gram matrix, that is for nearly square matrices
    with at least `MIN_STABLE_SIDE` columns and rows; ``method`` says which it was.

    Args:
        matrix: Weights in float16, bfloat16, float32 or float64, on any device; not changed.
        seed: Of the start.
        compiled: As for `measure_spectrum`.

    Returns:
        The stable rank; or `Undefined` as in `altgrad_inspect.metrics.spectrum`.
    """
    short, long = sorted(matrix.shape)
    if short >= MIN_STABLE_SIDE and long <= MAX_STABLE_ASPECT * short:
        found = _find_stable_rank(matrix, seed=seed)
        if found is not None:
            return found if isinstance(found, Undefined) else found[0]
    exact = measure_spectrum(matrix, compiled=compiled)
    return keep_stable_rank(exact) if isinstance(exact, Spectrum) else exact


@torch.no_grad()
def estimate_spectrum(
    matrix: Float[Tensor, "rows cols"], *, seed: int = 0, compiled: bool = False
) -> Spectrum | Undefined:
    """Estimate the ranks and norms of a matrix, whatever its size.

    ``effective_rank_error`` is three standard deviations over the probes, plus what the quadrature
    gained from the second half of its steps, plus what the roundings of the products can
    do. ``numerical_rank`` is None: no estimate sees the smallest values. The participation ratio
    has the relative error of sum(s**4), for which there is no column.

    Where Lanczos does not converge the ranks are exact, and ``method`` says so.

    Args:
        matrix: Weights in float16, bfloat16, float32 or float64, on any device; not changed.
        seed: Of all probes and starts.
        compiled: As for `measure_spectrum`.

    Returns:
        The ranks; or `Undefined` as in `altgrad_inspect.metrics.spectrum`.
    """
    found = _find_stable_rank(matrix, seed=seed)
    if found is None or min(matrix.shape) < 2:
        return measure_spectrum(matrix, compiled=compiled)
    if isinstance(found, Undefined):
        return found
    stable, top, exponent = found
    sums = _estimate_sums(matrix, exponent=exponent, seed=seed, squared_norm=top.squared_norm)
    try:
        return _build_estimate(stable, top, sums, matrix=matrix, exponent=exponent)
    except OverflowError:
        return Undefined(reason=TOO_LARGE)


def _find_stable_rank(
    matrix: Tensor, *, seed: int
) -> tuple[StableRank, TopDirection, int] | Undefined | None:
    """Return the stable rank by Lanczos, and the exponent; None if it does not converge."""
    largest_weight = find_largest_weight(matrix)
    if isinstance(largest_weight, Undefined):
        return largest_weight
    exponent = -math.frexp(largest_weight)[1]
    top = find_top_direction(matrix, exponent=exponent, seed=seed)
    if top is None:
        return None
    try:
        stable = _build_stable_rank(matrix, top, largest_weight=largest_weight, exponent=exponent)
    except OverflowError:
        return Undefined(reason=TOO_LARGE)
    return stable, top, exponent


def keep_stable_rank(spectrum: Spectrum) -> StableRank:
    """Return the part of a spectrum that `measure_stable_rank` has, so that all rows have it."""
    names = (field.name for field in fields(StableRank))
    return StableRank(**{name: getattr(spectrum, name) for name in names})


def _estimate_sums(matrix: Tensor, *, exponent: int, seed: int, squared_norm: float) -> _Sums:
    """Add up the leading directions and the quadrature of the rest."""
    work, left = prepare_matrix(matrix, exponent=exponent)
    num_columns = work.shape[1]
    basis, leading = _find_leading(work, seed=seed + 1)
    leading = leading * math.ldexp(1.0, left)
    num_left = num_columns - len(leading)
    fixed = _apply(leading).sum(-1)
    if num_left == 0:
        return _Sums(totals=fixed, entropy_deviation=0.0)
    probes = draw_signs((NUM_PROBES, num_columns), work, seed=seed + 2)
    probes = probes - (probes @ basis.mT) @ basis
    probes = probes / torch.linalg.vector_norm(probes, dim=1, keepdim=True)
    most = min(NUM_STEPS, num_left)
    run = GolubKahan(work, probes, max_steps=most, locked=basis)
    run.advance(most)
    remainder = squared_norm - float(leading.square().sum())
    known = remainder if remainder > _MIN_KNOWN * squared_norm else None
    totals, residuals = _combine(_quadrature(run, most, left) * num_left, fixed, known)
    coarse, _ = _combine(_quadrature(run, max(1, most // 2), left) * num_left, fixed, known)
    deviation = PROBE_SIGMAS * float(_entropy_influence(totals, residuals).square().sum().sqrt())
    deviation /= math.sqrt(NUM_PROBES * (NUM_PROBES - 2))
    bias = abs(_entropy(totals) - _entropy(coarse)) if most < num_left else 0.0
    return _Sums(totals=totals, entropy_deviation=deviation + bias)


def _combine(
    probes: Float[Tensor, "4 probes"], fixed: Float[Tensor, " 4"], known: float | None
) -> tuple[Float[Tensor, " 4"], Float[Tensor, "4 probes"]]:
    """Return the sums over all values, and what is left unexplained in each probe.

    The sum of the squares is known from the weights. How far a probe is off in it says how
    far it is off in the others (a control variate; Glasserman 2003, section 4.1).
    """
    means = probes.mean(1)
    residuals = probes - means[:, None]
    squares = residuals[_SQUARES]
    spread = float(squares.square().sum())
    if known is not None and spread > 0:
        slopes = (residuals * squares).sum(1) / spread
        means = means - slopes * (means[_SQUARES] - known)
        residuals = residuals - slopes[:, None] * squares
    return fixed + means, residuals


def _find_leading(
    work: Float[Tensor, "m n"], *, seed: int
) -> tuple[Float[Tensor, "r n"], Float[Tensor, " r"]]:
    """Return directions that W^T W maps onto themselves, and their singular values.

    Subspace iteration (Halko, Martinsson & Tropp 2011, arXiv:0909.4061, algorithm 4.4), then
    only those that have converged: for a flat spectrum that is none.
    """
    num_columns = work.shape[1]
    size = min(NUM_LEADING, max(1, num_columns // 8))
    block = draw_signs((size, num_columns), work, seed=seed).mT
    for _ in range(NUM_ITERATIONS):
        block = torch.linalg.qr(block).Q
        block = work.mT @ torch.linalg.qr(work @ block).Q
    block = torch.linalg.qr(block).Q
    image = work @ block
    values, vectors = torch.linalg.eigh((image.mT @ image).double())
    turned = vectors.to(work.dtype)
    block, image = block @ turned, image @ turned
    residuals = torch.linalg.vector_norm((work.mT @ image).double() - block * values, dim=0)
    keep = (residuals <= _LOCK_RESIDUAL * values) & (values > 0)
    kept = torch.linalg.qr(block[:, keep]).Q.mT
    return kept.contiguous(), values[keep].sqrt().cpu()


def _quadrature(run: GolubKahan, num_steps: int, left: int) -> Float[Tensor, "4 probes"]:
    """Return the quadratic forms of s, s * ln(s), s**2 and s**4 at each probe."""
    values, right = run.find_triplets(num_steps)
    values = values * math.ldexp(1.0, left)
    return (_apply(values) * right[:, :, 0].square()).sum(-1)


def _apply(values: Float[Tensor, "*batch k"]) -> Float[Tensor, "4 *batch k"]:
    squares = values.square()
    return torch.stack([values, -torch.special.entr(values), squares, squares.square()])


def _entropy(totals: Tensor) -> float:
    """Return ln(S) - T / S for S = sum(s) and T = sum(s * ln(s))."""
    return math.log(float(totals[0])) - float(totals[1] / totals[0])


def _entropy_influence(totals: Tensor, residuals: Float[Tensor, "4 probes"]) -> Tensor:
    """Return what each probe adds to the entropy, to first order (the delta method)."""
    slope = 1 + float(totals[1] / totals[0])
    influence: Tensor = (slope * residuals[0] - residuals[1]) / totals[0]
    return influence


def _build_stable_rank(
    matrix: Tensor, top: TopDirection, *, largest_weight: float, exponent: int
) -> StableRank:
    """Unscale what the top direction says; OverflowError if a norm is too large."""
    largest = math.sqrt(top.squared_length)
    outlier_share = (math.ldexp(largest_weight, exponent) / largest) ** 2
    rounding = 2 * sum(matrix.shape) * UNIT_ROUNDOFF
    return StableRank(
        stable_rank=_clamp(top.squared_norm / top.squared_length, 1.0, float(min(matrix.shape))),
        spectral_norm=math.ldexp(largest, -exponent),
        frobenius_norm=math.ldexp(math.sqrt(top.squared_norm), -exponent),
        outlier_share=_clamp(outlier_share, 0.0, 1.0),
        method="estimate",
        stable_rank_error=top.error + rounding,
    )


def _build_estimate(
    stable: StableRank, top: TopDirection, sums: _Sums, *, matrix: Tensor, exponent: int
) -> Spectrum:
    """Add the sums over all values; OverflowError if a norm is too large."""
    most = min(matrix.shape)
    total = float(sums.totals[0])
    eps = torch.finfo(torch.float64 if matrix.dtype == torch.float64 else torch.float32).eps
    distance = most * eps * math.sqrt(top.squared_length) / total
    doubt = sums.entropy_deviation + entropy_error(distance, num_values=most)
    participation = top.squared_norm**2 / float(sums.totals[3])
    return Spectrum(
        **asdict(stable),
        effective_rank=_clamp(math.exp(_entropy(sums.totals)), 1.0, float(most)),
        nuclear_norm=math.ldexp(total, -exponent),
        numerical_rank=None,
        participation_ratio=_clamp(participation, 1.0, float(most)),
        effective_rank_error=math.expm1(min(doubt, math.log(most))),
    )


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
