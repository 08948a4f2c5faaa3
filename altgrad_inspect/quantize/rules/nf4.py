"""NF4: every 64 weights over the largest of them."""

import torch
from jaxtyping import Float
from torch import Tensor

from altgrad_inspect.quantize.quantizer import Quantizer
from altgrad_inspect.quantize.rules.blocks import find_block_amax
from altgrad_inspect.quantize.scales import Scales, View

SMALLEST_AMAX = 1e-38


def fit_nf4(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:  # noqa: ARG001  # one signature for every rule
    """Weights times 1 / amax; zeros have the scale 1.

    Dettmers et al. 2023, arXiv:2305.14314; bitsandbytes: csrc/kernels.cu, backends/default/ops.py.
    """
    amax = find_block_amax(weights, view)
    factors = torch.reciprocal(amax.clamp(min=SMALLEST_AMAX))
    return Scales(values=torch.where(amax == 0, 1.0, amax), view=view, multipliers=factors)
