"""When the ranks of a matrix still hold for what training made of it.

Exactly, where all weights were multiplied by a power of two: nothing rounds, so ranks stay and
norms are multiplied. Within a bound, where the update is small: by Mirsky's inequality (1960,
Quart. J. Math. 11(1)) sum((s_i - t_i)**2) <= sum((w - v)**2) for the singular values s, t
of two matrices with entries w, v, whatever the update does.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from altgrad_inspect.metrics.certificate import (
    UNIT_ROUNDOFF,
    eigensolver_error,
    entropy_error,
    gram_value_errors,
    summation_error,
)
from altgrad_inspect.records import Spectrum, StableRank

Ranks = Spectrum | StableRank

_BLOCK_WEIGHTS: Final = 1 << 18
_NUM_SAMPLES: Final = 8
_ROUNDING_ALLOWANCE: Final = 1 + 1e-6
_LARGEST_BLOCK_ROWS: Final = 2048
_SVD_ALLOWANCE: Final = 32


@torch.no_grad()
def find_power_of_two(
    earlier: Float[Tensor, "rows cols"], later: Float[Tensor, "rows cols"]
) -> float | None:
    """Return c = 2**k or -2**k, not 1, if ``later`` is exactly c * ``earlier``, else None.

    Exactly means that no weight lost a bit on the way either, as subnormal numbers do. A few
    weights decide it for nearly all pairs; only where they agree are all of them compared.

    Args:
        earlier: Of any float dtype, on any device.
        later: Of the same shape and dtype.
    """
    count = earlier.numel()
    if count == 0:
        return None
    places = torch.linspace(0, count - 1, _NUM_SAMPLES, dtype=torch.float64).long()
    rows, cols = places // earlier.shape[1], places % earlier.shape[1]
    pairs = zip(
        earlier[rows, cols].double().tolist(), later[rows, cols].double().tolist(), strict=True
    )
    ratios = {after / before if before else math.nan for before, after in pairs if before or after}
    factor = ratios.pop() if len(ratios) == 1 else 1.0
    if abs(math.frexp(factor)[0]) != 0.5 or factor == 1:
        return None
    for block in _blocks(earlier):
        before, after = earlier[block], later[block]
        if not (torch.equal(before * factor, after) and torch.equal(after / factor, before)):
            return None
    return factor


def rescale_ranks(ranks: Ranks, factor: float) -> Ranks | None:
    """Return the ranks of ``factor`` times the matrix; None where a norm leaves float64.

    Args:
        ranks: Of the matrix.
        factor: Plus or minus a power of two.
    """
    size = abs(factor)
    if isinstance(ranks, StableRank):
        scaled = replace(
            ranks,
            spectral_norm=ranks.spectral_norm * size,
            frobenius_norm=ranks.frobenius_norm * size,
        )
        return scaled if math.isfinite(scaled.frobenius_norm) else None
    values = ranks.singular_values
    spectrum = replace(
        ranks,
        spectral_norm=ranks.spectral_norm * size,
        frobenius_norm=ranks.frobenius_norm * size,
        nuclear_norm=ranks.nuclear_norm * size,
        singular_values=None if values is None else tuple(value * size for value in values),
    )
    return spectrum if math.isfinite(spectrum.nuclear_norm) else None


@torch.no_grad()
def measure_drift(earlier: Float[Tensor, "rows cols"], later: Float[Tensor, "rows cols"]) -> float:
    """Return a bound on the Frobenius norm of ``later - earlier``, sharp to six digits.

    NaN or infinite where a weight is.
    """
    norm = 0.0
    for block in _blocks(earlier):
        difference = later[block].double() - earlier[block].double()
        largest = float(difference.abs().max())
        if not math.isfinite(largest):
            return math.inf
        if largest > 0:
            norm = math.hypot(norm, largest * float(torch.linalg.vector_norm(difference / largest)))
    return norm * _ROUNDING_ALLOWANCE


def carry_ranks(
    ranks: Ranks, drift: float, *, tolerance: float, shape: tuple[int, int]
) -> Ranks | None:
    """Return ranks that hold for a matrix within ``drift``, or None if that is not certain.

    The errors are widened by what the drift can do; ``method`` is ``carried``. The numerical
    rank is None: values near its threshold may have crossed it.

    Args:
        ranks: As measured; a `Spectrum` with its singular values, else nothing is certain.
        drift: Bound on the Frobenius norm of what was added since, at least 0.
        tolerance: The most that a rank may have changed, relative.
        shape: Of the matrix.
    """
    stable_change = bound_stable_rank_change(ranks, drift)
    if not stable_change <= tolerance:
        return None
    stable_error = (1 + ranks.stable_rank_error) * (1 + stable_change) - 1
    if isinstance(ranks, StableRank):
        return replace(ranks, method="carried", stable_rank_error=stable_error)
    if ranks.singular_values is None:
        return None
    values = torch.tensor(ranks.singular_values, dtype=torch.float64)
    doubt = _bound_value_errors(values, frobenius_norm=ranks.frobenius_norm, shape=shape)
    effective_change = math.expm1(bound_entropy_change(values, drift + doubt))
    if not effective_change <= tolerance:
        return None
    return replace(
        ranks,
        method="carried",
        stable_rank_error=stable_error,
        effective_rank_error=(1 + ranks.effective_rank_error) * (1 + effective_change) - 1,
        numerical_rank=None,
        singular_values=None,
    )


def bound_stable_rank_change(ranks: Ranks, drift: float) -> float:
    """Bound the relative change of sum(w**2) / s1**2; infinite where nothing is certain.

    Both norms change by at most the drift, so the quotient of their squares by at most
    ((1 + d/F) / (1 - d/s1))**2 - 1, whichever of the two is divided by the other.
    """
    of_norm, of_largest = drift / ranks.frobenius_norm, drift / ranks.spectral_norm
    if not of_largest < 1:
        return math.inf
    return ((1 + of_norm) / (1 - of_largest)) ** 2 - 1


def bound_entropy_change(values: Float[Tensor, " n"], drift: float) -> float:
    """Bound how much the entropy of s / sum(s) can change; never more than ln(n).

    Let d be the drift over sum(s) and p = s / sum(s). Two bounds hold, and the lesser counts:

    1. Fannes and Audenaert, with total variation sqrt(n) * d (`entropy_error`).
    2. A tangent. Raise p to at least a floor f, and scale it to q with sum 1; g is d plus the
       norm of what was raised, over that scale, so the new values are q + e with abs(e) <= g.
       The entropy is concave, so H(new) - H(q) <= -e.(ln q + H(q)) / (1 + sum(e)). And
       from (q + e) * ln(1 + e/q) <= (q + e) * e / q follows H(new) - H(q) >=
       -(e.(ln q + H(q)) + sum(e**2 / q)) / (1 + sum(e)). With Cauchy-Schwarz,

           abs(H(new) - H(q)) <= (g * norm(ln q + H(q)) + g**2 / min(q)) / (1 - sqrt(n) * g)

       to which abs(H(q) - H(p)) is added. It holds for every floor; several are tried.

    The first-order slope, norm(ln p + H), is not a bound by itself: where p touches zero its
    derivative is infinite.

    Args:
        values: All min(rows, cols) singular values, zeros included.
        drift: Bound on the root of the sum of the squares of their changes.
    """
    count = values.numel()
    if count == 1:
        return 0.0
    total = float(values.sum())
    shares, size = values / total, drift / total
    if not size < 1:
        return math.log(count)
    best = entropy_error(math.sqrt(count) * size, num_values=count)
    entropy = float(torch.special.entr(shares).sum())
    for power in range(-2, 9):
        floor = max(size, 1e-300) * 4.0**power
        raised = shares.clamp(min=floor)
        scale = float(raised.sum())
        leaning = raised / scale
        reach = (size + float(torch.linalg.vector_norm(raised - shares))) / scale
        room = 1 - math.sqrt(count) * reach
        if room <= 0:
            continue
        raised_entropy = float(torch.special.entr(leaning).sum())
        slope = float(torch.linalg.vector_norm(leaning.log() + raised_entropy))
        least = float(leaning.min())
        bound = abs(raised_entropy - entropy) + (reach * slope + reach**2 / least) / room
        best = min(best, bound)
    return best + 32 * UNIT_ROUNDOFF * (1 + math.log(count))


def _bound_value_errors(values: Tensor, *, frobenius_norm: float, shape: tuple[int, int]) -> float:
    """Bound the norm of the errors of the singular values themselves, however they were found."""
    largest, longest = float(values.max()), max(shape)
    num_additions = min(longest, _LARGEST_BLOCK_ROWS) + longest // 512 + 4
    scaled = values / largest
    error = eigensolver_error(1.0, num_columns=len(values))
    error += summation_error((frobenius_norm / largest) ** 2, num_additions=num_additions)
    by_svd = (sum(shape) + _SVD_ALLOWANCE) * UNIT_ROUNDOFF
    errors = gram_value_errors(scaled, error) + by_svd
    return largest * float(torch.linalg.vector_norm(errors))


def _blocks(matrix: Tensor) -> Iterator[slice]:
    step = max(1, _BLOCK_WEIGHTS // max(1, matrix.shape[1]))
    for start in range(0, matrix.shape[0], step):
        yield slice(start, start + step)
