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

Where codes are what is stored, the weights are what they decode to. The own codes are then the
stored ones, and a weight is encoded only at the scales of the other checkpoint. Where a block
has the same scale in both, the stored codes are compared as they are.

A `FlipMeter` follows one layer through the run. It keeps the codes of the checkpoint it
saw last, and those of the one before at the same scales: two bytes a weight for formats of
up to 8 bits. Everything else is worked on tile by tile, while the tile is in the cache.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Shaped
from torch import Tensor

from altgrad_inspect.metrics.flip_kernel import DTYPES, FlipKernel, describe_grid
from altgrad_inspect.metrics.flip_tally import FlipTally, Tile
from altgrad_inspect.metrics.matrices import matrix_shapes
from altgrad_inspect.quantize.coded import CodedWeights
from altgrad_inspect.quantize.grids import ordinal_dtype
from altgrad_inspect.quantize.quantizer import MasterCast, Quantizer, Ties
from altgrad_inspect.quantize.rules import fit_scales
from altgrad_inspect.quantize.scales import Scales, View, tiles, view_for
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

    def cpu(self) -> "_Encoded":
        """Return the same on the CPU."""
        before = None if self.before is None else self.before.cpu()
        return replace(self, scales=self.scales.cpu(), codes=self.codes.cpu(), before=before)


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
        is_kernel_rule = (quantizer.master_cast, quantizer.ties) == (MasterCast.NONE, Ties.EVEN)
        self._view: View = view_for(quantizer, num_matrices=num_matrices, rows=rows, cols=cols)
        self._values_known = values_known
        self._grid = describe_grid(quantizer.fmt) if compiled and is_kernel_rule else None
        self._last: _Encoded | None = None

    @property
    def device(self) -> torch.device | None:
        """Where the codes of the checkpoint seen last are; None if none was seen."""
        return None if self._last is None else self._last.codes.device

    def move_to_cpu(self) -> None:
        """Go on with weights that are on the CPU; the counts are what they would have been."""
        self._last = None if self._last is None else self._last.cpu()

    @torch.inference_mode()
    def start(self, weights: Shaped[Tensor, "*shape"], coded: CodedWeights | None = None) -> None:
        """Encode the first checkpoint of a run of comparable ones.

        Args:
            weights: Weights as stored, or as decoded from ``coded``.
            coded: The codes that are stored; then none are made.
        """
        if coded is not None:
            self._view = coded.scales.view
            self._last = _Encoded(scales=coded.scales, codes=coded.ordinals.clone())
            return
        weights = weights.reshape(self._view.shape)
        fmt = self._quantizer.fmt
        scales = self._fit(weights)
        codes = torch.empty(self._view.shape, dtype=ordinal_dtype(fmt), device=weights.device)
        for rows, cols in tiles(self._view, weights.device):
            scaled = scales.scale_down(self._cast(weights[rows, cols]), rows, cols)
            codes[rows, cols] = scales.encode(scaled, fmt, (rows, cols), ties=self._quantizer.ties)
        self._last = _Encoded(scales=scales, codes=codes)

    def _fit(self, weights: Tensor, earlier: Scales | None = None) -> Scales:
        if self._quantizer.master_cast is MasterCast.BF16:
            weights = weights.bfloat16()
        return fit_scales(weights, self._quantizer, self._view, earlier=earlier)

    def _cast(self, weights: Tensor) -> Tensor:
        """Return the weights of a tile in float32, by way of what they are cast to first."""
        if self._quantizer.master_cast is MasterCast.BF16:
            weights = weights.bfloat16()
        return weights.float()

    @torch.inference_mode()
    def advance(
        self,
        earlier: Shaped[Tensor, "*shape"],
        later: Shaped[Tensor, "*shape"],
        coded: CodedWeights | None = None,
    ) -> FlipCounts:
        """Count what changed from ``earlier``, the checkpoint seen last, to ``later``.

        Args:
            earlier: Weights as stored; the very ones given to the last call.
            later: Weights as stored, same shape, device and dtype.
            coded: The codes that ``later`` was decoded from, if it was stored as codes; of the
                same format and view as those given to the last call.

        Raises:
            RuntimeError: `start` was not called.
        """
        last = self._last
        if last is None:
            msg = "FlipMeter: advance before start"
            raise RuntimeError(msg)
        earlier, later = earlier.reshape(self._view.shape), later.reshape(self._view.shape)
        scales = self._fit(later, last.scales) if coded is None else coded.scales
        same_scales = scales.equals(last.scales)
        before = torch.empty_like(last.codes) if last.before is None else last.before
        tally = FlipTally(
            fmt=self._quantizer.fmt,
            values_known=self._values_known,
            are_stored=coded is not None or not self._values_known,
            unit=_square_safe_unit(earlier, later),
        )
        kernel = self._open_kernel(later, scales)
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
                (last.scales, scales),
                (last.codes[rows, cols], None if last.before is None else before[rows, cols]),
                (rows, cols),
                same_scales=same_scales,
                stored_code=None if coded is None else coded.ordinals[rows, cols],
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

    def _open_kernel(self, weights: Tensor, scales: Scales) -> FlipKernel | None:
        if self._grid is None or weights.device.type != "cpu" or not self._values_known:
            return None
        is_covered = weights.dtype in DTYPES and scales.is_plain
        return FlipKernel(self._grid) if is_covered else None

    def _encode_tile(
        self,
        weights: tuple[Tensor, Tensor],
        scales: tuple[Scales, Scales],
        codes: tuple[Tensor, Tensor | None],
        at: tuple[slice, slice],
        *,
        same_scales: bool,
        stored_code: Tensor | None,
        earlier_may_hold_nan: bool,
    ) -> Tile:
        fmt, ties = self._quantizer.fmt, self._quantizer.ties
        earlier32, later32 = self._cast(weights[0]), self._cast(weights[1])
        later_scaled = scales[0].scale_down(later32, *at)
        nan = bool(torch.isnan(later_scaled.sum()))  # +Inf - Inf too: then one pass in vain
        if same_scales and stored_code is not None:
            later_code = stored_code
        else:
            later_code = scales[0].encode(later_scaled, fmt, at, ties=ties, may_hold_nan=nan)
        later_own_code, earlier_own_code = later_code, codes[0]
        if not same_scales:
            later_scaled = scales[1].scale_down(later32, *at)
            earlier_own_code = scales[1].encode(
                scales[1].scale_down(earlier32, *at),
                fmt,
                at,
                ties=ties,
                may_hold_nan=earlier_may_hold_nan,
            )
            if stored_code is None:
                later_own_code = scales[1].encode(
                    later_scaled, fmt, at, ties=ties, may_hold_nan=nan
                )
            else:
                same_block = ~scales[1].pick(scales[1].differs_from(scales[0]), *at)
                later_own_code = stored_code
                later_code = torch.where(same_block, stored_code, later_code)
                earlier_own_code = torch.where(same_block, codes[0], earlier_own_code)
        return Tile(
            earlier=weights[0],
            later=weights[1],
            earlier_scaled=scales[0].scale_down(earlier32, *at),
            later_scaled=later_scaled,
            cell_scale=scales[0].tile(*at),
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
    low_high = [float(one) for weights in (earlier, later) for one in torch.aminmax(weights)]
    largest = max(map(abs, low_high))
    if not 0 < largest < float("inf") or 1e-140 < largest < 1e140:
        return 1.0
    return float(2.0 ** torch.frexp(torch.tensor(largest, dtype=torch.float64)).exponent.item())
