"""NVFP4: E2M1 codes, an E4M3 scale for every 16 of them, a float32 scale over all.

The scale over all is that of one matrix; every matrix of a stack has its own. It maps the
largest weight to 6 * 448 = 2688. Weights of a block that is all zero have the scale 1 where
that of the source is 0, and so does everything where the matrix is all zero.
"""

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from altgrad_inspect.formats import element_format
from altgrad_inspect.quantize.grids import decode_ordinals, encode_ordinals
from altgrad_inspect.quantize.quantizer import Quantizer
from altgrad_inspect.quantize.rules.arithmetic import (
    FLOAT32_MAX,
    SMALLEST,
    divide,
    divide_by,
    round_to,
)
from altgrad_inspect.quantize.rules.blocks import find_block_amax
from altgrad_inspect.quantize.scales import Scales, View

Blocks = Float32[Tensor, "block_rows block_cols"]

E4M3 = element_format("e4m3")
E4M3_SMALLEST_NORMAL = 2.0**-6
E4M3_SMALLEST = 2.0**-9
CT_SCALE_OF_ZERO = 0.125


def fit_torchao(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:
    """Weights times (1 / g) / s, with s = E4M3(clamp((amax / 6) / g, 2**-6, 448)).

    g = amax of the matrix / 2688. torchao: prototype/mx_formats/nvfp4_tensor.py:nvfp4_quantize.
    """
    amax, whole = _find_amax(weights, view)
    of_matrix = torch.where(whole == 0, 1.0, divide(whole, quantizer.fmt.max * E4M3.max))
    of_block = divide(amax, quantizer.fmt.max) / of_matrix
    of_block = _round_to_e4m3(of_block.clamp_(E4M3_SMALLEST_NORMAL, E4M3.max))
    factors = (torch.reciprocal(of_matrix) / of_block).clamp_(max=FLOAT32_MAX)
    return _build(of_block * of_matrix, view, factors)


def fit_modelopt(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:
    """Weights over s * g, with s = E4M3(clamp(amax / (6 * g), 2**-9, 448)), 1 for zeros.

    g = amax of the matrix / 2688.
    ModelOpt: torch/quantization/qtensor/nvfp4_tensor.py:get_weights_scaling_factor.
    """
    amax, whole = _find_amax(weights, view)
    of_matrix = torch.where(whole == 0, 1.0, divide(whole, quantizer.fmt.max * E4M3.max))
    of_block = amax / (of_matrix * quantizer.fmt.max)
    of_block = torch.where(of_block == 0, 1.0, of_block)
    of_block = _round_to_e4m3(of_block.clamp_(E4M3_SMALLEST, E4M3.max))
    return _build(of_block * of_matrix, view)


def fit_ct(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:
    """Weights over s / g, with s = E4M3(g * (amax / 6)), 0.125 where that is 0.

    g = 2688 * (1 / amax of the matrix). That product and amax / 6 are rounded to the dtype of the
    weights at every step.
    compressed-tensors: quantization/utils/helpers.py:generate_gparam, calculate_qparams.
    """
    amax, whole = _find_amax(weights, view)
    smallest = torch.finfo(weights.dtype).tiny
    largest = quantizer.fmt.max * E4M3.max
    of_matrix = round_to(torch.reciprocal(whole.clamp(min=smallest)), weights.dtype)
    of_matrix = round_to(of_matrix * largest, weights.dtype)
    of_matrix = torch.where(torch.isinf(of_matrix), 1.0, of_matrix)
    of_block = of_matrix * round_to(divide(amax, quantizer.fmt.max), weights.dtype)
    of_block = _round_to_e4m3(of_block.clamp_(max=E4M3.max))
    of_block = torch.where(of_block == 0, CT_SCALE_OF_ZERO, of_block)
    return _build(of_block / of_matrix, view)


def fit_te(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:
    """Weights times 1 / (s * (1 / g)), with s = E4M3(amax * (g * (1 / 6))).

    g = 2688 / amax of the matrix.
    TransformerEngine: pytorch/custom_recipes/quantization_nvfp4.py:NVFP4QuantizerRef.
    """
    amax, whole = _find_amax(weights, view)
    of_matrix = divide_by(quantizer.fmt.max * E4M3.max, whole).clamp_(max=FLOAT32_MAX)
    multiplier = of_matrix * torch.full_like(of_matrix, 1 / quantizer.fmt.max)
    of_block = _round_to_e4m3((amax * multiplier).clamp_(max=E4M3.max))
    scales = of_block * torch.reciprocal(of_matrix)
    return _build(scales, view, torch.reciprocal(scales).clamp_(max=FLOAT32_MAX))


def _find_amax(weights: Float[Tensor, "rows cols"], view: View) -> tuple[Blocks, Blocks]:
    """The largest magnitude of every block, and of the matrix that the block is in."""
    amax = find_block_amax(weights, view)
    if amax.numel() == 0:
        return amax, amax
    by_matrix = amax.reshape(view.num_matrices, -1)
    whole = by_matrix.amax(dim=1, keepdim=True).expand_as(by_matrix)
    return amax, whole.reshape(amax.shape)


def _round_to_e4m3(values: Blocks) -> Blocks:
    return decode_ordinals(encode_ordinals(values, E4M3), E4M3).float()


def _build(scales: Blocks, view: View, factors: Blocks | None = None) -> Scales:
    values = torch.where(scales == 0, 1.0, scales).clamp_(min=SMALLEST)
    return Scales(values=values, view=view, multipliers=factors)
