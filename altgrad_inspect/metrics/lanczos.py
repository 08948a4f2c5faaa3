"""A few Lanczos steps on a matrix too large to take apart.

Golub & Kahan 1965 (SIAM J. Numer. Anal. 2(2)): W V = U B with B upper bidiagonal, built by
one product with W and one with its transpose a step, for several starts at once, so that
the matrix is read once for all of them. All vectors are kept, and each new one is made
orthogonal to those before.

Products may be in float32: what is found is a direction, and its length under W is then
measured in float64 (`measure_direction`), whose error is second order in the direction's.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from altgrad_inspect.metrics.scaled_blocks import orient_tall, scale_, scaled_blocks

BLOCK_ROWS: Final = 512

MAX_STEPS: Final = 160
"""Gaussian matrices of 4096 columns need 35 to 80; what needs more is taken apart instead."""

STOP_ERROR: Final = 2e-9
"""Relative bound on the error of s1**2, as the recurrence sees it, at which to stop."""

GAP_DOUBT: Final = 4.0
"""The gap is itself an estimate; measured on 2,000 matrices, bounds by it were 1.9 times too small
at most."""

_CLUSTER_EPS: Final = 4.0
"""Values closer to s1 than this many roundings of the products cannot be told from it."""

_MIN_GAP_EPS: Final = 100.0
"""A gap of fewer roundings than this is no gap."""

_SAFE_EXPONENT: Final = 30
"""Between 2**-30 and 2**30 no sum of squares leaves float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopDirection:
    """The direction that W, times 2**exponent, lengthens most, and how sure its length is.

    Attributes:
        squared_length: Estimate of s1**2 of the scaled matrix, never above it but for rounding.
        error: Bound on its relative error, if this is the top direction and no other.
        squared_norm: Sum of the squares of the scaled weights.
        num_steps: Lanczos steps taken.
    """

    squared_length: float
    error: float
    squared_norm: float
    num_steps: int


class GolubKahan:
    """The factorisation W V = U B, for one or several starts, which can be carried on."""

    def __init__(
        self,
        tall: Float[Tensor, "m n"],
        starts: Float[Tensor, "batch n"],
        *,
        max_steps: int,
        locked: Float[Tensor, "r n"] | None = None,
    ) -> None:
        """Begin from ``starts`` of length 1, orthogonal to the rows of ``locked``.

        Args:
            tall: At least as many rows as columns, float32 or float64, of moderate size.
            starts: One a row, in the dtype of ``tall``.
            max_steps: The most that will be taken.
            locked: Orthonormal right singular directions that the factorisation keeps out of.
        """
        num_starts, num_columns = starts.shape
        locked = starts.new_zeros((0, num_columns)) if locked is None else locked
        self._tall = tall
        self._locked_short = locked
        images = torch.linalg.qr(tall @ locked.mT)
        self._locked_long = images.Q.mT
        largest = images.R.abs().amax() if len(locked) else starts.new_zeros(())
        self._scales = largest.expand(num_starts)
        self._eps = torch.finfo(tall.dtype).eps
        self._short = starts.new_zeros((num_starts, max_steps + 1, num_columns))
        self._short[:, 0] = starts
        self._long = starts.new_zeros((num_starts, max_steps, len(tall)))
        self._alphas: list[Tensor] = []
        self._betas: list[Tensor] = []

    @property
    def num_steps(self) -> int:
        """Steps taken so far."""
        return len(self._alphas)

    def advance(self, num_steps: int) -> None:
        """Take so many more steps."""
        for _ in range(num_steps):
            self._step()

    def find_triplets(
        self, num_steps: int | None = None
    ) -> tuple[Float[Tensor, "batch k"], Float[Tensor, "batch k k"]]:
        """Return the singular values of B, descending, and its right vectors as rows.

        Args:
            num_steps: Only of the first so many steps; all if None.
        """
        alphas = torch.stack(self._alphas[:num_steps], dim=1).double().cpu()
        betas = torch.stack(self._betas[:num_steps], dim=1).double().cpu()
        bidiagonal = torch.diag_embed(alphas) + torch.diag_embed(betas[:, :-1], offset=1)
        _, values, right = torch.linalg.svd(bidiagonal)
        return values, right

    def find_residuals(self, right: Float[Tensor, "batch k k"]) -> Float[Tensor, "batch k"]:
        """Return the norms of W^T W y - s**2 y for all Ritz vectors y, as the recurrence has it."""
        last = (self._alphas[-1].double() * self._betas[-1].double()).cpu()
        return last[:, None] * right[:, :, -1].abs()

    def build_vector(self, right: Float[Tensor, " k"]) -> Float[Tensor, " n"]:
        """Return the direction of the first start with these coordinates."""
        basis = self._short[0, : len(right)]
        found: Tensor = right.to(basis) @ basis
        return found

    def _step(self) -> None:
        here = self.num_steps
        short = self._short[:, here]
        long = (self._tall @ short.mT).mT
        long = _remove(long, self._long[:, :here], self._locked_long)
        long, alpha = self._normalise(long)
        after = (self._tall.mT @ long.mT).mT
        after = _remove(after, self._short[:, : here + 1], self._locked_short)
        self._short[:, here + 1], beta = self._normalise(after)
        self._long[:, here] = long
        self._alphas.append(alpha)
        self._betas.append(beta)

    def _normalise(
        self, vectors: Tensor
    ) -> tuple[Float[Tensor, "batch d"], Float[Tensor, " batch"]]:
        """Return directions and lengths; zeros for what is no more than rounding.

        A length of zero ends the factorisation of that start: all it can reach is found.
        """
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        self._scales = torch.maximum(self._scales, lengths)
        lengths = torch.where(lengths > self._scales * self._eps, lengths, 0.0)
        return vectors * torch.where(lengths > 0, 1 / lengths, 0.0)[:, None], lengths


