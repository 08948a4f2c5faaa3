"""FP4 and FP6 codes whose scales are exponents: ``mxfp4-`` and ``mxfp6-pack-quantized``.

P.weight_packed   U8 [N, K / 2], the first code in bits 0 to 3; or for FP6 [N, 3 K / 4], four codes
                  in three bytes, the first one in the lowest bits
P.weight_scale    U8 or F8_E8M0 [N, K / 32]: 2**(byte - 127)
"""

from collections.abc import Mapping
from typing import Final

from torch import Tensor

from altgrad_inspect.checkpoints.schemes.beside_scale import CodesBesideScale, Description, Found
from altgrad_inspect.checkpoints.schemes.compressed_settings import METHODS
from altgrad_inspect.checkpoints.schemes.decoding import scale_codes
from altgrad_inspect.checkpoints.schemes.fp4 import FP4, scale_fp4
from altgrad_inspect.checkpoints.schemes.parts import EXPONENTS, recognised_by
from altgrad_inspect.checkpoints.schemes.scheme import LoadedLayer
from altgrad_inspect.checkpoints.schemes.unpack import sextets_in_bytes
from altgrad_inspect.refs import LayerRef

_BLOCK: Final = 32
_FORMATS: Final = {16: FP4, 24: "float6_e2m3fn"}
"""Bytes that a block of 32 codes takes, and what format they then are."""


def _describe(found: Found) -> Description | None:
    """32 codes share an exponent."""
    codes, scale = found.codes.shape, found.scale.shape
    if len(codes) < 2 or codes[:-1] != scale[:-1] or not scale[-1]:
        return None
    block_bytes, rest = divmod(codes[-1], scale[-1])
    if rest or block_bytes not in _FORMATS:
        return None
    return Description(
        fmt=_FORMATS[block_bytes],
        shape=(*codes[:-1], scale[-1] * _BLOCK),
        recognised_by=recognised_by(found.context, *METHODS),
    )


def _decode(layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
    """Return the value of the code times a power of two, which is exact."""
    if layer.dtype == FP4:
        return scale_fp4(layer, parts)
    return scale_codes(layer, sextets_in_bytes(parts["codes"]), parts["scale"])


COMPRESSED_MX: Final = CodesBesideScale(
    name="ct-mx",
    codes={"U8"},
    scales=EXPONENTS,
    is_packed=True,
    describe=_describe,
    decode=_decode,
)
"""FP4 or FP6 in ``weight_packed`` beside exponents."""
