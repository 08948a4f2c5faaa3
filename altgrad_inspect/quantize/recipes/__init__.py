"""Named quantizers of training and inference stacks: facts only, no tensors.

How their scales follow from the weights is in ``altgrad_inspect.quantize.rules``.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from altgrad_inspect.quantize.recipes.recipe import Recipe

_ALL: Final[tuple[Recipe, ...]] = ()

RECIPES: Final[Mapping[str, Recipe]] = MappingProxyType({recipe.name: recipe for recipe in _ALL})
"""Every recipe, by name."""