def _remove(
    vectors: Float[Tensor, "batch d"],
    basis: Float[Tensor, "batch k d"],
    locked: Float[Tensor, "r d"],
) -> Float[Tensor, "batch d"]:
    """Return the part of each vector that is orthogonal to its basis and to what is locked.

    Twice where a digit is lost: else what is near the roundings of s1 grows from step to step.
    Two passes are always enough (Daniel, Gragg, Kaufman & Stewart 1976, Math. Comp. 30(136)).
    """
    for _ in range(2):
        before = torch.linalg.vector_norm(vectors, dim=1)
        vectors = vectors - (vectors @ locked.mT) @ locked
        shares = torch.bmm(basis, vectors[:, :, None])
        vectors = vectors - torch.bmm(basis.mT, shares)[:, :, 0]
        if bool((torch.linalg.vector_norm(vectors, dim=1) > before / 10).all()):
            break
    return vectors


def prepare_matrix(
    matrix: Float[Tensor, "rows cols"], *, exponent: int
) -> tuple[Float[Tensor, "m n"], int]:
    """Return the matrix as Lanczos can work on it, and the exponent that is still to apply.

    Tall, in float32, or in float64 if it is stored so: itself where it can be, else a copy.
    """
    tall = orient_tall(matrix)
    wide_enough = matrix.dtype in {torch.float32, torch.float64}
    if wide_enough and abs(exponent) <= _SAFE_EXPONENT:
        return tall, exponent
    if matrix.dtype == torch.float64:
        return scale_(tall.clone(), exponent), 0
    copy = torch.empty(tall.shape, dtype=torch.float32, device=tall.device)
    start = 0
    for block in scaled_blocks(tall, exponent=exponent, block_rows=BLOCK_ROWS):
        copy[start : start + len(block)] = block
        start += len(block)
    return copy, 0


def draw_signs(shape: tuple[int, int], like: Tensor, *, seed: int) -> Float[Tensor, "batch n"]:
    """Return rows of random signs, each of length 1, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, shape, generator=generator, dtype=torch.int8)
    rows = (signs.to(like.dtype) * 2 - 1).to(like.device)
    return rows / math.sqrt(shape[1])


def draw_start(like: Float[Tensor, "m n"], *, seed: int) -> Float[Tensor, "1 n"]:
    """Return a direction that is equally likely to be any, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(1, like.shape[1], generator=generator, dtype=torch.float64)
    start /= torch.linalg.vector_norm(start)
    return start.to(like)


