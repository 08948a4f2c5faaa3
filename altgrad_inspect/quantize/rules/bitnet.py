"""Ternary weights: BitNet b1.58."""

import torch
from jaxtyping import Float
from torch import Tensor

from altgrad_inspect.quantize.quantizer import Quantizer
from altgrad_inspect.quantize.rules.blocks import find_mean_magnitude
from altgrad_inspect.quantize.scales import Scales, View

SMALLEST_MEAN = 1e-5


def fit_bitnet(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:  # noqa: ARG001  # one signature for every rule
    """Weights times 1 / max(mean magnitude, 1e-5).

    The source sums in float32, in an order that is the device's; its mean may differ from this
    one in the last place. Ma et al. 2024, arXiv:2402.17764; transformers: integrations/bitnet.py.
    """
    mean = find_mean_magnitude(weights, view).clamp_(min=SMALLEST_MEAN)
    factors = torch.reciprocal(mean).expand(view.num_blocks).clone()
    return Scales(values=torch.reciprocal(factors), view=view, multipliers=factors)
