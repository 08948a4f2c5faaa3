"""Fewer than 16 even steps: ternary weights and NF4."""

from typing import Final

from altgrad_inspect.formats import element_format
from altgrad_inspect.quantize.quantizer import TENSOR, Granularity, ScaleRule
from altgrad_inspect.quantize.recipes.recipe import Recipe, named

_FLAT_64: Final = Granularity(kind="flat", block_rows=1, block_cols=64)

TERNARY_AND_NF4: Final = (
    Recipe(
        quantizer=named("bitnet", element_format("ternary"), TENSOR, ScaleRule.BITNET),
        summary="s = 1 / max(mean of the magnitudes, 1e-5), code of w*s, -1, 0 or 1; the source "
        "sums in float32, so its mean may differ in the last place",
        source="Ma et al. 2024, arXiv:2402.17764; transformers 5.23: integrations/bitnet.py",
    ),
    Recipe(
        quantizer=named("nf4", element_format("nf4"), _FLAT_64, ScaleRule.NF4),
        summary="s = amax of 64 weights as stored, nearest value to w*(1/s), ties to the lower one",
        source="Dettmers et al. 2023, arXiv:2305.14314; bitsandbytes 0.50: functional.py, "
        "csrc/kernels.cu",
        edges="a block of its own, also in the source",
    ),
)
