"""4-bit integers in groups along the input."""

from typing import Final

from altgrad_inspect.formats import IntFormat
from altgrad_inspect.quantize.quantizer import ScaleRule
from altgrad_inspect.quantize.recipes.recipe import REFUSES, Recipe, group, named

_FULL: Final = IntFormat(name="int4", bits=4, low=-8, high=7, source="-8 to 7")
_WITH_ZERO: Final = IntFormat(
    name="int4", bits=4, low=-15, high=15, source="a code of 4 bits minus its zero point"
)
_CT: Final = "compressed-tensors 0.20: quantization/utils/helpers.py:calculate_qparams"

INT4: Final = (
    Recipe(
        quantizer=named("int4-torchao", _FULL, group(32), ScaleRule.INT4_TORCHAO),
        summary="s = amax / 7.5 in the dtype of the weights, code of w*(1/s), -8 to 7",
        source="torchao 0.18: quantization/utils.py:get_group_qparams_symmetric; "
        "qat/fake_quantizer.py:IntxFakeQuantizer",
        edges=REFUSES,
    ),
    Recipe(
        quantizer=named("int4-bf16", _WITH_ZERO, group(128), ScaleRule.INT4_BF16),
        summary="s = max(max - min, 1e-6) / 15, code of (w - min)/s, 0 to 15; zero is no code",
        source="torchao 0.18: quantization/qat/fake_quantizer.py:Int4WeightFakeQuantizer, bfloat16",
        edges=REFUSES,
    ),
    Recipe(
        quantizer=named("int4-ct", _FULL, group(128), ScaleRule.INT4_CT),
        summary="s = amax / 7.5 in the dtype of the weights, its epsilon for zeros, code of w/s, "
        "-8 to 7",
        source=_CT,
        edges=REFUSES,
    ),
    Recipe(
        quantizer=named("int4-ct-asym", _WITH_ZERO, group(128), ScaleRule.INT4_CT_ASYM),
        summary="s = (max - min) / 15 of a range with 0, z = round(clamp(-8 - min/s, -8, 7)), code "
        "of w/s + z, -8 to 7; all in the dtype of the weights",
        source=_CT,
        edges=REFUSES,
    ),
)
