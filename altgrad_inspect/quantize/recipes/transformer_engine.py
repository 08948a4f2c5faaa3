"""FP8 of TransformerEngine: current, block and delayed scaling."""

from typing import Final

from altgrad_inspect.formats import element_format
from altgrad_inspect.quantize.quantizer import TENSOR, Granularity, ScaleRule
from altgrad_inspect.quantize.recipes.recipe import BLOCK_128, PADS, Recipe, group, named

_E4M3: Final = element_format("e4m3")
_SOURCE: Final = "TransformerEngine: common/recipe/recipe_common.cuh:compute_scale_from_amax"
_FULL: Final = "s = fl32(448 / amax), code of w*s"
_POW2: Final = "s = 448 / amax with its mantissa cut off, code of w*s"


def _block(name: str, granularity: Granularity, rule: ScaleRule, summary: str) -> Recipe:
    return Recipe(
        quantizer=named(name, _E4M3, granularity, rule),
        summary=summary,
        source=f"{_SOURCE}; common/recipe/__init__.py:Float8BlockScaling",
        edges=PADS,
    )


TRANSFORMER_ENGINE: Final = (
    Recipe(
        quantizer=named("te-current", _E4M3, TENSOR, ScaleRule.TE),
        summary="s = fl32(448 / amax), 1 for zeros, code of w*s",
        source=_SOURCE,
    ),
    Recipe(
        quantizer=named("te-current-pow2", _E4M3, TENSOR, ScaleRule.TE_POW2),
        summary=f"{_POW2}; an option there",
        source=_SOURCE,
    ),
    _block("te-block", BLOCK_128, ScaleRule.TE_POW2, f"{_POW2}; for weights"),
    _block("te-block-exact", BLOCK_128, ScaleRule.TE, f"{_FULL}; power-of-two scales switched off"),
    _block("te-block-1x128", group(128), ScaleRule.TE_POW2, f"{_POW2}; weights in 1-D blocks"),
    Recipe(
        quantizer=named("te-delayed", _E4M3, TENSOR, ScaleRule.TE_DELAYED),
        summary="s = fl32(448 / amax of the checkpoint before), code of w*s; approximate: the "
        "source takes the largest amax of 1024 steps, which no checkpoint holds; the first "
        "checkpoint, and every pair of a sweep, begins with its own amax",
        source="TransformerEngine: common/recipe/delayed_scaling.cu:amax_and_scale_update",
        is_approximate=True,
    ),
)
