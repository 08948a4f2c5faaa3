"""Adds up the tiles of one transition of one layer into its `FlipCounts`."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Integer, Shaped
from numpy.typing import NDArray
from torch import Tensor

from altgrad_inspect.formats import ElementFormat
from altgrad_inspect.metrics.freed_memory import keep_freed_memory
from altgrad_inspect.quantize.grids import count_clipped, measure_ulps, nan_ordinal
from altgrad_inspect.quantize.scales import Scales
from altgrad_inspect.records import FlipCounts

_BITS: Final = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_HISTOGRAM_EDGES: Final = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tile:
    """One tile of a transition: weights as stored, over their scale, and ordinals.

    Attributes:
        earlier: As stored.
        later: As stored.
        earlier_scaled: float32, earlier over the earlier scales.
        later_scaled: float32, later over the later scales.
        cell_scale: The earlier scales; broadcasts.
        earlier_code: Of earlier at the earlier scales.
        later_code: Of later at the earlier scales.
        earlier_own_code: Of earlier at the later scales.
        later_own_code: Of later at the later scales; the same object as ``later_code`` if
            the scales did not change.
        before_code: Of the checkpoint before ``earlier`` at the earlier scales, if any.
    """

    earlier: Shaped[Tensor, "rows cols"]
    later: Shaped[Tensor, "rows cols"]
    earlier_scaled: Float[Tensor, "rows cols"]
    later_scaled: Float[Tensor, "rows cols"]
    cell_scale: Float[Tensor, "_ _"]
    earlier_code: Integer[Tensor, "rows cols"]
    later_code: Integer[Tensor, "rows cols"]
    earlier_own_code: Integer[Tensor, "rows cols"]
    later_own_code: Integer[Tensor, "rows cols"]
    before_code: Integer[Tensor, "rows cols"] | None


@dataclass(slots=True, kw_only=True)
class FlipTally:
    """Sums over the tiles of one transition.

    Attributes:
        fmt: The format.
        values_known: Whether the stored numbers are the weights.
        unit: Power of two that weights are divided by before they are squared.
        are_stored: Whether the codes are what is stored, with no weights behind them: then
            nobody knows what was clipped, what vanished, or how many flips to expect.
    """

    fmt: ElementFormat
    values_known: bool
    unit: float
    are_stored: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    sums: dict[str, float] = field(default_factory=dict)
    histogram: list[int] = field(default_factory=lambda: [0] * (len(_HISTOGRAM_EDGES) + 1))
    distance_max: int = 0
    all_finite: bool = True

    def __post_init__(self) -> None:
        keep_freed_memory()

    def add(self, tile: Tile) -> None:
        """Count one tile."""
        bits = _BITS[tile.earlier.element_size()]
        flipped = _count_different(tile.later_code, tile.earlier_code)
        recoded = flipped
        if tile.later_own_code is not tile.later_code:
            recoded = _count_different(tile.later_own_code, tile.earlier_code)
        num_zero_codes = tile.later.numel() - _count_nonzero(tile.later_own_code)
        num_zeros = tile.later.numel() - _count_nonzero(_magnitudes(tile.later))
        self.counts.update(
            num_weights=tile.later.numel(),
            num_updated=_count_different(tile.earlier.view(bits), tile.later.view(bits)),
            num_flipped=flipped,
            num_recoded=recoded,
            num_underflowed=num_zero_codes - num_zeros,  # a zero has the code zero
            num_saturated=count_clipped(tile.later_scaled, self.fmt),
        )
        if flipped:
            self._add_moves(tile)
        self._add_values(tile)

    def _add_moves(self, tile: Tile) -> None:
        """Where the flips went; a flip to or from NaN has no direction and no distance."""
        at = _find_different(tile.later_code, tile.earlier_code)
        code_from = tile.earlier_code.reshape(-1).index_select(0, at)
        code_to = tile.later_code.reshape(-1).index_select(0, at)
        if tile.before_code is not None:
            code_before = tile.before_code.reshape(-1).index_select(0, at)
            self.counts["num_reverted"] += int(torch.count_nonzero(code_to == code_before))
        lowest = nan_ordinal(self.fmt)
        if bool((code_from == lowest).any()) or bool((code_to == lowest).any()):
            numbers = (code_from != lowest) & (code_to != lowest)
            code_from, code_to = code_from[numbers], code_to[numbers]
        code_from, code_to = code_from.int(), code_to.int()
        step = code_to - code_from
        num_up = int(torch.count_nonzero(step > 0))
        self.counts.update(
            num_up=num_up,
            num_down=step.numel() - num_up,
            num_sign_flipped=int(torch.count_nonzero(code_from.sign() * code_to.sign() < 0)),
            num_to_zero=step.numel() - int(torch.count_nonzero(code_to)),
            num_from_zero=step.numel() - int(torch.count_nonzero(code_from)),
        )
        if step.numel():
            flips = torch.bincount(step.abs_())  # as long as the largest distance
            distances = torch.nonzero(flips).squeeze(1)
            self._add_distances(distances.cpu().numpy(), flips[distances].cpu().numpy())

    def _add_distances(self, distances: NDArray[np.int64], flips: NDArray[np.int64]) -> None:
        """Count ``flips`` that moved ``distances``, in ascending order."""
        self.distance_max = max(self.distance_max, int(distances[-1]))
        self.counts["distance"] += int(distances @ flips)
        bins = np.searchsorted(_HISTOGRAM_EDGES, distances)
        for index, count in enumerate(np.bincount(bins, flips, len(self.histogram))):
            self.histogram[index] += int(count)

    def _add_values(self, tile: Tile) -> None:
        """Norms in float64, and the flips to expect."""
        earlier, update = (t.double().reshape(-1) for t in (tile.earlier, tile.later))
        if self.unit != 1.0:
            earlier, update = earlier / self.unit, update / self.unit
        # Not in place where the dtype is float64: then these are the weights themselves.
        update = update - earlier if update.dtype is tile.later.dtype else update.sub_(earlier)
        earlier_squares, squares = (float(torch.dot(t, t)) for t in (earlier, update))
        if not np.isfinite(squares):  # it is finite if and only if both checkpoints are
            finite = torch.isfinite(tile.later.double())
            self.counts["num_nonfinite"] += tile.later.numel() - _count_nonzero(finite)
            self.all_finite = False
        if not (self.values_known and self.all_finite):
            return
        size = update.abs_()
        sums = {
            "earlier_squares": earlier_squares,
            "update_squares": squares,
            "update_abs": float(size.sum()),
        }
        if not self.are_stored:
            sums["expected"] = self._expect_flips(tile, size)
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def _expect_flips(self, tile: Tile, size: Tensor) -> float:
        """Sum of min(1, update / cell); ``size`` holds the updates in ``unit``."""
        cells = measure_ulps(tile.earlier_scaled, self.fmt).mul_(tile.cell_scale)
        steps = (size if self.unit == 1.0 else size * self.unit).reshape(cells.shape)
        return float(steps.to(cells.dtype).div_(cells).clamp_(max=1.0).sum())

    def total(self, earlier: Scales, later: Scales, *, has_before: bool) -> FlipCounts:
        """The counts of the whole transition.

        Args:
            earlier: Scales of the earlier checkpoint.
            later: Scales of the later one.
            has_before: Whether there was a checkpoint before, so that reverts are defined.
        """
        counts = self.counts
        num_weights = counts["num_weights"]
        num_moved = counts["num_up"] + counts["num_down"]
        known = self.all_finite and self.values_known and num_weights > 0
        update_norm = self.sums.get("update_squares", 0.0) ** 0.5 * self.unit
        earlier_norm = self.sums.get("earlier_squares", 0.0) ** 0.5 * self.unit
        return FlipCounts(
            num_weights=num_weights,
            num_updated=counts["num_updated"],
            num_flipped=counts["num_flipped"],
            num_recoded=counts["num_recoded"],
            num_scales=later.values.numel(),
            num_scales_changed=int(torch.count_nonzero(later.differs_from(earlier))),
            scale_ratio_max=_scale_ratio_max(earlier, later),
            num_expected_flips=(
                self.sums.get("expected", 0.0) if known and not self.are_stored else None
            ),
            num_up=counts["num_up"],
            num_down=counts["num_down"],
            num_sign_flipped=counts["num_sign_flipped"],
            num_to_zero=counts["num_to_zero"],
            num_from_zero=counts["num_from_zero"],
            num_reverted=counts["num_reverted"] if has_before else None,
            num_saturated=None if self.are_stored else counts["num_saturated"],
            num_underflowed=None if self.are_stored else counts["num_underflowed"],
            num_nonfinite=counts["num_nonfinite"],
            code_step_mean=counts["distance"] / num_moved if num_moved else None,
            code_step_max=self.distance_max if num_moved else None,
            code_step_histogram=tuple(self.histogram),
            update_norm=update_norm if known else None,
            relative_update=update_norm / earlier_norm if known and earlier_norm else None,
            update_mean_abs=(
                self.sums.get("update_abs", 0.0) * self.unit / num_weights if known else None
            ),
        )


def _magnitudes(weights: Tensor) -> Tensor:
    """Something that is 0 exactly where ``weights`` are, of whichever sign."""
    if weights.element_size() == 1:  # not every float8 has a zero with a sign
        return weights.float()
    bits = weights.view(_BITS[weights.element_size()])
    return bits & torch.iinfo(bits.dtype).max


def _count_nonzero(values: Tensor) -> int:
    """Count what is not zero; on the CPU by numpy, several times faster."""
    if values.device.type == "cpu":
        return int(np.count_nonzero(values.numpy() != 0))
    return int(torch.count_nonzero(values))


def _find_different(left: Tensor, right: Tensor) -> Tensor:
    """Flat positions of the elements that differ; on the CPU by numpy, several times faster."""
    if left.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(left.numpy() != right.numpy()))
    return torch.nonzero((left != right).reshape(-1)).squeeze(1)


def _count_different(left: Tensor, right: Tensor) -> int:
    """Count the elements that differ; on the CPU by numpy, several times faster."""
    if left.device.type == "cpu":
        return int(np.count_nonzero(left.numpy() != right.numpy()))
    return int(torch.count_nonzero(left != right))


def _scale_ratio_max(earlier: Scales, later: Scales) -> float | None:
    if later.values.numel() == 0:
        return None
    ratio = later.values.double() / earlier.values.double()
    return float(torch.maximum(ratio, 1 / ratio).max())
