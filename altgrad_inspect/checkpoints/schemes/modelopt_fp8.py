"""FP8 codes as ModelOpt exports them: ``FP8``, per channel, in blocks, and ``MXFP8``.

P.weight         F8_E4M3 [N, K], or [E, N, K] for fused experts
P.weight_scale   F32: one number, [N], [N / b, 1, K / b, 1]; or U8 [N, K / 32], exponents

Fused experts called ``Q`` have ``Q_weight_scale``. The names are those of compressed-tensors too,
so only the configuration, or one scale a row in one dimension, tells.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from torch import Tensor

from altgrad_inspect.checkpoints.schemes.beside import (
    WEIGHT,
    about_attention,
    about_inputs,
    beside,
    path_of,
)
from altgrad_inspect.checkpoints.schemes.blocks import BLOCK_COLS, BLOCK_ROWS
from altgrad_inspect.checkpoints.schemes.decoding import scale_codes
from altgrad_inspect.checkpoints.schemes.modelopt_settings import algorithm_of, is_modelopt
from altgrad_inspect.checkpoints.schemes.parts import FLOAT8_FORMATS, FLOATS, build_layer
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LeftOut, LoadedLayer, SchemeContext
from altgrad_inspect.refs import LayerRef

_BLOCK: Final = 128
"""What ModelOpt cuts into, unless the shapes say otherwise."""

_SCALE_DTYPES: Final = FLOATS | {"U8", "F8_E8M0"}


class ModeloptFp8Scheme:
    """FP8 in ``weight`` beside ``weight_scale``, called ``modelopt`` by the configuration."""

    name = "modelopt-fp8"

    def find(
        self, tensors: Mapping[str, LayerRef], context: SchemeContext
    ) -> Iterable[Claim | LeftOut]:
        """Find FP8 codes beside a scale that only ModelOpt writes."""
        num_found = 0
        for codes in list(tensors.values()):
            scale = tensors.get(beside(codes.name, "weight_scale"))
            if codes.dtype not in FLOAT8_FORMATS or scale is None:
                continue
            if scale.dtype not in _SCALE_DTYPES or not _is_ours(codes, scale, context):
                continue
            num_found += 1
            yield Claim(
                layer=build_layer(
                    codes.name,
                    {"codes": codes, "scale": scale},
                    scheme=self.name,
                    fmt=FLOAT8_FORMATS[codes.dtype],
                    shape=codes.shape,
                    recognised_by=algorithm_of(context, path_of(codes.name)),
                    facts={BLOCK_ROWS: _BLOCK, BLOCK_COLS: _BLOCK},
                )
            )
            yield from about_inputs(tensors, codes)
        if num_found:
            yield from about_attention(tensors)

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return fl32(value of the code * scale)."""
        return scale_codes(layer, parts["codes"], parts["scale"])


def _is_ours(codes: LayerRef, scale: LayerRef, context: SchemeContext) -> bool:
    if context.method is not None:
        return is_modelopt(context)
    is_row_of_rows = len(codes.shape) == 2 and scale.shape == codes.shape[:1] != (1,)
    is_fused = codes.name.rpartition(".")[2] != WEIGHT
    return is_row_of_rows or len(scale.shape) == 4 or is_fused
