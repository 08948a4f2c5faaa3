"""8-bit integers as ModelOpt exports them: ``W8A16`` and ``W8A8_SQ_PER_CHANNEL``.

P.weight         I8 [N, K]
P.weight_scale   F32 [N], or one number
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
from altgrad_inspect.checkpoints.schemes.modelopt_settings import algorithm_of, is_modelopt
from altgrad_inspect.checkpoints.schemes.parts import FLOATS, build_layer
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LeftOut, LoadedLayer, SchemeContext
from altgrad_inspect.refs import LayerRef

_FORMAT: Final = "int8"


class ModeloptInt8Scheme:
    """Integers in ``weight`` beside one scale a row, in one dimension."""

    name = "modelopt-int8"

    def find(
        self, tensors: Mapping[str, LayerRef], context: SchemeContext
    ) -> Iterable[Claim | LeftOut]:
        """Find codes in I8 beside a float scale of one dimension, or of any if so configured."""
        num_found = 0
        for codes in list(tensors.values()):
            scale = tensors.get(beside(codes.name, "weight_scale"))
            if codes.dtype != "I8" or scale is None or scale.dtype not in FLOATS:
                continue
            is_row_of_rows = len(codes.shape) == 2 and scale.shape == codes.shape[:1] != (1,)
            is_ours = is_modelopt(context) or (context.method is None and is_row_of_rows)
            if not is_ours or find_blocks(codes.shape, scale.shape) is None:
                continue
            num_found += 1
            yield Claim(
                layer=build_layer(
                    codes.name,
                    {"codes": codes, "scale": scale},
                    scheme=self.name,
                    fmt=_FORMAT,
                    shape=codes.shape,
                    recognised_by=algorithm_of(context, path_of(codes.name)),
                )
            )
            yield from about_inputs(tensors, codes)
        if num_found:
            yield from about_attention(tensors)

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return fl32(code * scale)."""
        return decode_integers(layer, parts)
