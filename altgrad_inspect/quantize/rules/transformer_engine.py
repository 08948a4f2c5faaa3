"""FP8 in TransformerEngine: current and block scaling, and delayed scaling as far as it goes."""

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from altgrad_inspect.quantize.quantizer import Quantizer, ScaleRule
from altgrad_inspect.quantize.rules.arithmetic import FLOAT32_MAX, divide_by
from altgrad_inspect.quantize.rules.blocks import find_block_amax
from altgrad_inspect.quantize.scales import Scales, View

_EXPONENT_BITS = 0x7F800000


def fit_te(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:
    """fl32(max / amax), 1 for zeros; with ``te-pow2`` the mantissa of that is cut off.

    A quotient that overflows is the largest float32, in blocks the largest number of the dtype of
    the weights. TransformerEngine: common/recipe/recipe_common.cuh:compute_scale_from_amax,
    compute_scale_from_types; common/recipe/current_scaling.cu.
    """
    amax = find_block_amax(weights, view)
    factors = divide_by(quantizer.fmt.max, amax)
    is_tensor = view.block_rows is None
    largest = FLOAT32_MAX if is_tensor else min(FLOAT32_MAX, torch.finfo(weights.dtype).max)
    factors = torch.where(torch.isinf(factors), largest, factors)
    if quantizer.rule is ScaleRule.TE_POW2:
        factors = (factors.view(torch.int32) & _EXPONENT_BITS).view(torch.float32)
    return _scale_by(torch.where(amax == 0, 1.0, factors), view)


def fit_te_delayed(
    weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View, earlier: Scales | None
) -> Scales:
    """fl32(max / amax) of the checkpoint before: what a scale that lags behind comes to.

    The source takes the largest of the last 1024 steps, of which checkpoints tell nothing. The
    first checkpoint has its own amax. An amax of zero keeps the scale.
    TransformerEngine: common/recipe/delayed_scaling.cu:amax_and_scale_update.

    Args:
        weights: As for every rule.
        quantizer: As for every rule.
        view: As for every rule.
        earlier: The scales of the checkpoint before, if there is one.
    """
    amax = find_block_amax(weights, view)
    last_amax = amax if earlier is None or earlier.amax is None else earlier.amax
    factors = divide_by(quantizer.fmt.max, last_amax).clamp_(max=FLOAT32_MAX)
    kept = 1.0 if earlier is None or earlier.multipliers is None else earlier.multipliers
    scales = _scale_by(torch.where(last_amax == 0, kept, factors), view)
    return Scales(values=scales.values, view=view, multipliers=scales.multipliers, amax=amax)


def _scale_by(factors: Float32[Tensor, "block_rows block_cols"], view: View) -> Scales:
    return Scales(values=torch.reciprocal(factors), view=view, multipliers=factors)
