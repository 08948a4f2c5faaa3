"""How scales follow from the weights they cover: one file a family of rules.

A rule is a function of the weights, given as the 2-D view of the layer, of the quantizer and
of the view. It reads the weights in tiles, so that no copy of the layer is made.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from jaxtyping import Float
from torch import Tensor

from altgrad_inspect.quantize.quantizer import Quantizer, ScaleRule
from altgrad_inspect.quantize.rules.amax import fit_amax, fit_pow2, fit_unscaled
from altgrad_inspect.quantize.scales import Scales, View

Rule = Callable[[Tensor, Quantizer, View], Scales]

RULES: Final[Mapping[ScaleRule, Rule]] = MappingProxyType(
    {
        ScaleRule.AMAX: fit_amax,
        ScaleRule.POW2: fit_pow2,
        ScaleRule.NONE: fit_unscaled,
        ScaleRule.FIXED: fit_unscaled,
    }
)
"""The function of every rule."""


def fit_scales(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:
    """Choose the scales of ``weights``, given as the 2-D ``view`` of the layer.

    Args:
        weights: As stored, or cast as the quantizer asks for.
        quantizer: Names the rule.
        view: What shares a scale.
    """
    return RULES[quantizer.rule](weights, quantizer, view)
