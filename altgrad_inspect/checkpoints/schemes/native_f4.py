"""Tensors of the dtype F4 beside a scale a block.

P.weight           F4 [N, K], two elements a byte, the first one in bits 0 to 3
P.weight_scale     F8_E8M0 (a power of two), F8_E4M3 or floats, [N, K / block]; also called
                   ``scale``, ``scales``, ``weight_scale_inv``
P.weight_scale_2   F32, one number or one a matrix, which multiplies the scales; or
                   ``weight_global_scale``, which divides them

The format has the dtype but no such names; these are the ones that other schemes use.
"""

from typing import Final

from altgrad_inspect.checkpoints.schemes.beside_scale import CodesBesideScale, Description, Found
from altgrad_inspect.checkpoints.schemes.blocks import find_blocks
from altgrad_inspect.checkpoints.schemes.fp4 import FP4, scale_fp4
from altgrad_inspect.checkpoints.schemes.parts import EXPONENTS, FLOATS

_DTYPE: Final = "F4"


def _describe(found: Found) -> Description | None:
    shape = found.codes.shape
    if shape[-1] % 2 or find_blocks(shape, found.scale.shape) is None:
        return None
    return Description(fmt=FP4, shape=shape, recognised_by=f"dtype {_DTYPE}")


NATIVE_F4: Final = CodesBesideScale(
    name="native-f4",
    codes={_DTYPE},
    scale_names=("weight_scale", "weight_scale_inv", "scale", "scales", "scale_inv"),
    scales=FLOATS | EXPONENTS | {"F8_E4M3"},
    others={"factor": "weight_scale_2", "divisor": "weight_global_scale"},
    other_dtypes=FLOATS,
    has_attention=False,
    describe=_describe,
    decode=scale_fp4,
)
"""Elements of F4 beside their scales."""
