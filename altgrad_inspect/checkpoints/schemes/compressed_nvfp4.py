"""FP4 codes with two scales: ``nvfp4-pack-quantized`` of compressed-tensors.

P.weight_packed         U8 [N, K / 2], the first code in bits 0 to 3
P.weight_scale          F8_E4M3 [N, K / 16]
P.weight_global_scale   F32 [1]; it *divides* the other scale
"""

from typing import Final

from altgrad_inspect.checkpoints.schemes.beside_scale import CodesBesideScale, Description, Found
from altgrad_inspect.checkpoints.schemes.compressed_settings import METHODS
from altgrad_inspect.checkpoints.schemes.fp4 import FP4, NV_SCALES, fits_fp4, scale_fp4
from altgrad_inspect.checkpoints.schemes.parts import FLOATS, recognised_by


def _describe(found: Found) -> Description | None:
    codes = found.codes.shape
    if "divisor" not in found.others or not fits_fp4(codes, found.scale.shape):
        return None
    return Description(
        fmt=FP4,
        shape=(*codes[:-1], codes[-1] * 2),
        recognised_by=recognised_by(found.context, *METHODS),
    )


COMPRESSED_NVFP4: Final = CodesBesideScale(
    name="ct-nvfp4",
    codes={"U8"},
    scales=NV_SCALES,
    is_packed=True,
    others={"divisor": "weight_global_scale"},
    other_dtypes=FLOATS,
    describe=_describe,
    decode=scale_fp4,
)
"""FP4 in ``weight_packed`` beside ``weight_global_scale``."""
