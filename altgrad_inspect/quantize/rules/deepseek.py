"""Blocks of 128 x 128 as DeepSeek-V3 and DeepGEMM scale them."""

import torch
from jaxtyping import Float
from torch import Tensor

from altgrad_inspect.quantize.quantizer import Quantizer, ScaleRule
from altgrad_inspect.quantize.rules.arithmetic import (
    BIAS,
    ceil_log2,
    divide,
    exponent_field,
    mantissa_field,
    power_of_two,
)
from altgrad_inspect.quantize.rules.blocks import find_block_amax
from altgrad_inspect.quantize.scales import Scales, View

SMALLEST_AMAX = 1e-4


def fit_deepseek(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:
    """max(amax, 1e-4) / max, or 2**ceil(log2) of that; weights are divided by it.

    DeepSeek-V3: inference/kernel.py:act_quant_kernel.
    """
    scales = divide(find_block_amax(weights, view).clamp_(min=SMALLEST_AMAX), quantizer.fmt.max)
    if quantizer.rule is ScaleRule.DEEPSEEK_UE8M0:
        scales = power_of_two(ceil_log2(scales))
    return Scales(values=scales, view=view)


def fit_deepgemm(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:
    """max(amax, 1e-4) / max, or that rounded up to a power of two; weights times 1 / scale.

    DeepGEMM: deep_gemm/utils/math.py:per_block_cast_to_fp8, ceil_to_ue8m0.
    """
    scales = divide(find_block_amax(weights, view).clamp_(min=SMALLEST_AMAX), quantizer.fmt.max)
    if quantizer.rule is ScaleRule.DEEPGEMM_UE8M0:
        is_between = (mantissa_field(scales) != 0).int()
        scales = power_of_two((exponent_field(scales) + is_between).clamp_(1, 254) - BIAS)
    return Scales(values=scales, view=view, multipliers=torch.reciprocal(scales))
