"""The spectrum of an update: what training did to a matrix between two checkpoints.

The difference is of the stored values, in float64: exact where their magnitudes are less than
a factor of 2**29 apart (float32; 2**42 in 16 bits), rounded once otherwise, which the
certificate of the spectrum allows for. Nothing is subtracted before the singular values are found.

Weights stored in 16 bits were rounded, and so is their difference: where a training step is
small, most of what is left is rounding. If the errors of both checkpoints are independent and
uniform in half a unit in the last place (ulp) on either side, their variance is ulp**2 / 12
(Bennett 1948, "Spectra of quantized signals", section 2), and the expected square of the
Frobenius norm that rounding alone leaves is sum(ulp_earlier**2 + ulp_later**2) / 12, the square
of the *rounding floor*. It is an upper estimate where most weights kept their stored bits.
Weights stored as codes were rounded just so, by the width of a code's cell instead of an ulp.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from altgrad_inspect.metrics.spectrum import measure_spectrum
from altgrad_inspect.records import Spectrum, Undefined

MIN_FLOOR_RATIO: Final = 2.0
"""An update below so many rounding floors has no ranks of its own: at least a quarter of its
squared norm is noise, whose singular values are all alike, so its ranks would be plausible
and say nothing about training."""

ROUNDED_DTYPES: Final = (torch.bfloat16, torch.float16)
"""Dtypes that weights are rounded to when they are saved; wider ones hold the weights."""

_BLOCK_WEIGHTS: Final = 1 << 20

Cells = tuple[Float[Tensor, "rows cols"] | None, Float[Tensor, "rows cols"] | None]
"""Widths of the cells of two checkpoints' codes; None for one that is not stored as codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredUpdate:
    """What is known about one update.

    Attributes:
        spectrum: Of the difference, or why it has none.
        rounding_floor: Expected Frobenius norm of what rounding alone leaves in it; None if
            neither checkpoint is stored in 16 bits, or a weight is not finite.
    """

    spectrum: Spectrum | Undefined
    rounding_floor: float | None


@torch.no_grad()
def measure_update(
    earlier: Float[Tensor, "rows cols"],
    later: Float[Tensor, "rows cols"],
    *,
    cells: Cells = (None, None),
    keep_singular_values: bool = False,
    compiled: bool = False,
) -> MeasuredUpdate:
    """Measure the spectrum of ``later - earlier``.

    The numerical rank counts singular values above max(rows, cols) * eps * s1 with the larger
    eps of the two stored dtypes. Memory: 8 bytes a weight beyond what the spectrum takes.

    Args:
        earlier: Weights in float16, bfloat16, float32 or float64; not changed.
        later: The same matrix at another checkpoint, on the same device; its dtype may differ.
        cells: For each of the two, where it was decoded from codes: how far apart neighbouring
            codes are, in units of the weights, at each weight.
        keep_singular_values: Also return all min(rows, cols) values, descending.
        compiled: As for `measure_spectrum`.

    Returns:
        The spectrum; or `Undefined` where nothing changed ("no update"), where the update is
        below `MIN_FLOOR_RATIO` rounding floors, and where `measure_spectrum` has none.
    """
    difference = torch.empty(earlier.shape, dtype=torch.float64, device=earlier.device)
    squared_norm = 0.0
    for rows in _blocks(earlier):
        torch.sub(later[rows].double(), earlier[rows].double(), out=difference[rows])
        squared_norm += float(difference[rows].square().sum())
    if not math.isfinite(squared_norm):
        return MeasuredUpdate(spectrum=measure_spectrum(difference), rounding_floor=None)
    floor = measure_rounding_floor(earlier, later, cells)
    if not bool(difference.any()):
        return MeasuredUpdate(spectrum=Undefined(reason="no update"), rounding_floor=floor)
    norm = math.sqrt(squared_norm)
    if floor is not None and norm < MIN_FLOOR_RATIO * floor:
        reason = (
            f"below {MIN_FLOOR_RATIO:g} rounding floors of {_name_rounded(earlier, later)} "
            f"(norm {norm:.3g}, floor {floor:.3g})"
        )
        return MeasuredUpdate(spectrum=Undefined(reason=reason), rounding_floor=floor)
    spectrum = measure_spectrum(
        difference,
        keep_singular_values=keep_singular_values,
        stored_eps=max(torch.finfo(earlier.dtype).eps, torch.finfo(later.dtype).eps),
        compiled=compiled,
    )
    return MeasuredUpdate(spectrum=spectrum, rounding_floor=floor)


def measure_rounding_floor(
    earlier: Float[Tensor, "rows cols"],
    later: Float[Tensor, "rows cols"],
    cells: Cells = (None, None),
) -> float | None:
    """Estimate the Frobenius norm that rounding to 16 bits, or to codes, leaves in the difference.

    Args:
        earlier: As for `measure_update`.
        later: As for `measure_update`.
        cells: As for `measure_update`.

    Returns:
        sqrt(sum(ulp**2) / 12) over the weights of those checkpoints that are stored in
        16 bits or as codes, in units of the weights; None if neither is.
    """
    squares = [
        _sum_squared_cells(weights, own)
        for weights, own in zip((earlier, later), cells, strict=True)
        if own is not None or weights.dtype in ROUNDED_DTYPES
    ]
    return math.sqrt(sum(squares) / 12) if squares else None


def _sum_squared_cells(weights: Tensor, cells: Tensor | None) -> float:
    if cells is None:
        return sum(float(_squared_ulps(weights[rows]).sum()) for rows in _blocks(weights))
    return sum(float(cells[rows].double().square().sum()) for rows in _blocks(cells))


def _squared_ulps(weights: Tensor) -> Float[Tensor, "rows cols"]:
    """Return the squared distance between neighbouring numbers of the dtype at each weight."""
    facts = torch.finfo(weights.dtype)
    smallest_exponent = round(math.log2(facts.smallest_normal))
    exponents = torch.frexp(weights.float()).exponent - 1
    exponents = torch.where(weights == 0, smallest_exponent, exponents)
    exponents = exponents.clamp_(min=smallest_exponent) + round(math.log2(facts.eps))
    ones = torch.ones_like(weights, dtype=torch.float64)
    return torch.ldexp(ones, 2 * exponents)


def _name_rounded(*matrices: Tensor) -> str:
    names = {str(one.dtype).removeprefix("torch.") for one in matrices}
    rounded = sorted(names & {"bfloat16", "float16"})
    return f"{' and '.join(rounded)} storage" if rounded else "the stored codes"


def _blocks(matrix: Tensor) -> Iterator[slice]:
    step = max(1, _BLOCK_WEIGHTS // max(1, matrix.shape[1]))
    for start in range(0, matrix.shape[0], step):
        yield slice(start, start + step)
