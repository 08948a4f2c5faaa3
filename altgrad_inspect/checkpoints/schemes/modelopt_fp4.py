"""FP4 codes as ModelOpt exports them: ``NVFP4`` and its kin, and ``MXFP4``.

P.weight           U8 [N, K / 2], the first code in bits 0 to 3; or [E, N, K / 2]
P.weight_scale     F8_E4M3 [N, K / 16]; for MXFP4 U8 [N, K / 32], exponents
P.weight_scale_2   F32, one number or one an expert; it *multiplies*. Absent in MXFP4

Fused experts called ``Q`` have ``Q_weight_scale``; where a model keeps them as [E, K, N], codes and
scales are stored as [E, K / 2, N] and [E, K / 16, N], and the layer is [E, N, K] here.
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
from altgrad_inspect.checkpoints.schemes.fp4 import FP4, fits_fp4, scale_fp4
from altgrad_inspect.checkpoints.schemes.modelopt_settings import algorithm_of
from altgrad_inspect.checkpoints.schemes.parts import FLOATS, build_layer
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LeftOut, LoadedLayer, SchemeContext
from altgrad_inspect.refs import LayerRef

_IS_TRANSPOSED: Final = "transposed"
_EXPONENTS: Final = frozenset({"U8", "F8_E8M0"})
_NV_BLOCK: Final = (16, 32)
_MX_BLOCK: Final = (32,)


class ModeloptFp4Scheme:
    """FP4 in ``weight`` beside ``weight_scale``."""

    name = "modelopt-fp4"

    def find(
        self, tensors: Mapping[str, LayerRef], context: SchemeContext
    ) -> Iterable[Claim | LeftOut]:
        """Find packed codes beside scales of blocks."""
        num_found = 0
        for codes in list(tensors.values()):
            scale = tensors.get(beside(codes.name, "weight_scale"))
            if codes.dtype != "U8" or is_packed(codes.name) or scale is None:
                continue
            whole = tensors.get(beside(codes.name, "weight_scale_2"))
            found = _describe(codes, scale, whole)
            if found is None:
                continue
            num_found += 1
            shape, is_transposed = found
            parts = {"codes": codes, "scale": scale}
            yield Claim(
                layer=build_layer(
                    codes.name,
                    parts if whole is None else {**parts, "factor": whole},
                    scheme=self.name,
                    fmt=FP4,
                    shape=shape,
                    recognised_by=algorithm_of(context, path_of(codes.name)),
                    facts={_IS_TRANSPOSED: is_transposed},
                )
            )
            yield from about_inputs(tensors, codes)
        if num_found:
            yield from about_attention(tensors)

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return fl32(value of the code * fl32(scale * second scale))."""
        if layer.facts[_IS_TRANSPOSED]:
            turned = {role: parts[role].transpose(-1, -2) for role in ("codes", "scale")}
            parts = {**parts, **{role: part.contiguous() for role, part in turned.items()}}
        return scale_fp4(layer, parts)


def _describe(
    codes: LayerRef, scale: LayerRef, whole: LayerRef | None
) -> tuple[tuple[int, ...], bool] | None:
    """Return the layer's shape and whether it is stored transposed; None if it is no FP4."""
    is_nv = whole is not None and whole.dtype in FLOATS and scale.dtype in {"F8_E4M3", *FLOATS}
    is_mx = whole is None and scale.dtype in _EXPONENTS
    if not (is_nv or is_mx):
        return None
    sizes = _NV_BLOCK if is_nv else _MX_BLOCK
    if fits_fp4(codes.shape, scale.shape, sizes=sizes):
        return (*codes.shape[:-1], codes.shape[-1] * 2), False
    if len(codes.shape) == len(scale.shape) == 3:
        count, half, rows = codes.shape
        if fits_fp4((count, rows, half), (scale.shape[0], *scale.shape[:0:-1]), sizes=sizes):
            return (count, rows, half * 2), True
    return None
