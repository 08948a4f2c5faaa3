"""FP8 weights of torchao and compressed-tensors: scales computed in the dtype of the weights."""

import torch
from jaxtyping import Float
from torch import Tensor

from altgrad_inspect.quantize.quantizer import Quantizer, ScaleRule
from altgrad_inspect.quantize.rules.arithmetic import divide, round_to
from altgrad_inspect.quantize.rules.blocks import find_block_amax
from altgrad_inspect.quantize.scales import Scales, View


def fit_in_weight_dtype(
    weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View
) -> Scales:
    """Amax / max, rounded to bfloat16 or float16 where the weights are that.

    Zeros have the scale 1 under ``float8-tensor``, where the source divides 0 by 0, and the
    epsilon of the dtype under ``ct-fp8``.
    torchao: quantization/quant_primitives.py:_choose_scale_float8; compressed-tensors:
    quantization/utils/helpers.py:calculate_qparams.
    """
    dtype = weights.dtype if torch.finfo(weights.dtype).bits < 32 else torch.float32
    scales = round_to(divide(find_block_amax(weights, view), quantizer.fmt.max), dtype)
    is_ct = quantizer.rule is ScaleRule.CT_FP8
    of_zero = torch.finfo(dtype).eps if is_ct else 1.0
    return Scales(values=torch.where(scales == 0, of_zero, scales), view=view)
