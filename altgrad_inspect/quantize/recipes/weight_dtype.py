"""FP8 weights whose scale is computed in the dtype of the weights."""

from typing import Final

from altgrad_inspect.formats import element_format
from altgrad_inspect.quantize.quantizer import CHANNEL, TENSOR, Granularity, ScaleRule
from altgrad_inspect.quantize.recipes.recipe import BLOCK_128, PADS, Recipe, named

_E4M3: Final = element_format("e4m3")
_TORCHAO: Final = "torchao 0.18: quantization/quant_primitives.py:_choose_scale_float8"
_CT: Final = "compressed-tensors 0.20: quantization/utils/helpers.py:calculate_qparams"


def _torchao(name: str, granularity: Granularity) -> Recipe:
    return Recipe(
        quantizer=named(name, _E4M3, granularity, ScaleRule.FLOAT8_TENSOR),
        summary="s = amax / 448 in the dtype of the weights, code of w/s",
        source=f"{_TORCHAO}; Float8Tensor",
    )


def _ct(name: str, granularity: Granularity, *, edges: str = "") -> Recipe:
    return Recipe(
        quantizer=named(name, _E4M3, granularity, ScaleRule.CT_FP8),
        summary="s = amax / 448 in the dtype of the weights, its epsilon for zeros, code of w/s",
        source=_CT,
        edges=edges,
    )


WEIGHT_DTYPE: Final = (
    _torchao("torchao-float8-tensor", TENSOR),
    _torchao("torchao-float8-row", CHANNEL),
    _ct("ct-fp8", TENSOR),
    _ct("ct-fp8-channel", CHANNEL),
    _ct("ct-fp8-block", BLOCK_128, edges=PADS),
)
