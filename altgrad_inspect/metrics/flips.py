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
up to 8 bits. Everything else is worked on tile by tile.
"""

from dataclasses import dataclass, field
from typing import Final

import torch
from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor

from altgrad_inspect.metrics.matrices import matrix_shapes
from altgrad_inspect.quantize.grids import (
    clips,
    encode_ordinals,
    measure_ulps,
    nan_ordinal,
    ordinal_dtype,
)
from altgrad_inspect.quantize.scales import Scales, View, fit_scales, tiles, view_for
from altgrad_inspect.quantize.spec import Quantizer
from altgrad_inspect.records import FlipCounts

_BITS: Final = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_HISTOGRAM_EDGES: Final = (1, 2, 4, 8, 16, 32, 64, 128)

_COUNTS: Final = (
    "num_updated",
    "num_flipped",
    "num_recoded",
    "num_up",
    "num_down",
    "num_sign_flipped",
    "num_to_zero",
    "num_from_zero",
    "num_reverted",
    "num_saturated",
    "num_underflowed",
    "num_nonfinite",
    "num_nonfinite_earlier",
)
_SUMS: Final = ("expected", "update_squares", "earlier_squares", "update_abs", "distance")


@dataclass(slots=True)
class _Tally:
    """Sums over the tiles of one transition, kept on the device until the end."""

    device: torch.device
    counts: Tensor = field(init=False)
    sums: Tensor = field(init=False)
    histogram: Tensor = field(init=False)
    distance_max: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.counts = torch.zeros(len(_COUNTS), dtype=torch.int64, device=self.device)
        self.sums = torch.zeros(len(_SUMS), dtype=torch.float64, device=self.device)
        self.histogram = torch.zeros(
            len(_HISTOGRAM_EDGES) + 1, dtype=torch.int64, device=self.device
        )
        self.distance_max = torch.zeros((), dtype=torch.int64, device=self.device)

    def count(self, **masks: Bool[Tensor, "*shape"]) -> None:
        for name, mask in masks.items():
            self.counts[_COUNTS.index(name)] += torch.count_nonzero(mask)

    def add(self, **values: Tensor) -> None:
        for name, value in values.items():
            self.sums[_SUMS.index(name)] += value


@dataclass(frozen=True, slots=True, eq=False)
class _Tile:
    """One tile of a transition: weights as stored and in float64, and codes (ordinals)."""

    earlier: Shaped[Tensor, "rows cols"]
    later: Shaped[Tensor, "rows cols"]
    earlier_value: Float[Tensor, "rows cols"]
    later_value: Float[Tensor, "rows cols"]
    earlier_scaled: Float[Tensor, "rows cols"]  # earlier / s_earlier
    later_scaled: Float[Tensor, "rows cols"]  # later / s_later
    cell_scale: Float[Tensor, "_ _"]  # s_earlier
    earlier_code: Integer[Tensor, "rows cols"]  # of earlier at s_earlier
    later_code: Integer[Tensor, "rows cols"]  # of later at s_earlier
    later_own_code: Integer[Tensor, "rows cols"]  # of later at s_later
    before_code: Integer[Tensor, "rows cols"] | None  # of the one before at s_earlier


class FlipMeter:
    """Counts the flips of one layer, transition by transition, on one quantizer.

    Args:
        quantizer: What the weights are rounded onto.
        shape: Shape of the layer.
        values_known: False for stored codes whose scales are not at hand: then codes can
            be compared, but every number in units of the weights is None.

    Attributes:
        problem: For its owner: why the last call did not come to its end, else None.
    """

    def __init__(
        self, quantizer: Quantizer, shape: tuple[int, ...], *, values_known: bool = True
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
        self._scales: Scales | None = None
        self._codes: Tensor | None = None
        self._before: Tensor | None = None

    @torch.inference_mode()
    def start(self, weights: Shaped[Tensor, "*shape"]) -> None:
        """Encode the first checkpoint of a run of comparable ones."""
        weights = weights.reshape(self._view.shape)
        self._scales = self._fit(weights)
        self._codes = torch.empty(
            self._view.shape, dtype=ordinal_dtype(self._quantizer.fmt), device=weights.device
        )
        self._before = None
        for rows, cols in tiles(self._view, weights.device):
            scaled = weights[rows, cols].float() / self._scales.tile(rows, cols)
            self._codes[rows, cols] = encode_ordinals(scaled, self._quantizer.fmt)

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
        if self._scales is None or self._codes is None:
            msg = "FlipMeter: advance before start"
            raise RuntimeError(msg)
        earlier = earlier.reshape(self._view.shape)
        later = later.reshape(self._view.shape)
        scales = self._fit(later)
        same_scales = torch.equal(scales.values, self._scales.values)
        before, has_before = self._before, self._before is not None
        if before is None:
            before = torch.empty_like(self._codes)
        tally = _Tally(later.device)
        unit = _square_safe_unit(earlier, later)
        for rows, cols in tiles(self._view, later.device):
            tile, earlier_own_code = self._tile(
                earlier[rows, cols],
                later[rows, cols],
                (self._scales.tile(rows, cols), scales.tile(rows, cols)),
                (self._codes[rows, cols], before[rows, cols] if has_before else None),
                same_scales=same_scales,
            )
            _tally_counts(tally, tile, self._quantizer)
            _tally_moves(tally, tile, self._quantizer)
            if self._values_known:
                _tally_values(tally, tile, self._quantizer, unit)
            before[rows, cols] = earlier_own_code
            self._codes[rows, cols] = tile.later_own_code
        counts = self._counts(tally, self._scales, scales, unit, has_before=has_before)
        self._before, self._scales = before, scales
        return counts

    def _fit(self, weights: Shaped[Tensor, "rows cols"]) -> Scales:
        return fit_scales(weights, self._quantizer, self._view)

    def _tile(
        self,
        earlier: Tensor,
        later: Tensor,
        scales: tuple[Tensor, Tensor],
        codes: tuple[Tensor, Tensor | None],
        *,
        same_scales: bool,
    ) -> tuple[_Tile, Tensor]:
        """Encode one tile; also returns the codes of ``earlier`` at the later scales."""
        fmt = self._quantizer.fmt
        earlier_scale, later_scale = scales
        earlier32, later32 = earlier.float(), later.float()
        later_at_earlier = later32 / earlier_scale
        later_code = encode_ordinals(later_at_earlier, fmt)
        if same_scales:
            later_scaled, later_own_code, earlier_own_code = later_at_earlier, later_code, codes[0]
        else:
            later_scaled = later32 / later_scale
            later_own_code = encode_ordinals(later_scaled, fmt)
            earlier_own_code = encode_ordinals(earlier32 / later_scale, fmt)
        tile = _Tile(
            earlier=earlier,
            later=later,
            earlier_value=earlier.double(),
            later_value=later.double(),
            earlier_scaled=earlier32 / earlier_scale,
            later_scaled=later_scaled,
            cell_scale=earlier_scale,
            earlier_code=codes[0],
            later_code=later_code,
            later_own_code=later_own_code,
            before_code=codes[1],
        )
        return tile, earlier_own_code

    def _counts(
        self, tally: _Tally, earlier: Scales, later: Scales, unit: float, *, has_before: bool
    ) -> FlipCounts:
        counts = dict(zip(_COUNTS, tally.counts.tolist(), strict=True))
        sums = dict(zip(_SUMS, tally.sums.tolist(), strict=True))
        num_moved = counts["num_up"] + counts["num_down"]
        num_weights = self._view.shape[0] * self._view.shape[1]
        finite = counts["num_nonfinite"] + counts.pop("num_nonfinite_earlier") == 0
        known = finite and self._values_known and num_weights > 0
        update_norm = sums["update_squares"] ** 0.5 * unit
        earlier_norm = sums["earlier_squares"] ** 0.5 * unit
        if not has_before:
            counts["num_reverted"] = None
        return FlipCounts(
            **counts,
            num_weights=num_weights,
            num_scales=later.values.numel(),
            num_scales_changed=int(
                (earlier.values.view(torch.int32) != later.values.view(torch.int32)).sum()
            ),
            scale_ratio_max=_scale_ratio_max(earlier, later),
            num_expected_flips=sums["expected"] if known else None,
            code_step_mean=sums["distance"] / num_moved if num_moved else None,
            code_step_max=int(tally.distance_max) if num_moved else None,
            code_step_histogram=tuple(tally.histogram.tolist()),
            update_norm=update_norm if known else None,
            relative_update=update_norm / earlier_norm if known and earlier_norm else None,
            update_mean_abs=sums["update_abs"] * unit / num_weights if known else None,
        )


def _tally_counts(tally: _Tally, tile: _Tile, quantizer: Quantizer) -> None:
    bits = _BITS[tile.earlier.element_size()]
    flipped = tile.later_code != tile.earlier_code
    tally.count(
        num_updated=tile.earlier.view(bits) != tile.later.view(bits),
        num_flipped=flipped,
        num_recoded=tile.later_own_code != tile.earlier_code,
        num_saturated=clips(tile.later_scaled, quantizer.fmt),
        num_underflowed=(tile.later_own_code == 0) & (tile.later_value != 0),
        num_nonfinite=~torch.isfinite(tile.later_value),
        num_nonfinite_earlier=~torch.isfinite(tile.earlier_value),
    )
    if tile.before_code is not None:
        tally.count(num_reverted=flipped & (tile.later_code == tile.before_code))


def _tally_moves(tally: _Tally, tile: _Tile, quantizer: Quantizer) -> None:
    """Where the flips went; a flip to or from NaN has no direction and no distance."""
    moved = tile.later_code != tile.earlier_code
    code_from = tile.earlier_code[moved].int()
    code_to = tile.later_code[moved].int()
    lowest = nan_ordinal(quantizer.fmt)
    numbers = (code_from != lowest) & (code_to != lowest)
    code_from, code_to = code_from[numbers], code_to[numbers]
    tally.count(
        num_up=code_to > code_from,
        num_down=code_to < code_from,
        num_sign_flipped=code_from.sign() * code_to.sign() < 0,
        num_to_zero=code_to == 0,
        num_from_zero=code_from == 0,
    )
    if code_from.numel():
        distance = (code_to - code_from).abs()
        edges = torch.tensor(_HISTOGRAM_EDGES, dtype=torch.int32, device=distance.device)
        bins = torch.bucketize(distance, edges)
        tally.histogram += torch.bincount(bins, minlength=len(_HISTOGRAM_EDGES) + 1)
        tally.distance_max = torch.maximum(tally.distance_max, distance.max().long())
        tally.add(distance=distance.sum(dtype=torch.float64))


def _tally_values(tally: _Tally, tile: _Tile, quantizer: Quantizer, unit: float) -> None:
    update = tile.later_value - tile.earlier_value
    cells = measure_ulps(tile.earlier_scaled, quantizer.fmt) * tile.cell_scale
    size = update.abs()
    tally.add(
        expected=(size / cells).clamp_(max=1.0).sum(),
        update_squares=(update / unit).square_().sum(),
        earlier_squares=(tile.earlier_value / unit).square_().sum(),
        update_abs=size.sum() / unit,
    )


def _square_safe_unit(earlier: Tensor, later: Tensor) -> float:
    """A power of two to divide by so that squares stay in float64's range; 1 if they do."""
    if earlier.dtype != torch.float64 or earlier.numel() == 0:
        return 1.0
    largest = max(float(earlier.abs().max()), float(later.abs().max()))
    if not 0 < largest < float("inf") or 1e-140 < largest < 1e140:
        return 1.0
    return float(2.0 ** torch.frexp(torch.tensor(largest, dtype=torch.float64)).exponent.item())


def _scale_ratio_max(earlier: Scales, later: Scales) -> float | None:
    if later.values.numel() == 0:
        return None
    ratio = later.values.double() / earlier.values.double()
    return float(torch.maximum(ratio, 1 / ratio).max())
