"""How scales follow from the weights they cover: one file a family of rules.

A rule is a function of the weights, given as the 2-D view of the layer, of the quantizer and
of the view. It reads the weights in tiles, so that no copy of the layer is made. A scale is
made from the finite weights, whatever its source does with the others: one NaN then costs one
weight and not its block. It is above zero: where the source would divide by zero it is 1.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from jaxtyping import Float
from torch import Tensor

from altgrad_inspect.quantize.quantizer import Quantizer, ScaleRule
from altgrad_inspect.quantize.rules import int4, nvfp4
from altgrad_inspect.quantize.rules.altgrad import fit_altgrad
from altgrad_inspect.quantize.rules.amax import fit_amax, fit_pow2, fit_unscaled
from altgrad_inspect.quantize.rules.bitnet import fit_bitnet
from altgrad_inspect.quantize.rules.deepseek import fit_deepgemm, fit_deepseek
from altgrad_inspect.quantize.rules.mx import fit_mx
from altgrad_inspect.quantize.rules.nf4 import fit_nf4
from altgrad_inspect.quantize.rules.torchao_float8 import fit_torchao
from altgrad_inspect.quantize.rules.transformer_engine import fit_te, fit_te_delayed
from altgrad_inspect.quantize.rules.transformers_fp8 import fit_transformers
from altgrad_inspect.quantize.rules.weight_dtype import fit_in_weight_dtype
from altgrad_inspect.quantize.scales import Scales, View

Rule = Callable[[Tensor, Quantizer, View], Scales]
RuleThatLooksBack = Callable[[Tensor, Quantizer, View, Scales | None], Scales]

RULES: Final[Mapping[ScaleRule, Rule]] = MappingProxyType(
    {
        ScaleRule.AMAX: fit_amax,
        ScaleRule.POW2: fit_pow2,
        ScaleRule.NONE: fit_unscaled,
        ScaleRule.FIXED: fit_unscaled,
        ScaleRule.TORCHAO: fit_torchao,
        ScaleRule.TORCHAO_POW2: fit_torchao,
        ScaleRule.TE: fit_te,
        ScaleRule.TE_POW2: fit_te,
        ScaleRule.DEEPSEEK: fit_deepseek,
        ScaleRule.DEEPSEEK_UE8M0: fit_deepseek,
        ScaleRule.DEEPGEMM: fit_deepgemm,
        ScaleRule.DEEPGEMM_UE8M0: fit_deepgemm,
        ScaleRule.TRANSFORMERS: fit_transformers,
        ScaleRule.TRANSFORMERS_UE8M0: fit_transformers,
        ScaleRule.FLOAT8_TENSOR: fit_in_weight_dtype,
        ScaleRule.CT_FP8: fit_in_weight_dtype,
        **{rule: fit_mx for rule in ScaleRule if rule.startswith("mx-")},
        ScaleRule.NVFP4_TORCHAO: nvfp4.fit_torchao,
        ScaleRule.NVFP4_MODELOPT: nvfp4.fit_modelopt,
        ScaleRule.NVFP4_CT: nvfp4.fit_ct,
        ScaleRule.NVFP4_TE: nvfp4.fit_te,
        ScaleRule.INT4_TORCHAO: int4.fit_torchao,
        ScaleRule.INT4_BF16: int4.fit_bf16,
        ScaleRule.INT4_CT: int4.fit_ct,
        ScaleRule.INT4_CT_ASYM: int4.fit_ct_asymmetric,
        ScaleRule.BITNET: fit_bitnet,
        ScaleRule.NF4: fit_nf4,
        ScaleRule.ALTGRAD: fit_altgrad,
    }
)
"""The function of every rule that looks at one checkpoint."""

LOOKING_BACK: Final[Mapping[ScaleRule, RuleThatLooksBack]] = MappingProxyType(
    {ScaleRule.TE_DELAYED: fit_te_delayed}
)
"""Those that look at the scales of the checkpoint before as well."""


def fit_scales(
    weights: Float[Tensor, "rows cols"],
    quantizer: Quantizer,
    view: View,
    *,
    earlier: Scales | None = None,
) -> Scales:
    """Choose the scales of ``weights``, given as the 2-D ``view`` of the layer.

    Args:
        weights: As stored, or cast as the quantizer asks for.
        quantizer: Names the rule.
        view: What shares a scale.
        earlier: The scales of the checkpoint before, for rules that look back.
    """
    if quantizer.rule in LOOKING_BACK:
        return LOOKING_BACK[quantizer.rule](weights, quantizer, view, earlier)
    return RULES[quantizer.rule](weights, quantizer, view)
