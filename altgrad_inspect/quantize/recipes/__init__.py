"""Named quantizers of training and inference stacks: facts only, no tensors.

How their scales follow from the weights is in ``altgrad_inspect.quantize.rules``.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from altgrad_inspect.quantize.recipes.altgrad import ALTGRAD
from altgrad_inspect.quantize.recipes.deepseek import DEEPSEEK
from altgrad_inspect.quantize.recipes.int4 import INT4
from altgrad_inspect.quantize.recipes.mx import MX
from altgrad_inspect.quantize.recipes.nvfp4 import NVFP4
from altgrad_inspect.quantize.recipes.recipe import Recipe
from altgrad_inspect.quantize.recipes.ternary_and_nf4 import TERNARY_AND_NF4
from altgrad_inspect.quantize.recipes.torchao_float8 import TORCHAO_FLOAT8
from altgrad_inspect.quantize.recipes.transformer_engine import TRANSFORMER_ENGINE
from altgrad_inspect.quantize.recipes.weight_dtype import WEIGHT_DTYPE

_ALL: Final[tuple[Recipe, ...]] = (
    *(*TORCHAO_FLOAT8, *TRANSFORMER_ENGINE, *DEEPSEEK, *WEIGHT_DTYPE),
    *(*MX, *NVFP4, *INT4, *TERNARY_AND_NF4, *ALTGRAD),
)

RECIPES: Final[Mapping[str, Recipe]] = MappingProxyType({recipe.name: recipe for recipe in _ALL})
"""Every recipe, by name."""
