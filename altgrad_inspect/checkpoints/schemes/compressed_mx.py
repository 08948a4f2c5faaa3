"""FP4 and FP6 codes whose scales are exponents: ``mxfp4-`` and ``mxfp6-pack-quantized``.

P.weight_packed   U8 [N, K / 2], the first code in bits 0 to 3; or for FP6 [N, 3 K / 4], four codes
                  in three bytes, the first one in the lowest bits
P.weight_scale    U8 or F8_E8M0 [N, K / 32]: 2**(byte - 127)
"""

from collections.abc import Iterable, Mapping
from typing import Final

from torch import Tensor

from altgrad_inspect.checkpoints.schemes.beside import (
    about_attention,
    about_inputs,
    beside,
    is_packed,
)
from altgrad_inspect.checkpoints.schemes.compressed_settings import METHODS
from altgrad_inspect.checkpoints.schemes.decoding import scale_codes
from altgrad_inspect.checkpoints.schemes.fp4 import FP4, scale_fp4
from altgrad_inspect.checkpoints.schemes.parts import build_layer, recognised_by
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LeftOut, LoadedLayer, SchemeContext
from altgrad_inspect.checkpoints.schemes.unpack import sextets_in_bytes
from altgrad_inspect.refs import LayerRef

_BLOCK: Final = 32
_EXPONENTS: Final = frozenset({"U8", "F8_E8M0"})
_FORMATS: Final = {16: FP4, 24: "float6_e2m3fn"}
"""Bytes that a block of 32 codes takes, and what format they then are."""


class CompressedMxScheme:
    """FP4 or FP6 in ``weight_packed`` beside exponents."""

    name = "ct-mx"

    def find(
        self, tensors: Mapping[str, LayerRef], context: SchemeContext
    ) -> Iterable[Claim | LeftOut]:
        """Find packed codes of which 32 share an exponent."""
        num_found = 0
        for codes in list(tensors.values()):
            scale = tensors.get(beside(codes.name, "weight_scale"))
            if not is_packed(codes.name) or codes.dtype != "U8":
                continue
            if scale is None or scale.dtype not in _EXPONENTS:
                continue
            if len(codes.shape) < 2 or codes.shape[:-1] != scale.shape[:-1] or not scale.shape[-1]:
                continue
            block_bytes, rest = divmod(codes.shape[-1], scale.shape[-1])
            if rest or block_bytes not in _FORMATS:
                continue
            num_found += 1
            yield Claim(
                layer=build_layer(
                    beside(codes.name, "weight"),
                    {"codes": codes, "scale": scale},
                    scheme=self.name,
                    fmt=_FORMATS[block_bytes],
                    shape=(*codes.shape[:-1], scale.shape[-1] * _BLOCK),
                    recognised_by=recognised_by(context, *METHODS),
                )
            )
            yield from about_inputs(tensors, codes)
        if num_found:
            yield from about_attention(tensors)

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return the value of the code times a power of two, which is exact."""
        if layer.dtype == FP4:
            return scale_fp4(layer, parts)
        return scale_codes(layer, sextets_in_bytes(parts["codes"]), parts["scale"])
