"""NVFP4 in the conventions of four projects: E2M1, an E4M3 scale a block, one over the matrix."""

from typing import Final

from altgrad_inspect.formats import element_format
from altgrad_inspect.quantize.quantizer import Granularity, ScaleRule
from altgrad_inspect.quantize.recipes.recipe import PADS, REFUSES, Recipe, group, named

_E2M1: Final = element_format("e2m1")
_BLOCK_16: Final = Granularity(kind="block", block_rows=16, block_cols=16)
_TE: Final = "TransformerEngine: pytorch/custom_recipes/quantization_nvfp4.py:NVFP4QuantizerRef"

NVFP4: Final = (
    Recipe(
        quantizer=named("nvfp4-torchao", _E2M1, group(16), ScaleRule.NVFP4_TORCHAO),
        summary="g = amax of the matrix / 2688, s = E4M3(clamp((amax/6)/g, 2**-6, 448)), code of "
        "w*((1/g)/s)",
        source="torchao 0.18: prototype/mx_formats/nvfp4_tensor.py:nvfp4_quantize",
        edges=REFUSES,
    ),
    Recipe(
        quantizer=named("nvfp4-modelopt", _E2M1, group(16), ScaleRule.NVFP4_MODELOPT),
        summary="g = amax of the matrix / 2688, s = E4M3(clamp(amax/(6g), 2**-9, 448)), 1 for "
        "zeros, code of w/(s*g)",
        source="ModelOpt 0.47: torch/quantization/qtensor/nvfp4_tensor.py",
        edges=PADS,
    ),
    Recipe(
        quantizer=named("nvfp4-ct", _E2M1, group(16), ScaleRule.NVFP4_CT),
        summary="g = 2688*(1/amax of the matrix), s = E4M3(g*(amax/6)), 0.125 for zeros, code of "
        "w/(s/g); g and amax/6 in the dtype of the weights",
        source="compressed-tensors 0.20: quantization/utils/helpers.py:generate_gparam, "
        "calculate_qparams",
        edges=REFUSES,
    ),
    Recipe(
        quantizer=named("nvfp4-te", _E2M1, _BLOCK_16, ScaleRule.NVFP4_TE),
        summary="g = 2688 / amax of the matrix, s = E4M3(amax*(g*(1/6))), code of w*(1/(s*(1/g))); "
        "blocks of 16 x 16, the default for weights in training",
        source=_TE,
        edges=PADS,
    ),
    Recipe(
        quantizer=named("nvfp4-te-1x16", _E2M1, group(16), ScaleRule.NVFP4_TE),
        summary="as nvfp4-te, in blocks of 16 along the input",
        source=_TE,
        edges=PADS,
    ),
)
