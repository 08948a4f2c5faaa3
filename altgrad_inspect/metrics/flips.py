"""Flips: how many weights took another code between two checkpoints.

For consecutive checkpoints a -> b of one layer, with s the scales of a checkpoint:

    updated     stored bits differ
    flipped     encode(b, s_a) != encode(a, s_a)    one shared scale, so that an amax
                                                    that moved does not fake flips
    recoded     encode(b, s_b) != encode(a, s_a)    what hardware sees
    stalled     updated and not flipped
    reverted    encode(c, s_b) == encode(a, s_b) != encode(b, s_b), counted in b -> c
                (oscillation, Nagel et al. 2022, arXiv:2203.11086)
    expected    sum of min(1, abs(b - a) / cell), cell = s_a * ulp(a / s_a): the flips that
                weights placed uniformly in their cells would make

A `FlipMeter` follows one layer through the run. It keeps the codes of the checkpoint it
saw last, and those of the one before at the same scales: two bytes a weight for formats of
up to 8 bits. Everything else is worked on tile by tile, while the tile is in the cache.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor

from altgrad_inspect.metrics.flip_kernel import DTYPES, FlipKernel, describe_grid
from altgrad_inspect.metrics.flip_tally import FlipTally, Tile
from altgrad_inspect.metrics.matrices import matrix_shapes
from altgrad_inspect.quantize.grids import encode_ordinals, ordinal_dtype
from altgrad_inspect.quantize.scales import Scales, View, fit_scales, tiles, view_for
from altgrad_inspect.quantize.spec import Quantizer
from altgrad_inspect.records import FlipCounts


@dataclass(slots=True, eq=False)
class _Encoded:
    """The checkpoint seen last.

    Attributes:
        scales: Its own.
        codes: Its ordinals at its own scales.
        before: The ordinals of the checkpoint before it, at these same scales; None if
            there was none.
        may_hold_nan: False if all of its weights are known to be finite.
    """

    scales: Scales
    codes: Tensor
    may_hold_nan: bool = True
    before: Tensor | None = None


class FlipMeter:
    """Counts the flips of one layer, transition by transition, on one quantizer.

    Args:
        quantizer: What the weights are rounded onto.
        shape: Shape of the layer.
        values_known: False for stored codes whose scales are not at hand: then codes can
            be compared, but every number in units of the weights is None.
        compiled: Whether to use the compiled kernel where it applies; needs numba.

    Attributes:
        problem: For its owner: why the last call did not come to its end, else None.
    """

    def __init__(
        self,
        quantizer: Quantizer,
        shape: tuple[int, ...],
        *,
        values_known: bool = True,
        compiled: bool = False,
    ) -> None:
        plan = matrix_shapes(shape)
        if isinstance(plan, str):
            num_matrices, rows, cols = 1, 1, torch.Size(shape).numel()
        else:
            num_matrices, rows, cols = plan.num_matrices, plan.rows, plan.cols
        self.problem: str | None = None
        self._quantizer = quantizer
        self._view: View = view_for(quantizer, num_matrices=num_matrices, rows=rows, cols=cols)
        self._values_known = values_known
        self._grid = describe_grid(quantizer.fmt) if compiled else None
        self._last: _Encoded | None = None

    @torch.inference_mode()
    def start(self, weights: Shaped[Tensor, "*shape"]) -> None:
        """Encode the first checkpoint of a run of comparable ones."""
        weights = weights.reshape(self._view.shape)
        scales = fit_scales(weights, self._quantizer, self._view)
        codes = torch.empty(
            self._view.shape, dtype=ordinal_dtype(self._quantizer.fmt), device=weights.device
        )
        for rows, cols in tiles(self._view, weights.device):
            scaled = weights[rows, cols].float() / scales.tile(rows, cols)
            codes[rows, cols] = encode_ordinals(scaled, self._quantizer.fmt)
        self._last = _Encoded(scales=scales, codes=codes)

    @torch.inference_mode()
    def advance(
        self, earlier: Shaped[Tensor, "*shape"], later: Shaped[Tensor, "*shape"]
    ) -> FlipCounts:
        """Count what changed from ``earlier``, the checkpoint seen last, to ``later``.

        Args:
            earlier: Weights as stored; the very ones given to the last call.
            later: Weights as stored, same shape, device and dtype.

        Raises:
            RuntimeError: `start` was not called.
        """
        last = self._last
        if last is None:
            msg = "FlipMeter: advance before start"
            raise RuntimeError(msg)
        earlier, later = earlier.reshape(self._view.shape), later.reshape(self._view.shape)
        scales = fit_scales(later, self._quantizer, self._view)
        same_scales = torch.equal(scales.values, last.scales.values)
        before = torch.empty_like(last.codes) if last.before is None else last.before
        tally = FlipTally(
            fmt=self._quantizer.fmt,
            values_known=self._values_known,
            unit=_square_safe_unit(earlier, later),
        )
        kernel = self._open_kernel(later)
        if kernel is not None:
            kernel.add(
                (earlier, later),
                (last.scales, scales),
                (last.codes, before),
                has_before=last.before is not None,
            )
            kernel.add_to(tally, later.numel())
        for rows, cols in tiles(self._view, later.device) if kernel is None else ():
            tile = self._encode_tile(
                (earlier[rows, cols], later[rows, cols]),
                (last.scales.tile(rows, cols), scales.tile(rows, cols)),
                (last.codes[rows, cols], None if last.before is None else before[rows, cols]),
                same_scales=same_scales,
                earlier_may_hold_nan=last.may_hold_nan,
            )
            tally.add(tile)
            before[rows, cols] = tile.earlier_own_code
            last.codes[rows, cols] = tile.later_own_code
        counts = tally.total(last.scales, scales, has_before=last.before is not None)
        self._last = _Encoded(
            scales=scales,
            codes=last.codes,
            may_hold_nan=counts.num_nonfinite > 0,
            before=before,
        )
        return counts

    def _open_kernel(self, weights: Tensor) -> FlipKernel | None:
        if self._grid is None or weights.device.type != "cpu" or not self._values_known:
            return None
        return FlipKernel(self._grid) if weights.dtype in DTYPES else None

    def _encode_tile(
        self,
        weights: tuple[Tensor, Tensor],
        scales: tuple[Tensor, Tensor],
        codes: tuple[Tensor, Tensor | None],
        *,
        same_scales: bool,
        earlier_may_hold_nan: bool,
    ) -> Tile:
        fmt = self._quantizer.fmt
        earlier32, later32 = weights[0].float(), weights[1].float()
        later_scaled = later32 / scales[0]
        nan = bool(torch.isnan(later_scaled.sum()))  # +Inf - Inf too: then one pass in vain
        later_code = encode_ordinals(later_scaled, fmt, may_hold_nan=nan)
        later_own_code, earlier_own_code = later_code, codes[0]
        if not same_scales:
            later_scaled = later32 / scales[1]
            later_own_code = encode_ordinals(later_scaled, fmt, may_hold_nan=nan)
            earlier_own_code = encode_ordinals(
                earlier32 / scales[1], fmt, may_hold_nan=earlier_may_hold_nan
            )
        return Tile(
            earlier=weights[0],
            later=weights[1],
            earlier_scaled=earlier32 / scales[0],
            later_scaled=later_scaled,
            cell_scale=scales[0],
            earlier_code=codes[0],
            later_code=later_code,
            earlier_own_code=earlier_own_code,
            later_own_code=later_own_code,
            before_code=codes[1],
        )


def _square_safe_unit(earlier: Tensor, later: Tensor) -> float:
    """A power of two to divide by so that squares stay in float64's range; 1 if they do."""
    if earlier.dtype != torch.float64 or earlier.numel() == 0:
        return 1.0
    largest = max(float(earlier.abs().max()), float(later.abs().max()))
    if not 0 < largest < float("inf") or 1e-140 < largest < 1e140:
        return 1.0
    return float(2.0 ** torch.frexp(torch.tensor(largest, dtype=torch.float64)).exponent.item())
