"""What the package makes of weights under a quantizer: ordinals and scales."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from altgrad_inspect.quantize.quantizer import MasterCast, Quantizer
from altgrad_inspect.quantize.rules import fit_scales
from altgrad_inspect.quantize.scales import Scales, tiles, view_for


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """Ordinals in the shape of the weights; scales one a block."""

    ordinals: NDArray[np.int16]
    scales: Scales

    @property
    def values(self) -> NDArray[np.float32]:
        return self.scales.values.numpy()

    @property
    def multipliers(self) -> NDArray[np.float32]:
        if self.scales.multipliers is None:
            return np.float32(1) / self.values
        return self.scales.multipliers.numpy()


def simulate(
    quantizer: Quantizer,
    weights: NDArray[np.float32],
    *,
    dtype: torch.dtype = torch.float32,
    num_matrices: int = 1,
    earlier: Scales | None = None,
) -> Coded:
    """Quantize as the flip meter does, from weights stored in ``dtype``."""
    stored = torch.from_numpy(np.array(weights)).to(dtype)
    rows, cols = weights.shape
    view = view_for(quantizer, num_matrices=num_matrices, rows=rows // num_matrices, cols=cols)
    stored = stored.reshape(view.shape)
    if quantizer.master_cast is MasterCast.BF16:
        stored = stored.bfloat16()
    scales = fit_scales(stored, quantizer, view, earlier=earlier)
    ordinals = torch.empty(view.shape, dtype=torch.int16)
    for at in tiles(view, torch.device("cpu")):
        scaled = scales.scale_down(stored[at].float(), *at)
        ordinals[at] = scales.encode(scaled, quantizer.fmt, at, ties=quantizer.ties).short()
    return Coded(ordinals.reshape(weights.shape).numpy(), scales)
