"""FP8 in blocks of 128 x 128: DeepSeek-V3, DeepGEMM and transformers."""

from typing import Final

from altgrad_inspect.formats import element_format
from altgrad_inspect.quantize.quantizer import ScaleRule, Ties
from altgrad_inspect.quantize.recipes.recipe import (
    BLOCK_128,
    PADS,
    REFUSES,
    Recipe,
    group,
    named,
)

_E4M3: Final = element_format("e4m3")
_E2M1: Final = element_format("e2m1")
_KERNEL: Final = "DeepSeek-V3: inference/kernel.py:act_quant_kernel"
_DEEPGEMM: Final = "DeepGEMM: deep_gemm/utils/math.py"
_TRANSFORMERS: Final = "transformers 5.23: integrations/finegrained_fp8.py:Fp8Quantize"

DEEPSEEK: Final = (
    Recipe(
        quantizer=named("deepseek", _E4M3, BLOCK_128, ScaleRule.DEEPSEEK),
        summary="s = max(amax, 1e-4) / 448, code of w/s",
        source=_KERNEL,
        edges=PADS,
    ),
    Recipe(
        quantizer=named("deepseek-ue8m0", _E4M3, BLOCK_128, ScaleRule.DEEPSEEK_UE8M0),
        summary="s = 2**ceil(log2(max(amax, 1e-4) / 448)), code of w/s",
        source=_KERNEL,
        edges=PADS,
    ),
    Recipe(
        quantizer=named("deepseek-1x128", _E4M3, group(128), ScaleRule.DEEPSEEK),
        summary="s = max(amax, 1e-4) / 448, code of w/s; in 1-D blocks, as activations are",
        source=_KERNEL,
        edges=REFUSES,
    ),
    Recipe(
        quantizer=named("deepgemm", _E4M3, BLOCK_128, ScaleRule.DEEPGEMM),
        summary="s = max(amax, 1e-4) / 448, code of w*(1/s)",
        source=f"{_DEEPGEMM}:per_block_cast_to_fp8",
        edges=PADS,
    ),
    Recipe(
        quantizer=named("deepgemm-ue8m0", _E4M3, BLOCK_128, ScaleRule.DEEPGEMM_UE8M0),
        summary="s = max(amax, 1e-4) / 448 rounded up to a power of two, code of w*(1/s)",
        source=f"{_DEEPGEMM}:per_block_cast_to_fp8, ceil_to_ue8m0",
        edges=PADS,
    ),
    Recipe(
        quantizer=named("deepgemm-fp4", _E2M1, group(32), ScaleRule.DEEPGEMM_UE8M0, ties=Ties.ZERO),
        summary="s = max(amax, 1e-4) / 6 rounded up to a power of two, code of w*(1/s), ties "
        "towards zero",
        source=f"{_DEEPGEMM}:per_token_cast_to_fp4 with gran_k = 32",
        edges=PADS,
    ),
    Recipe(
        quantizer=named("transformers-fp8", _E4M3, BLOCK_128, ScaleRule.TRANSFORMERS),
        summary="m = fl32(448*fl32(1/amax)), 1 for zeros, code of w*m; 1/m is stored",
        source=_TRANSFORMERS,
        edges=REFUSES,
    ),
    Recipe(
        quantizer=named("transformers-fp8-ue8m0", _E4M3, BLOCK_128, ScaleRule.TRANSFORMERS_UE8M0),
        summary="s = 2**ceil(log2(1/m)) with m = fl32(448*fl32(1/amax)), code of w*(1/s)",
        source=_TRANSFORMERS,
        edges=REFUSES,
    ),
)
