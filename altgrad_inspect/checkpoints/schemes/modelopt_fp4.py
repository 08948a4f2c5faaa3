"""FP4 codes as ModelOpt exports them: ``NVFP4`` and its kin, and ``MXFP4``.

P.weight           U8 [N, K / 2], the first code in bits 0 to 3; or [E, N, K / 2]
P.weight_scale     F8_E4M3 [N, K / 16]; for MXFP4 U8 [N, K / 32], exponents
P.weight_scale_2   F32, one number or one an expert; it *multiplies*. Absent in MXFP4

Fused experts called ``Q`` have ``Q_weight_scale``; where a model keeps them as [E, K, N], codes and
scales are stored as [E, K / 2, N] and [E, K / 16, N], and the layer is [E, N, K] here.
"""

from collections.abc import Mapping
from typing import Final

from torch import Tensor

from altgrad_inspect.checkpoints.schemes.beside import path_of
from altgrad_inspect.checkpoints.schemes.beside_scale import CodesBesideScale, Description, Found
from altgrad_inspect.checkpoints.schemes.fp4 import FP4, NV_SCALES, fits_fp4, scale_fp4
from altgrad_inspect.checkpoints.schemes.modelopt_settings import algorithm_of
from altgrad_inspect.checkpoints.schemes.parts import EXPONENTS, FLOATS
from altgrad_inspect.checkpoints.schemes.scheme import LoadedLayer
from altgrad_inspect.refs import LayerRef

_IS_TRANSPOSED: Final = "transposed"
_NV_BLOCK: Final = (16, 32)
_MX_BLOCK: Final = (32,)


def _describe(found: Found) -> Description | None:
    shape = _find_shape(found)
    if shape is None:
        return None
    return Description(
        fmt=FP4,
        shape=shape[0],
        recognised_by=algorithm_of(found.context, path_of(found.codes.name)),
        facts={_IS_TRANSPOSED: shape[1]},
    )


def _find_shape(found: Found) -> tuple[tuple[int, ...], bool] | None:
    """Return the layer's shape and whether it is stored transposed; None if it is no FP4."""
    codes, scale, whole = found.codes.shape, found.scale.shape, found.others.get("factor")
    is_nv = whole is not None and whole.dtype in FLOATS and found.scale.dtype in NV_SCALES
    is_mx = whole is None and found.scale.dtype in EXPONENTS
    if not (is_nv or is_mx):
        return None
    sizes = _NV_BLOCK if is_nv else _MX_BLOCK
    if fits_fp4(codes, scale, sizes=sizes):
        return (*codes[:-1], codes[-1] * 2), False
    if len(codes) == len(scale) == 3:
        count, half, rows = codes
        if fits_fp4((count, rows, half), (scale[0], *scale[:0:-1]), sizes=sizes):
            return (count, rows, half * 2), True
    return None


def _decode(layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
    """Return fl32(value of the code * fl32(scale * second scale))."""
    if layer.facts[_IS_TRANSPOSED]:
        turned = {role: parts[role].transpose(-1, -2) for role in ("codes", "scale")}
        parts = {**parts, **{role: part.contiguous() for role, part in turned.items()}}
    return scale_fp4(layer, parts)


MODELOPT_FP4: Final = CodesBesideScale(
    name="modelopt-fp4",
    codes={"U8"},
    scales=NV_SCALES | EXPONENTS,
    is_packed=False,
    others={"factor": "weight_scale_2"},
    describe=_describe,
    decode=_decode,
)
"""FP4 in ``weight`` beside ``weight_scale``."""