def find_top_direction(
    matrix: Float[Tensor, "rows cols"], *, exponent: int, seed: int = 0
) -> TopDirection | None:
    """Find s1 by Lanczos from a random start, or None if `MAX_STEPS` do not do.

    With t the Ritz value and r the norm of its residual, an eigenvalue of W^T W lies within
    min(r, r**2 / gap) of t, where gap is the distance to the next (Kato 1949; Temple 1928;
    Parlett 1998, theorem 11.7.1). That it is the largest is certain only in the sense of a
    random start: after k steps all are smaller than (1 + eps) * t but with a probability of
    1.65 * sqrt(n) * exp(-sqrt(eps) * (2 k - 1)) (Kuczynski & Wozniakowski 1992, SIAM J. Matrix
    Anal. 13(4), theorem 4.1), and for matrices whose s1 stands apart, far less.

    A start near the last checkpoint's direction would save two steps in five and lose that, even
    with a tenth of it random: of two values within about 0.7 % of each other the new one can stay
    unseen, since its share of the start is too small to disturb the residual
    (``docs/performance.md``).

    Args:
        matrix: Weights, finite and not all zero, of any float dtype; not changed.
        exponent: As in `altgrad_inspect.metrics.singular_values`.
        seed: Of the start.
    """
    work, _ = prepare_matrix(matrix, exponent=exponent)
    most = min(MAX_STEPS, work.shape[1])
    run = GolubKahan(work, draw_start(work, seed=seed), max_steps=most)
    for num_steps in _checks(most):
        run.advance(num_steps - run.num_steps)
        values, right = run.find_triplets()
        squares, residuals = values[0].square(), run.find_residuals(right)[0]
        gap = _find_gap(squares, residuals)
        if _bound(float(residuals[0]), gap=gap) > STOP_ERROR * float(squares[0]):
            continue
        found = measure_direction(matrix, run.build_vector(right[0, 0]), exponent=exponent)
        squared_length, residual, squared_norm = found
        eps = torch.finfo(work.dtype).eps
        relative_gap, relative_residual = gap / float(squares[0]), residual / squared_length
        error = relative_residual + _CLUSTER_EPS * eps
        if relative_gap > _MIN_GAP_EPS * eps:
            error = min(error, GAP_DOUBT * _bound(relative_residual, gap=relative_gap))
        return TopDirection(
            squared_length=squared_length,
            error=error,
            squared_norm=squared_norm,
            num_steps=num_steps,
        )
    return None


def measure_direction(
    matrix: Float[Tensor, "rows cols"], direction: Float[Tensor, " n"], *, exponent: int
) -> tuple[float, float, float]:
    """Measure, in float64, what W times 2**exponent does to a direction of its short side.

    Returns:
        ``abs(W y)**2`` for y of length 1; the norm of ``W^T W y - abs(W y)**2 * y``; and the sum of
        the squares of all weights.
    """
    unit = direction.double()
    unit = unit / torch.linalg.vector_norm(unit)
    image = torch.zeros_like(unit)
    squared_length, squared_norm = 0.0, 0.0
    for block in scaled_blocks(orient_tall(matrix), exponent=exponent, block_rows=BLOCK_ROWS):
        part = block @ unit
        image += block.mT @ part
        squared_length += float(part.dot(part))
        squared_norm += float(torch.linalg.vector_norm(block)) ** 2
    residual = float(torch.linalg.vector_norm(image - squared_length * unit))
    return squared_length, residual, squared_norm


def _checks(most: int) -> Iterator[int]:
    """Yield the numbers of steps after which to look, growing by a fifth, up to ``most``."""
    num_steps = min(6, most)
    while num_steps < most:
        yield num_steps
        num_steps += max(2, num_steps // 5)
    yield most


def _find_gap(squares: Tensor, residuals: Tensor) -> float:
    """Return how far the second eigenvalue is below the first at least, or 0."""
    if len(squares) < 2:
        return 0.0
    return max(0.0, float(squares[0] - squares[1] - residuals[1]))


def _bound(residual: float, *, gap: float) -> float:
    return min(residual, residual**2 / gap) if gap > 0 else residual
