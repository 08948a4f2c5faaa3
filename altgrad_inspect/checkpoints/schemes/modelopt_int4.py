"""4-bit integers as ModelOpt exports them: ``W4A16_AWQ`` and ``W4A8_AWQ``.

P.weight           U8 [N / 2, K], or [E, N / 2, K]: rows 2 i and 2 i + 1 in bits 0 to 3 and 4 to 7,
                   in two's complement
P.weight_scale     [N, K / group]
P.weight_scale_2   F32: of the FP8 that W4A8_AWQ turns the weights into; not part of them
"""

from collections.abc import Mapping
from typing import Final

from torch import Tensor

from altgrad_inspect.checkpoints.schemes.beside import path_of
from altgrad_inspect.checkpoints.schemes.beside_scale import CodesBesideScale, Description, Found
from altgrad_inspect.checkpoints.schemes.blocks import WHOLE_GROUPS, find_blocks
from altgrad_inspect.checkpoints.schemes.decoding import scale_codes
from altgrad_inspect.checkpoints.schemes.modelopt_settings import algorithm_of
from altgrad_inspect.checkpoints.schemes.parts import FLOATS
from altgrad_inspect.checkpoints.schemes.scheme import LoadedLayer
from altgrad_inspect.checkpoints.schemes.unpack import nibbles_low_first
from altgrad_inspect.formats import IntFormat
from altgrad_inspect.refs import LayerRef

_INT4: Final = IntFormat(name="int4", bits=4, low=-8, high=7)


def _describe(found: Found) -> Description | None:
    """Scales have twice as many rows as packed codes."""
    codes, scale = found.codes.shape, found.scale.shape
    if not 2 <= len(codes) == len(scale):
        return None
    shape = (*codes[:-2], codes[-2] * 2, codes[-1])
    fits = scale[-2] == shape[-2] and scale[-1] <= shape[-1] // 2
    if not fits or find_blocks(shape, scale, {WHOLE_GROUPS: True}) is None:
        return None
    return Description(
        fmt=_INT4.name,
        shape=shape,
        recognised_by=algorithm_of(found.context, path_of(found.codes.name)),
        facts={WHOLE_GROUPS: True},
    )


def _decode(layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
    """Return fl32(code * scale)."""
    by_columns = parts["codes"].transpose(-1, -2).contiguous()
    fields = nibbles_low_first(by_columns).transpose(-1, -2)
    return scale_codes(layer, fields.contiguous(), parts["scale"], fmt=_INT4)


MODELOPT_INT4: Final = CodesBesideScale(
    name="modelopt-int4",
    codes={"U8"},
    scales=FLOATS,
    is_packed=False,
    unused={"weight_scale_2": "scale of the FP8 that {} is turned into, not part of its weights"},
    describe=_describe,
    decode=_decode,
)
"""Integers packed along the rows of ``weight`` beside one scale a group."""
