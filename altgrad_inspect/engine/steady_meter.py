"""A flip meter that goes on where the GPU's memory ends."""

import torch
from torch import Tensor

from altgrad_inspect.engine.placement import ON_CPU
from altgrad_inspect.metrics.flips import FlipMeter
from altgrad_inspect.quantize.coded import CodedWeights
from altgrad_inspect.quantize.quantizer import Quantizer
from altgrad_inspect.records import FlipCounts


class SteadyMeter:
    """Counts as `FlipMeter` does; what a GPU has no room for is counted on the CPU.

    Once there was no room for the layer, its later checkpoints are counted on the CPU as
    well: its codes are there. So they are once weights come from there. The counts are the same
    on both.

    Args:
        quantizer: As for `FlipMeter`.
        shape: As for `FlipMeter`.
        values_known: As for `FlipMeter`.
        compiled: As for `FlipMeter`.

    Attributes:
        note: `ON_CPU` if that is where it counts, else None.
        values_known: As given.
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
        self.note: str | None = None
        self.problem: str | None = None
        self.values_known = values_known
        self._meter = FlipMeter(quantizer, shape, values_known=values_known, compiled=compiled)

    def start(self, weights: Tensor, coded: CodedWeights | None = None) -> None:
        """As `FlipMeter.start`."""
        try:
            self._meter.start(self._place(weights), self._place_codes(coded))
        except torch.OutOfMemoryError:
            if self.note:  # it is on the CPU already
                raise
            self.note = ON_CPU
            self._meter.start(self._place(weights), self._place_codes(coded))

    def advance(
        self,
        earlier: Tensor,
        later: Tensor,
        coded: tuple[CodedWeights | None, CodedWeights | None] = (None, None),
    ) -> FlipCounts:
        """As `FlipMeter.advance`.

        A transition during which memory runs out is counted again from its beginning, as
        the first of the layer: which weights it turned back is then not known.

        Args:
            earlier: As for `FlipMeter.advance`.
            later: As for `FlipMeter.advance`.
            coded: The codes of both, where they are what is stored.
        """
        before, after = coded
        self._follow(later)
        try:
            return self._meter.advance(
                self._place(earlier), self._place(later), self._place_codes(after)
            )
        except torch.OutOfMemoryError:
            if self.note:  # it is on the CPU already
                raise
            self.note = ON_CPU
            self._meter.start(self._place(earlier), self._place_codes(before))
            return self._meter.advance(
                self._place(earlier), self._place(later), self._place_codes(after)
            )

    def _follow(self, weights: Tensor) -> None:
        """Count on the CPU from here on if either the codes or the weights are there alone."""
        if self.note is None and self._meter.device not in {None, weights.device}:
            self._meter.move_to_cpu()
            self.note = ON_CPU

    def _place(self, weights: Tensor) -> Tensor:
        return weights.cpu() if self.note else weights

    def _place_codes(self, coded: CodedWeights | None) -> CodedWeights | None:
        return coded.cpu() if self.note and coded is not None else coded
