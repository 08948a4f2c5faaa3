"""FP8 codes beside a scale: ``float-quantized`` and ``mxfp8-quantized`` of compressed-tensors.

P.weight         F8_E4M3 [N, K]
P.weight_scale   [1], [N, 1], [N, groups], or blocks; bytes are exponents, as F8_E8M0
"""

from collections.abc import Iterable, Mapping
from typing import Final

from torch import Tensor

from altgrad_inspect.checkpoints.schemes.beside import (
    about_attention,
    about_inputs,
    beside,
    path_of,
)
from altgrad_inspect.checkpoints.schemes.blocks import find_blocks
from altgrad_inspect.checkpoints.schemes.compressed_settings import METHODS, settings_for
from altgrad_inspect.checkpoints.schemes.decoding import scale_codes
from altgrad_inspect.checkpoints.schemes.parts import (
    FLOAT8_FORMATS,
    FLOATS,
    build_layer,
    recognised_by,
)
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LeftOut, LoadedLayer, SchemeContext
from altgrad_inspect.refs import Fact, LayerRef

_SCALE_DTYPES: Final = FLOATS | {"F8_E8M0", "U8"}


class CompressedFloatScheme:
    """FP8 in ``weight`` beside ``weight_scale``."""

    name = "ct-float"

    def find(
        self, tensors: Mapping[str, LayerRef], context: SchemeContext
    ) -> Iterable[Claim | LeftOut]:
        """Find FP8 codes beside ``weight_scale``."""
        num_found = 0
        for codes in list(tensors.values()):
            scale = tensors.get(beside(codes.name, "weight_scale"))
            if codes.dtype not in FLOAT8_FORMATS or scale is None:
                continue
            if scale.dtype not in _SCALE_DTYPES:
                continue
            num_found += 1
            yield Claim(
                layer=build_layer(
                    codes.name,
                    {"codes": codes, "scale": scale},
                    scheme=self.name,
                    fmt=FLOAT8_FORMATS[codes.dtype],
                    shape=codes.shape,
                    recognised_by=recognised_by(context, *METHODS),
                    facts=_find_facts(codes, scale, context),
                )
            )
            zeros = tensors.get(beside(codes.name, "weight_zero_point"))
            if zeros is not None:
                yield LeftOut(tensor=zeros, reason=f"zero point of the FP8 {codes.name}: unused")
            yield from about_inputs(tensors, codes)
        if num_found:
            yield from about_attention(tensors)

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return fl32(value of the code * scale)."""
        return scale_codes(layer, parts["codes"], parts["scale"])


def _find_facts(codes: LayerRef, scale: LayerRef, context: SchemeContext) -> dict[str, Fact]:
    """Return the block sizes of the configuration, if they fit."""
    for settings in settings_for(context, path_of(codes.name)):
        if settings.kind != "int" and find_blocks(codes.shape, scale.shape, settings.facts):
            return settings.facts
    return {}
