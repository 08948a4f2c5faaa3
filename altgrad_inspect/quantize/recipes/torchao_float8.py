"""Float8 training of torchao: one scale a tensor, or one a row that is a power of two."""

from typing import Final

from altgrad_inspect.formats import element_format
from altgrad_inspect.quantize.quantizer import CHANNEL, TENSOR, Granularity, ScaleRule
from altgrad_inspect.quantize.recipes.recipe import Recipe, named

_E4M3: Final = element_format("e4m3")
_SOURCE: Final = "torchao 0.18: float8/float8_utils.py, float8/config.py:from_recipe_name"
_EXACT: Final = "s = fl32(448 / max(amax, 1e-12)) in float64, code of w*s"
_POW2: Final = "s = 2**floor(log2(448 / max(amax, 1e-12))), code of w*s"


def _recipe(name: str, granularity: Granularity, rule: ScaleRule, summary: str) -> Recipe:
    return Recipe(quantizer=named(name, _E4M3, granularity, rule), summary=summary, source=_SOURCE)


TORCHAO_FLOAT8: Final = (
    _recipe("torchao-tensorwise", TENSOR, ScaleRule.TORCHAO, f"{_EXACT}; the default there"),
    _recipe("torchao-tensorwise-pow2", TENSOR, ScaleRule.TORCHAO_POW2, f"{_POW2}; an option there"),
    _recipe("torchao-rowwise", CHANNEL, ScaleRule.TORCHAO_POW2, f"{_POW2}; the default there"),
    _recipe("torchao-rowwise-exact", CHANNEL, ScaleRule.TORCHAO, f"{_EXACT}; an option there"),
)
