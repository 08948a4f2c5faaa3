"""Block FP8 as transformers writes it."""

import torch
from jaxtyping import Float
from torch import Tensor

from altgrad_inspect.quantize.quantizer import Quantizer, ScaleRule
from altgrad_inspect.quantize.rules.arithmetic import (
    FLOAT32_MAX,
    SMALLEST,
    SMALLEST_NORMAL,
    ceil_log2,
    multiply_reciprocal,
    power_of_two,
)
from altgrad_inspect.quantize.rules.blocks import find_block_amax
from altgrad_inspect.quantize.scales import Scales, View


def fit_transformers(
    weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View
) -> Scales:
    """Weights times fl32(max * fl32(1 / amax)), 1 for zeros; the reciprocal of that is stored.

    With ``transformers-ue8m0`` what is stored is rounded up to a power of two by a float32 log2,
    and the weights are multiplied by its reciprocal.
    transformers: integrations/finegrained_fp8.py:Fp8Quantize.
    """
    amax = find_block_amax(weights, view)
    factors = multiply_reciprocal(quantizer.fmt.max, amax).clamp_(max=FLOAT32_MAX)
    factors = torch.where(amax == 0, 1.0, factors)
    scales = torch.reciprocal(factors).clamp_(min=SMALLEST)
    if quantizer.rule is ScaleRule.TRANSFORMERS_UE8M0:
        scales = power_of_two(ceil_log2(scales.clamp_(min=SMALLEST_NORMAL)))
        factors = torch.reciprocal(scales)
    return Scales(values=scales, view=view, multipliers=factors)
