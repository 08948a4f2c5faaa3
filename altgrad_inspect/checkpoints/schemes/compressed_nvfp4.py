"""FP4 codes with two scales: ``nvfp4-pack-quantized`` of compressed-tensors.

P.weight_packed         U8 [N, K / 2], the first code in bits 0 to 3
P.weight_scale          F8_E4M3 [N, K / 16]
P.weight_global_scale   F32 [1]; it *divides* the other scale
"""

from collections.abc import Iterable, Mapping

from torch import Tensor

from altgrad_inspect.checkpoints.schemes.beside import (
    about_attention,
    about_inputs,
    beside,
    is_packed,
)
from altgrad_inspect.checkpoints.schemes.compressed_settings import METHODS
from altgrad_inspect.checkpoints.schemes.fp4 import FP4, fits_fp4, scale_fp4
from altgrad_inspect.checkpoints.schemes.parts import FLOATS, build_layer, recognised_by
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LeftOut, LoadedLayer, SchemeContext
from altgrad_inspect.refs import LayerRef


class CompressedNvfp4Scheme:
    """FP4 in ``weight_packed`` beside ``weight_global_scale``."""

    name = "ct-nvfp4"

    def find(
        self, tensors: Mapping[str, LayerRef], context: SchemeContext
    ) -> Iterable[Claim | LeftOut]:
        """Find packed codes beside an FP8 scale and a global one."""
        num_found = 0
        for codes in list(tensors.values()):
            scale = tensors.get(beside(codes.name, "weight_scale"))
            whole = tensors.get(beside(codes.name, "weight_global_scale"))
            if not is_packed(codes.name) or codes.dtype != "U8":
                continue
            if scale is None or whole is None:
                continue
            has_fp8 = scale.dtype in {"F8_E4M3", *FLOATS} and whole.dtype in FLOATS
            if not has_fp8 or not fits_fp4(codes.shape, scale.shape):
                continue
            num_found += 1
            yield Claim(
                layer=build_layer(
                    beside(codes.name, "weight"),
                    {"codes": codes, "scale": scale, "divisor": whole},
                    scheme=self.name,
                    fmt=FP4,
                    shape=(*codes.shape[:-1], codes.shape[-1] * 2),
                    recognised_by=recognised_by(context, *METHODS),
                )
            )
            yield from about_inputs(tensors, codes)
        if num_found:
            yield from about_attention(tensors)

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return fl32(value of the code * fl32(scale / global scale))."""
        return scale_fp4(layer, parts)
