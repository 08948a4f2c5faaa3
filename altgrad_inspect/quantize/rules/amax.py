"""Scales from the largest magnitude of a block: amax / max, or that as a power of two."""

import torch
from jaxtyping import Float
from torch import Tensor

from altgrad_inspect.quantize.quantizer import Quantizer
from altgrad_inspect.quantize.rules.arithmetic import divide
from altgrad_inspect.quantize.rules.blocks import find_block_amax
from altgrad_inspect.quantize.scales import Scales, View

SMALLEST_SCALE = 2.0**-126
"""Smallest normal float32; a smaller quotient is raised to it."""

UNSCALED_MAX = 2.0**127
"""Formats that reach this far hold every float32 as it is: their amax scale is 1."""


def fit_unscaled(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:
    """The rules ``none`` and ``fixed``: the same scale everywhere, whatever the weights."""
    values = torch.full(view.num_blocks, quantizer.fixed_scale or 1.0, dtype=torch.float32)
    return Scales(values=values.to(weights.device), view=view)


def fit_amax(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:
    """The rule ``amax``: fl32(amax / max), 1 where there is no finite weight but zero."""
    amax = find_block_amax(weights, view)
    if quantizer.fmt.max >= UNSCALED_MAX:
        return Scales(values=torch.ones_like(amax), view=view)
    scales = divide(amax, quantizer.fmt.max).clamp_(min=SMALLEST_SCALE)
    return Scales(values=torch.where(amax == 0, 1.0, scales), view=view)


def fit_pow2(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:
    """The rule ``pow2``: that of ``amax``, rounded up to a power of two unless it is one."""
    values = fit_amax(weights, quantizer, view).values
    mantissa, exponent = torch.frexp(values)
    exponent = torch.where(mantissa == 0.5, exponent - 1, exponent)
    return Scales(values=torch.ldexp(torch.ones_like(values), exponent), view=view)
