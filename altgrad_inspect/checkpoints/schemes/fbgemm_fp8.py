"""FP8 codes with one float32 scale a row: fbgemm through Hugging Face.

P.weight         F8_E4M3 [N, K]
P.weight_scale   F32 [N, 1]

Fused experts called ``Q`` are [E, in, out] and have ``Q_scale``, [E, 1, out] or [E, out, 1].
The names are those of other schemes too, so only the configuration tells.
"""

from collections.abc import Mapping
from typing import Final

from torch import Tensor

from altgrad_inspect.checkpoints.schemes.beside_scale import CodesBesideScale, Description, Found
from altgrad_inspect.checkpoints.schemes.decoding import scale_codes
from altgrad_inspect.checkpoints.schemes.parts import FLOAT8_FORMATS, FLOATS, recognised_by
from altgrad_inspect.checkpoints.schemes.scheme import LoadedLayer
from altgrad_inspect.refs import LayerRef

_METHOD: Final = "fbgemm_fp8"


def _describe(found: Found) -> Description | None:
    if found.context.method != _METHOD:
        return None
    return Description(
        fmt=FLOAT8_FORMATS[found.codes.dtype],
        shape=found.codes.shape,
        recognised_by=recognised_by(found.context, _METHOD),
    )


def _decode(layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
    """Return fl32(value of the code * scale)."""
    scale = parts["scale"]
    if len(layer.shape) == scale.dim() == 3 and tuple(scale.shape[1:]) == (layer.shape[2], 1):
        scale = scale.transpose(1, 2)
    return scale_codes(layer, parts["codes"], scale)


FBGEMM_FP8: Final = CodesBesideScale(
    name="fbgemm-fp8",
    codes=FLOAT8_FORMATS.keys(),
    scale_names=("weight_scale", "scale"),
    scales=FLOATS,
    has_attention=False,
    describe=_describe,
    decode=_decode,
)
"""FP8 weights beside one scale a row, called ``fbgemm_fp8`` by the configuration."""
