"""FP8 codes with one float32 scale a row: fbgemm through Hugging Face.

P.weight         F8_E4M3 [N, K]
P.weight_scale   F32 [N, 1]

Fused experts called ``Q`` are [E, in, out] and have ``Q_scale``, [E, 1, out] or [E, out, 1].
The names are those of other schemes too, so only the configuration tells.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from torch import Tensor

from altgrad_inspect.checkpoints.schemes.beside import about_inputs, first_beside
from altgrad_inspect.checkpoints.schemes.decoding import scale_codes
from altgrad_inspect.checkpoints.schemes.parts import (
    FLOAT8_FORMATS,
    FLOATS,
    build_layer,
    recognised_by,
)
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LeftOut, LoadedLayer, SchemeContext
from altgrad_inspect.refs import LayerRef

_METHOD: Final = "fbgemm_fp8"
_SCALES: Final = ("weight_scale", "scale")


class FbgemmFp8Scheme:
    """FP8 weights beside one scale a row, called ``fbgemm_fp8`` by the configuration."""

    name = "fbgemm-fp8"

    def find(
        self, tensors: Mapping[str, LayerRef], context: SchemeContext
    ) -> Iterable[Claim | LeftOut]:
        """Find codes beside their scale, where the configuration says so."""
        if context.method != _METHOD:
            return
        for codes in list(tensors.values()):
            scale = first_beside(tensors, codes.name, _SCALES)
            if codes.dtype not in FLOAT8_FORMATS or scale is None or scale.dtype not in FLOATS:
                continue
            yield Claim(
                layer=build_layer(
                    codes.name,
                    {"codes": codes, "scale": scale},
                    scheme=self.name,
                    fmt=FLOAT8_FORMATS[codes.dtype],
                    shape=codes.shape,
                    recognised_by=recognised_by(context, _METHOD),
                )
            )
            yield from about_inputs(tensors, codes)

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return fl32(value of the code * scale)."""
        scale = parts["scale"]
        if len(layer.shape) == scale.dim() == 3 and tuple(scale.shape[1:]) == (layer.shape[2], 1):
            scale = scale.transpose(1, 2)
        return scale_codes(layer, parts["codes"], scale)
