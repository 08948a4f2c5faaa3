"""Float8 training in torchao: weights times a factor that is computed in float64."""

import torch
from jaxtyping import Float
from torch import Tensor

from altgrad_inspect.quantize.quantizer import Quantizer, ScaleRule
from altgrad_inspect.quantize.rules.arithmetic import (
    floor_log2,
    multiply_reciprocal,
    power_of_two,
)
from altgrad_inspect.quantize.rules.blocks import find_block_amax
from altgrad_inspect.quantize.scales import Scales, View

SMALLEST_AMAX = 1e-12


def fit_torchao(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:
    """fl32(max / max(amax, 1e-12)), and with ``torchao-pow2`` 2**floor(log2) of that.

    What is stored beside the codes is this factor. torchao: float8/float8_utils.py:amax_to_scale.
    """
    amax = find_block_amax(weights, view).double().clamp_(min=SMALLEST_AMAX)
    factors = multiply_reciprocal(quantizer.fmt.max, amax).float()
    if quantizer.rule is ScaleRule.TORCHAO_POW2:
        factors = power_of_two(floor_log2(factors))
    return Scales(values=torch.reciprocal(factors), view=view, multipliers=factors)
