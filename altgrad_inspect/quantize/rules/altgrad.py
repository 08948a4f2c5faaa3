"""The scale of altgrad, with its margin of one percent."""

from jaxtyping import Float
from torch import Tensor

from altgrad_inspect.quantize.quantizer import Quantizer
from altgrad_inspect.quantize.rules.blocks import find_block_amax
from altgrad_inspect.quantize.scales import Scales, View

MARGIN = 1.01
SMALLEST_SCALE = 1e-10


def fit_altgrad(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:
    """max(1.01 * amax / max, 1e-10), computed in float64.

    altgrad: altgrad/quantization/scaling.py:compute_scale.
    """
    scales = find_block_amax(weights, view).double() * MARGIN / quantizer.fmt.max
    return Scales(values=scales.clamp_(min=SMALLEST_SCALE).float(), view=view)
