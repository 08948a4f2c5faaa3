"""Integers of up to 8 bits, one to a byte: ``int-quantized`` of compressed-tensors.

P.weight              I8 [N, K]
P.weight_scale        [N, 1], [N, groups], blocks, or [1]
P.weight_zero_point   I8, like the scales; absent where it is zero
"""

from collections.abc import Iterable, Mapping
from typing import Final

from torch import Tensor

from altgrad_inspect.checkpoints.schemes.affine import decode_integers
from altgrad_inspect.checkpoints.schemes.beside import (
    about_attention,
    about_inputs,
    beside,
    path_of,
)
from altgrad_inspect.checkpoints.schemes.blocks import find_blocks
from altgrad_inspect.checkpoints.schemes.compressed_settings import METHODS, settings_for
from altgrad_inspect.checkpoints.schemes.parts import (
    FLOATS,
    build_layer,
    recognised_by,
)
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LeftOut, LoadedLayer, SchemeContext
from altgrad_inspect.refs import Fact, LayerRef

_WHOLE_BYTE: Final = 8
_BITS: Final = "bits"


class CompressedIntScheme:
    """Integers in ``weight`` beside ``weight_scale``."""

    name = "ct-int"

    def find(
        self, tensors: Mapping[str, LayerRef], context: SchemeContext
    ) -> Iterable[Claim | LeftOut]:
        """Find codes in I8 beside a float scale that fits them."""
        num_found = 0
        for codes in list(tensors.values()):
            scale = tensors.get(beside(codes.name, "weight_scale"))
            if codes.dtype != "I8" or scale is None or scale.dtype not in FLOATS:
                continue
            facts = _find_facts(codes, scale, context)
            if facts is None:
                continue
            num_found += 1
            zeros = tensors.get(beside(codes.name, "weight_zero_point"))
            parts = {"codes": codes, "scale": scale}
            yield Claim(
                layer=build_layer(
                    codes.name,
                    parts if zeros is None else {**parts, "zeros": zeros},
                    scheme=self.name,
                    fmt=f"int{facts[_BITS]}",
                    shape=codes.shape,
                    recognised_by=recognised_by(context, *METHODS),
                    facts=facts,
                )
            )
            yield from about_inputs(tensors, codes)
        if num_found:
            yield from about_attention(tensors)

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return fl32((code - zero point) * scale)."""
        return decode_integers(layer, parts)


def _find_facts(codes: LayerRef, scale: LayerRef, context: SchemeContext) -> dict[str, Fact] | None:
    """Return bits and block sizes, of the configuration as far as they fit; None if none fit."""
    for settings in settings_for(context, path_of(codes.name)):
        if settings.kind != "float" and settings.bits and settings.bits <= _WHOLE_BYTE:
            facts: dict[str, Fact] = {_BITS: settings.bits, **settings.facts}
            if find_blocks(codes.shape, scale.shape, facts):
                return facts
    return {_BITS: _WHOLE_BYTE} if find_blocks(codes.shape, scale.shape) else None
