"""The flips rows of one layer: which transitions can be compared, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from altgrad_inspect.checkpoints.schemes.parts import FLOAT8_FORMATS
from altgrad_inspect.engine.sighting import Sighting, SkipList, first_line
from altgrad_inspect.engine.steady_meter import SteadyMeter
from altgrad_inspect.formats import ElementFormat, element_format
from altgrad_inspect.metrics.matrices import weightless_reason
from altgrad_inspect.quantize.coded import CodedWeights
from altgrad_inspect.quantize.quantizer import TENSOR, Quantizer, ScaleRule
from altgrad_inspect.quantize.scales import View
from altgrad_inspect.records import FlipCounts, FlipRecord, SkippedLayer, Status
from altgrad_inspect.refs import CODELESS, LayerRef

_CODES_WITHOUT_SCALE = "stored codes without their scale: codes compared, values unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """What counts the flips on one quantizer.

    Attributes:
        name: What the quantizer is called in the table.
        meter: Counts.
        are_stored: Whether it compares the codes that are stored.
    """

    name: str
    meter: SteadyMeter
    are_stored: bool


Meters = list[Meter]
"""One a quantizer."""


class FlipRows:
    """Turns a layer's sightings into flips rows, one a transition and quantizer."""

    def __init__(
        self,
        layer: str,
        quantizers: Sequence[Quantizer],
        *,
        auto: Quantizer | None = None,
        compiled: bool = False,
    ) -> None:
        self.rows: list[FlipRecord] = []
        self._layer = layer
        self._quantizers = tuple(quantizers)
        self._auto = auto
        self._compiled = compiled
        self._skips = SkipList(layer)
        self._meters: Meters = []

    @property
    def skipped(self) -> tuple[SkippedLayer, ...]:
        """Why the layer has no rows, where it has none."""
        return self._skips.rows

    def see(self, previous: Sighting | None, current: Sighting) -> None:
        """Compare ``current`` with ``previous``, the checkpoint before; None for the first."""
        if current.ref is not None and current.weights is not None:
            reason = self._weightless(current.ref, current.weights)
            if reason:
                self._skips.add(current.ref, f"flips: {reason}")
                self._meters = []
                return
        gap = find_gap(previous, current) if previous else None
        if previous and gap:
            for one in self._make_meters(current.ref or previous.ref, current.coded):
                self._add(previous, current, one.name, status=gap[0], reason=gap[1])
        if current.ref is None or current.weights is None:
            self._meters = []
        elif previous is None or previous.weights is None or gap:
            self._start(current.ref, current.weights, current.coded)
        else:
            self._advance(previous, current, (previous.weights, current.weights))

    def _weightless(self, ref: LayerRef, weights: Tensor) -> str | None:
        return None if ref.dtype in FLOAT8_FORMATS else weightless_reason(weights.dtype)

    def _make_meters(self, ref: LayerRef | None, coded: CodedWeights | None) -> Meters:
        if ref is None:
            return []
        if ref.dtype in FLOAT8_FORMATS:
            fmt = element_format(FLOAT8_FORMATS[ref.dtype])
            quantizer = Quantizer(fmt=fmt, granularity=TENSOR, rule=ScaleRule.NONE)
            meter = SteadyMeter(quantizer, ref.shape, values_known=False)
            return [Meter(name=f"stored:{fmt}", meter=meter, are_stored=True)]
        return [self._make_meter(ref, coded, quantizer) for quantizer in self._quantizers]

    def _make_meter(self, ref: LayerRef, coded: CodedWeights | None, quantizer: Quantizer) -> Meter:
        if quantizer != self._auto or ref.scheme in CODELESS:
            meter = SteadyMeter(quantizer, ref.shape, compiled=self._compiled)
            return Meter(name=str(quantizer), meter=meter, are_stored=False)
        if coded is not None:  # weights are encoded on the grid that the codes are stored on
            quantizer = Quantizer(fmt=coded.fmt, granularity=TENSOR, rule=ScaleRule.NONE)
        meter = SteadyMeter(quantizer, ref.shape)
        return Meter(name=f"stored:{ref.dtype}", meter=meter, are_stored=True)

    def _start(self, ref: LayerRef, weights: Tensor, coded: CodedWeights | None) -> None:
        self._meters = self._make_meters(ref, coded)
        for one in self._meters:
            try:
                one.meter.start(weights, coded if one.are_stored else None)
            except (MemoryError, RuntimeError) as error:
                one.meter.problem = first_line(error)

    def _advance(
        self, previous: Sighting, current: Sighting, weights: tuple[Tensor, Tensor]
    ) -> None:
        for one in self._meters:
            name, meter = one.name, one.meter
            coded = (previous.coded, current.coded) if one.are_stored else (None, None)
            try:
                if meter.problem:
                    meter.start(weights[0], coded[0])
                    meter.problem = None
                counts = meter.advance(*weights, coded)
            except (MemoryError, RuntimeError) as error:
                meter.problem = first_line(error)
                self._add(previous, current, name, status=Status.FAILED, reason=meter.problem)
            else:
                reason = _undefined(counts, one)
                status = Status.UNDEFINED if reason else Status.OK
                self._add(
                    previous,
                    current,
                    name,
                    counts=counts,
                    status=status,
                    reason=reason or meter.note or current.note,
                )

    def _add(
        self,
        previous: Sighting,
        current: Sighting,
        quantizer: str,
        *,
        counts: FlipCounts | None = None,
        status: Status,
        reason: str | None,
    ) -> None:
        self.rows.append(
            FlipRecord(
                layer=self._layer,
                quantizer=quantizer,
                step_from=previous.step,
                step_to=current.step,
                counts=counts,
                status=status,
                reason=reason,
            )
        )


