"""4-bit integers as ModelOpt exports them: ``W4A16_AWQ`` and ``W4A8_AWQ``.

P.weight           U8 [N / 2, K], or [E, N / 2, K]: rows 2 i and 2 i + 1 in bits 0 to 3 and 4 to 7,
                   in two's complement
P.weight_scale     [N, K / group]
P.weight_scale_2   F32: of the FP8 that W4A8_AWQ turns the weights into; not part of them
"""

from collections.abc import Iterable, Mapping
from typing import Final

from torch import Tensor

from altgrad_inspect.checkpoints.schemes.beside import (
    about_attention,
    about_inputs,
    beside,
    is_packed,
    path_of,
)
from altgrad_inspect.checkpoints.schemes.blocks import WHOLE_GROUPS, find_blocks
from altgrad_inspect.checkpoints.schemes.decoding import scale_codes
from altgrad_inspect.checkpoints.schemes.modelopt_settings import algorithm_of
from altgrad_inspect.checkpoints.schemes.parts import FLOATS, build_layer
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LeftOut, LoadedLayer, SchemeContext
from altgrad_inspect.checkpoints.schemes.unpack import nibbles_low_first
from altgrad_inspect.formats import IntFormat
from altgrad_inspect.refs import LayerRef

_INT4: Final = IntFormat(name="int4", bits=4, low=-8, high=7)


class ModeloptInt4Scheme:
    """Integers packed along the rows of ``weight`` beside one scale a group."""

    name = "modelopt-int4"

    def find(
        self, tensors: Mapping[str, LayerRef], context: SchemeContext
    ) -> Iterable[Claim | LeftOut]:
        """Find packed codes beside scales of twice as many rows."""
        num_found = 0
        for codes in list(tensors.values()):
            scale = tensors.get(beside(codes.name, "weight_scale"))
            if (
                codes.dtype != "U8"
                or is_packed(codes.name)
                or scale is None
                or scale.dtype not in FLOATS
            ):
                continue
            if not 2 <= len(codes.shape) == len(scale.shape):
                continue
            shape = (*codes.shape[:-2], codes.shape[-2] * 2, codes.shape[-1])
            fits = scale.shape[-2] == shape[-2] and scale.shape[-1] <= shape[-1] // 2
            if not fits or find_blocks(shape, scale.shape, {WHOLE_GROUPS: True}) is None:
                continue
            num_found += 1
            yield Claim(
                layer=build_layer(
                    codes.name,
                    {"codes": codes, "scale": scale},
                    scheme=self.name,
                    fmt=_INT4.name,
                    shape=shape,
                    recognised_by=algorithm_of(context, path_of(codes.name)),
                    facts={WHOLE_GROUPS: True},
                )
            )
            second = tensors.get(beside(codes.name, "weight_scale_2"))
            if second is not None:
                reason = (
                    f"scale of the FP8 that {codes.name} is turned into, not part of its weights"
                )
                yield LeftOut(tensor=second, reason=reason)
            yield from about_inputs(tensors, codes)
        if num_found:
            yield from about_attention(tensors)

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return fl32(code * scale)."""
        by_columns = parts["codes"].transpose(-1, -2).contiguous()
        fields = nibbles_low_first(by_columns).transpose(-1, -2)
        return scale_codes(layer, fields.contiguous(), parts["scale"], fmt=_INT4)
