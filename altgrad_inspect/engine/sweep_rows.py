"""One layer in many formats at once: what its flips would have been in each of them.

Both stored checkpoints of a transition are at hand, so codes are not kept from one transition
to the next but encoded again, a quantizer at a time. That costs a third more arithmetic and
bounds the memory: beside the two checkpoints as stored there are 2 bytes a weight of codes
(4 for formats of more than 8 bits), however many quantizers there are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from torch import Tensor

from altgrad_inspect.checkpoints.schemes.parts import FLOAT8_FORMATS
from altgrad_inspect.engine.flip_rows import find_gap
from altgrad_inspect.engine.sighting import Sighting, SkipList, first_line
from altgrad_inspect.engine.steady_meter import SteadyMeter
from altgrad_inspect.metrics.matrices import weightless_reason
from altgrad_inspect.quantize.quantizer import Quantizer
from altgrad_inspect.records import FlipCounts, SkippedLayer, Status
from altgrad_inspect.refs import LayerRef
from altgrad_inspect.tables.comparisons import SweepLayerRow, SweepRow

STALL_TRANSITIONS: Final = 3
"""A layer stalls in a format if it does so in each of the last three transitions."""

STALL_MIN_UPDATED: Final = 0.01
"""Updates go on: at least this share of the weights changes its stored bits."""

STALL_MAX_FLIPPED: Final = 1e-4
"""Codes do not: less than this share of the weights flips."""


@dataclass(slots=True)
class _Format:
    """What is known of the layer in one format.

    ``problem`` says why a transition failed, ``note`` that one was counted elsewhere.
    """

    quantizer: Quantizer
    counts: list[FlipCounts] = field(default_factory=list)
    problem: str | None = None
    note: str | None = None


class SweepRows:
    """Sums up the transitions of a layer, one row a quantizer."""

    def __init__(
        self, layer: str, quantizers: Sequence[Quantizer], *, compiled: bool = False
    ) -> None:
        self._layer = layer
        self._formats = [_Format(quantizer) for quantizer in quantizers]
        self._compiled = compiled
        self._skips = SkipList(layer)
        self._gap: tuple[Status, str] | None = None
        self._has_weights = False

    @property
    def skipped(self) -> tuple[SkippedLayer, ...]:
        """Why the layer has no rows, where it has none."""
        return self._skips.rows

    def see(self, previous: Sighting | None, current: Sighting) -> None:
        """Count what changed since ``previous``, the checkpoint before, in every format."""
        if current.ref is not None and current.weights is not None:
            reason = _find_weightless(current.ref, current.weights)
            if reason:
                self._skips.add(current.ref, f"sweep: {reason}")
                return
            self._has_weights = True
        if previous is None or (previous.ref is None and current.ref is None):
            return
        gap = find_gap(previous, current)
        if gap is not None:
            self._gap = gap
            if gap[0] is Status.FAILED:
                for one in self._formats:
                    one.problem = gap[1]
        elif previous.weights is not None and current.weights is not None:
            for one in self._formats:
                _count(one, previous.weights, current.weights, compiled=self._compiled)
                one.note = one.note or current.note

    def build(self) -> tuple[SweepLayerRow, ...]:
        """Return one row a quantizer; none for a layer that holds no weights."""
        is_failed = any(one.problem is not None for one in self._formats)
        if not self._has_weights and not is_failed:
            return ()
        return tuple(self._row(one) for one in self._formats)

    def _row(self, one: _Format) -> SweepLayerRow:
        quantizer = str(one.quantizer)
        counts = [count for count in one.counts if count.num_weights]
        if one.problem is not None or not counts:
            status, reason = self._gap or (Status.UNDEFINED, "in one checkpoint only")
            if one.problem is not None:
                status, reason = Status.FAILED, one.problem
            elif one.counts:
                status, reason = Status.UNDEFINED, "empty layer"
            return SweepLayerRow(
                layer=self._layer, quantizer=quantizer, status=status, reason=reason
            )
        last = counts[-1]
        return SweepLayerRow(
            layer=self._layer,
            quantizer=quantizer,
            num_weights=last.num_weights,
            num_transitions=len(counts),
            updated_fraction_last=last.num_updated / last.num_weights,
            flip_fraction_median=_find_median(count.flip_fraction for count in counts),
            flip_fraction_last=last.flip_fraction,
            stall_fraction_median=_find_median(count.stall_fraction for count in counts),
            stall_fraction_last=last.stall_fraction,
            saturated_fraction_last=(last.num_saturated or 0) / last.num_weights,
            underflowed_fraction_last=(last.num_underflowed or 0) / last.num_weights,
            is_stalling=is_stalling(counts),
            reason=one.note,
        )


def is_stalling(counts: Sequence[FlipCounts]) -> bool:
    """Whether updates go on while codes do not, in each of the last transitions."""
    return all(
        count.num_updated >= STALL_MIN_UPDATED * count.num_weights
        and count.num_flipped < STALL_MAX_FLIPPED * count.num_weights
        for count in counts[-STALL_TRANSITIONS:]
    )


def build_sweep(
    rows: Iterable[SweepLayerRow], groups: Sequence[Sequence[Quantizer]]
) -> list[SweepRow]:
    """Sum the layers up, one row a group of quantizers that are the same grid.

    Args:
        rows: Of all layers; each group has rows under the name of its first quantizer.
        groups: See `group_same_grids`.
    """
    by_quantizer: dict[str, list[SweepLayerRow]] = {}
    for row in rows:
        by_quantizer.setdefault(row.quantizer, []).append(row)
    return [
        _sum_up(str(first), tuple(map(str, others)), by_quantizer.get(str(first), []))
        for first, *others in groups
    ]


def _sum_up(quantizer: str, same_as: tuple[str, ...], rows: list[SweepLayerRow]) -> SweepRow:
    measured = [row for row in rows if row.num_weights]
    failed = [row for row in rows if row.status is Status.FAILED]
    status, reason = Status.OK, None
    if failed:
        status, reason = Status.FAILED, f"{len(failed)} layers failed: {failed[0].reason}"
    elif not measured:
        status, reason = Status.UNDEFINED, "no layer with two checkpoints to compare"
    return SweepRow(
        quantizer=quantizer,
        same_as=same_as,
        num_layers=len(measured),
        num_weights=sum(row.num_weights or 0 for row in measured),
        num_stalling=sum(bool(row.is_stalling) for row in measured),
        flip_fraction_median=_find_median(row.flip_fraction_median for row in measured),
        flip_fraction_last=_find_share(measured, "flip_fraction_last"),
        stall_fraction_median=_find_median(row.stall_fraction_median for row in measured),
        saturated_fraction_last=_find_share(measured, "saturated_fraction_last"),
        underflowed_fraction_last=_find_share(measured, "underflowed_fraction_last"),
        status=status,
        reason=reason,
    )


def _find_share(rows: Sequence[SweepLayerRow], name: str) -> float | None:
    """Return a fraction of the weights of all layers together."""
    whole = sum(row.num_weights or 0 for row in rows)
    return sum(getattr(row, name) * row.num_weights for row in rows) / whole if whole else None


def _find_median(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return median(defined) if defined else None


def _count(one: _Format, earlier: Tensor, later: Tensor, *, compiled: bool) -> None:
    meter = SteadyMeter(one.quantizer, tuple(later.shape), compiled=compiled)
    try:
        meter.start(earlier)
        one.counts.append(meter.advance(earlier, later))
        one.note = one.note or meter.note
    except (MemoryError, RuntimeError) as error:
        one.problem = first_line(error)


def _find_weightless(ref: LayerRef, weights: Tensor) -> str | None:
    if ref.dtype in FLOAT8_FORMATS:
        return f"{ref.dtype} codes as stored: other formats would need the weights behind them"
    return weightless_reason(weights.dtype)