def _undefined(counts: FlipCounts, one: Meter) -> str | None:
    """Why some of the numbers have no value; None if all have."""
    if counts.num_weights == 0:
        return "empty layer"
    if not one.meter.values_known:
        return _CODES_WITHOUT_SCALE
    if counts.update_norm is None:
        return (
            f"non-finite weights, {counts.num_nonfinite} in the later checkpoint: "
            "the update has no norm"
        )
    return None


def find_gap(previous: Sighting, current: Sighting) -> tuple[Status, str] | None:
    """Why two consecutive sightings cannot be compared; None if they can."""
    before, after = previous.ref, current.ref
    problem = previous.problem or current.problem
    if problem:
        return Status.FAILED, problem
    reason = None
    if after is None and before is not None:
        reason = f"layer removed: not in step {current.step}"
    elif before is None and after is not None:
        reason = f"layer added: not in step {previous.step}"
    elif before is not None and after is not None:
        if before.shape != after.shape:
            reason = f"shape changed from {list(before.shape)} to {list(after.shape)}"
        elif before.scheme != after.scheme:
            reason = f"storage scheme changed from {before.scheme} to {after.scheme}"
        elif before.dtype != after.dtype:
            reason = f"dtype changed from {before.dtype} to {after.dtype}"
        else:
            reason = _find_regrouping(previous, current)
    return (Status.UNDEFINED, reason) if reason else None


def _find_regrouping(previous: Sighting, current: Sighting) -> str | None:
    """Why codes of one scheme cannot be compared; None if they can."""
    if previous.coded is None or current.coded is None:
        return None
    before, after = previous.coded, current.coded
    if str(before.fmt) != str(after.fmt):
        return f"format changed from {before.fmt} to {after.fmt}"
    if before.fmt != after.fmt:
        had, has = (_name_range(coded.fmt) for coded in (before, after))
        return f"the codes of {before.fmt} changed from {had} to {has}"
    if before.scales.view != after.scales.view:
        had, has = (_name_blocks(coded.scales.view) for coded in (before, after))
        return f"the weights share scales in another way: {had}, then {has}"
    if not _are_equal(before.scales.col_blocks, after.scales.col_blocks):
        return "the weights share scales in another way: other columns make up a group"
    return None


def _are_equal(left: Tensor | None, right: Tensor | None) -> bool:
    if left is None or right is None:
        return left is right
    return torch.equal(left, right)


def _name_range(fmt: ElementFormat) -> str:
    """How far codes reach; those with a zero point count from it, and so reach further."""
    return f"{fmt.value_of(fmt.lowest_ordinal):g} ... {fmt.max:g}"


def _name_blocks(view: View) -> str:
    if view.block_rows is None:
        return "one for all"
    return f"blocks of {view.block_rows} x {view.block_cols} in {view.shape[0]} x {view.cols}"
