"""Groups of 4-bit integers: symmetric and with a zero point."""

import torch
from jaxtyping import Float
from torch import Tensor

from altgrad_inspect.quantize.quantizer import Quantizer
from altgrad_inspect.quantize.rules.arithmetic import divide, round_to
from altgrad_inspect.quantize.rules.blocks import find_block_amax, find_block_range
from altgrad_inspect.quantize.scales import Scales, View

HALF_RANGE = 7.5
LAST_CODE = 15
LOWEST, HIGHEST = -8, 7
SMALLEST_RANGE = 1e-6


def fit_torchao(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:  # noqa: ARG001  # one signature for every rule
    """Weights times 1 / s, with s = amax / 7.5 in the dtype of the weights.

    At least the smallest normal number of that dtype.
    torchao: quantization/utils.py:get_group_qparams_symmetric.
    """
    dtype = _float_dtype(weights)
    scales = round_to(divide(find_block_amax(weights, view), HALF_RANGE), dtype)
    scales.clamp_(min=torch.finfo(dtype).smallest_normal)
    return Scales(values=scales, view=view, multipliers=torch.reciprocal(scales))


def fit_bf16(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:  # noqa: ARG001  # one signature for every rule
    """(Weight - minimum) over s, with s = max(maximum - minimum, 1e-6) / 15; codes 0 to 15.

    Zero need not be a code; ordinals count from the code nearest to it.
    torchao: quantization/qat/fake_quantizer.py:Int4WeightFakeQuantizer.
    """
    low, high = find_block_range(weights, view)
    scales = divide((high - low).clamp_(min=SMALLEST_RANGE), float(LAST_CODE))
    zeros = (-low / scales).round_().clamp_(0, LAST_CODE).short()
    return Scales(
        values=scales,
        view=view,
        shifts=low,
        zeros=zeros,
        lowest=-zeros,
        highest=LAST_CODE - zeros,
    )


def fit_ct(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:  # noqa: ARG001  # one signature for every rule
    """Weights over amax / 7.5 in the dtype of the weights; its epsilon for zeros.

    compressed-tensors: quantization/utils/helpers.py:calculate_qparams.
    """
    dtype = _float_dtype(weights)
    scales = round_to(divide(find_block_amax(weights, view), HALF_RANGE), dtype)
    return Scales(values=torch.where(scales == 0, torch.finfo(dtype).eps, scales), view=view)


def fit_ct_asymmetric(
    weights: Float[Tensor, "rows cols"],
    quantizer: Quantizer,  # noqa: ARG001  # one signature for every rule
    view: View,
) -> Scales:
    """Weight over s plus z, with s = (maximum - minimum) / 15 of a range that holds zero.

    z = round(clamp(-8 - minimum / s, -8, 7)); all in the dtype of the weights.
    compressed-tensors: quantization/utils/helpers.py:calculate_qparams.
    """
    dtype = _float_dtype(weights)
    low, high = find_block_range(weights, view)
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    scales = round_to(divide(round_to(high - low, dtype), float(LAST_CODE)), dtype)
    quotients = torch.where(scales == 0, float(LOWEST), round_to(low / scales, dtype))
    zeros = round_to(LOWEST - quotients, dtype).clamp_(LOWEST, HIGHEST).round_()
    return Scales(
        values=torch.where(scales == 0, torch.finfo(dtype).eps, scales),
        view=view,
        offsets=zeros,
        zeros=zeros.short(),
        lowest=LOWEST - zeros.short(),
        highest=HIGHEST - zeros.short(),
    )


def _float_dtype(weights: Tensor) -> torch.dtype:
    return weights.dtype if torch.finfo(weights.dtype).bits < 32 else torch.float32
