"""The flips rows of one layer: which transitions can be compared, and what came of it."""

from collections.abc import Sequence

from torch import Tensor

from altgrad_inspect.engine.sighting import Sighting, SkipList, first_line
from altgrad_inspect.engine.steady_meter import SteadyMeter
from altgrad_inspect.formats import element_format
from altgrad_inspect.metrics.matrices import weightless_reason
from altgrad_inspect.quantize.spec import TENSOR, Quantizer, ScaleRule
from altgrad_inspect.records import FlipCounts, FlipRecord, LayerRef, SkippedLayer, Status

STORED_CODES = {
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
"""Safetensors dtypes whose elements are codes of a number format, and which one."""

_CODES_WITHOUT_SCALE = "stored codes without their scale: codes compared, values unknown"

Meters = list[tuple[str, SteadyMeter]]
"""One meter a quantizer, with the quantizer's name."""


class FlipRows:
    """Turns a layer's sightings into flips rows, one a transition and quantizer."""

    def __init__(
        self, layer: str, quantizers: Sequence[Quantizer], *, compiled: bool = False
    ) -> None:
        self.rows: list[FlipRecord] = []
        self._layer = layer
        self._quantizers = tuple(quantizers)
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
            for name, _ in self._make_meters(current.ref or previous.ref):
                self._add(previous, current, name, status=gap[0], reason=gap[1])
        if current.ref is None or current.weights is None:
            self._meters = []
        elif previous is None or previous.weights is None or gap:
            self._start(current.ref, current.weights)
        else:
            self._advance(previous, current, (previous.weights, current.weights))

    def _weightless(self, ref: LayerRef, weights: Tensor) -> str | None:
        return None if ref.dtype in STORED_CODES else weightless_reason(weights.dtype)

    def _make_meters(self, ref: LayerRef | None) -> Meters:
        if ref is None:
            return []
        if ref.dtype in STORED_CODES:
            fmt = element_format(STORED_CODES[ref.dtype])
            quantizer = Quantizer(fmt=fmt, granularity=TENSOR, rule=ScaleRule.NONE)
            return [(f"stored:{fmt}", SteadyMeter(quantizer, ref.shape, values_known=False))]
        return [
            (str(quantizer), SteadyMeter(quantizer, ref.shape, compiled=self._compiled))
            for quantizer in self._quantizers
        ]

    def _start(self, ref: LayerRef, weights: Tensor) -> None:
        self._meters = self._make_meters(ref)
        for _, meter in self._meters:
            try:
                meter.start(weights)
            except (MemoryError, RuntimeError) as error:
                meter.problem = first_line(error)

    def _advance(
        self, previous: Sighting, current: Sighting, weights: tuple[Tensor, Tensor]
    ) -> None:
        for name, meter in self._meters:
            try:
                if meter.problem:
                    meter.start(weights[0])
                    meter.problem = None
                counts = meter.advance(*weights)
            except (MemoryError, RuntimeError) as error:
                meter.problem = first_line(error)
                self._add(previous, current, name, status=Status.FAILED, reason=meter.problem)
            else:
                reason = _undefined(counts, name)
                status = Status.UNDEFINED if reason else Status.OK
                self._add(
                    previous,
                    current,
                    name,
                    counts=counts,
                    status=status,
                    reason=reason or meter.note,
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


def _undefined(counts: FlipCounts, quantizer: str) -> str | None:
    """Why some of the numbers have no value; None if all have."""
    if counts.num_weights == 0:
        return "empty layer"
    if quantizer.startswith("stored:"):
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
        elif before.dtype != after.dtype:
            reason = f"dtype changed from {before.dtype} to {after.dtype}"
    return (Status.UNDEFINED, reason) if reason else None
