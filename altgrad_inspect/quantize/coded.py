"""Weights that are stored as codes with their scales."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float32, Integer
from torch import Tensor

from altgrad_inspect.formats import ElementFormat
from altgrad_inspect.quantize.grids import decode_ordinals, measure_ulps
from altgrad_inspect.quantize.scales import Scales, tiles


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CodedWeights:
    """One layer as codes: ordinals and what they are multiplied by.

    Attributes:
        fmt: The format of the codes.
        ordinals: int8 or int16, of shape ``scales.view.shape``; for codes with a zero point,
            the code minus the zero point rounded to an integer.
        scales: One code step in units of the weights, and the rest of the zero point.
    """

    fmt: ElementFormat
    ordinals: Integer[Tensor, "rows cols"]
    scales: Scales

    def decode(self) -> Float32[Tensor, "rows cols"]:
        """Return the weights: fl32(fl32(value of the ordinal - offset) * scale)."""
        view, offsets = self.scales.view, self.scales.offsets
        weights = torch.empty(view.shape, dtype=torch.float32, device=self.ordinals.device)
        for rows, cols in tiles(view, weights.device):
            values = decode_ordinals(self.ordinals[rows, cols], self.fmt).float()
            if offsets is not None:
                values -= self.scales.pick(offsets, rows, cols)
            weights[rows, cols] = values * self.scales.tile(rows, cols)
        return weights

    def measure_cells(self) -> Float32[Tensor, "rows cols"]:
        """Return how far apart the weights are that neighbouring codes would mean, at each one."""
        view = self.scales.view
        cells = torch.empty(view.shape, dtype=torch.float32, device=self.ordinals.device)
        for rows, cols in tiles(view, cells.device):
            values = decode_ordinals(self.ordinals[rows, cols], self.fmt).float()
            cells[rows, cols] = measure_ulps(values, self.fmt) * self.scales.tile(rows, cols).abs()
        return cells

    def cpu(self) -> "CodedWeights":
        """Return the same on the CPU."""
        return replace(self, ordinals=self.ordinals.cpu(), scales=self.scales.cpu())
