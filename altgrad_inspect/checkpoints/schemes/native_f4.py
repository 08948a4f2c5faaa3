"""Tensors of the dtype F4 beside a scale a block.

P.weight           F4 [N, K], two elements a byte, the first one in bits 0 to 3
P.weight_scale     F8_E8M0 (a power of two), F8_E4M3 or floats, [N, K / block]; also called
                   ``scale``, ``scales``, ``weight_scale_inv``
P.weight_scale_2   F32, one number or one a matrix, which multiplies the scales; or
                   ``weight_global_scale``, which divides them

The format has the dtype but no such names; these are the ones that other schemes use.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from torch import Tensor

from altgrad_inspect.checkpoints.schemes.beside import about_inputs, beside, first_beside
from altgrad_inspect.checkpoints.schemes.blocks import find_blocks
from altgrad_inspect.checkpoints.schemes.fp4 import FP4, scale_fp4
from altgrad_inspect.checkpoints.schemes.parts import FLOATS, build_layer
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LeftOut, LoadedLayer, SchemeContext
from altgrad_inspect.refs import LayerRef

_DTYPE: Final = "F4"
_SCALES: Final = ("weight_scale", "weight_scale_inv", "scale", "scales", "scale_inv")
_SCALE_DTYPES: Final = FLOATS | {"F8_E8M0", "F8_E4M3", "U8"}
_WHOLE: Final = {"factor": "weight_scale_2", "divisor": "weight_global_scale"}


class NativeF4Scheme:
    """Elements of F4 beside their scales."""

    name = "native-f4"

    def find(
        self, tensors: Mapping[str, LayerRef], context: SchemeContext
    ) -> Iterable[Claim | LeftOut]:
        """Find F4 beside scales that fit."""
        del context  # the dtype says everything
        for codes in list(tensors.values()):
            scale = first_beside(tensors, codes.name, _SCALES)
            if codes.dtype != _DTYPE or scale is None or scale.dtype not in _SCALE_DTYPES:
                continue
            if codes.shape[-1] % 2 or find_blocks(codes.shape, scale.shape) is None:
                continue
            others = {
                role: found
                for role, last in _WHOLE.items()
                if (found := tensors.get(beside(codes.name, last))) is not None
                and found.dtype in FLOATS
            }
            yield Claim(
                layer=build_layer(
                    codes.name,
                    {"codes": codes, "scale": scale, **others},
                    scheme=self.name,
                    fmt=FP4,
                    shape=codes.shape,
                    recognised_by=f"dtype {_DTYPE}",
                )
            )
            yield from about_inputs(tensors, codes)

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return fl32(value of the element * fl32(scale * or / the one over all))."""
        return scale_fp4(layer, parts)
