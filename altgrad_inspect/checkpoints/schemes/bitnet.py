"""Ternary codes, four a byte, with one scale a layer: BitNet as transformers stores it.

P.weight         U8 [N / 4, K]; bits 2 i and 2 i + 1 of row r are row r + i N / 4, code = field - 1
P.weight_scale   one number

The linear class says what the scale does: ``bitlinear``, the default, divides by it, and
``autobitlinear`` multiplies. In the mode ``online`` weights are plain numbers and no codes.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import torch
from torch import Tensor

from altgrad_inspect.checkpoints.schemes.beside import WEIGHT, called, in_module
from altgrad_inspect.checkpoints.schemes.parts import (
    FLOATS,
    build_layer,
    name_layer,
    recognised_by,
)
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LoadedLayer, SchemeContext
from altgrad_inspect.checkpoints.schemes.unpack import fields_in_row_parts
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.formats import IntFormat
from altgrad_inspect.quantize.coded import CodedWeights
from altgrad_inspect.quantize.scales import Scales, View
from altgrad_inspect.refs import LayerRef

_METHOD: Final = "bitnet"
_SCALE: Final = "weight_scale"
_PER_BYTE: Final = 4
_TERNARY: Final = IntFormat(
    name="ternary", bits=2, source="Ma et al. 2024, arXiv:2402.17764", low=-1, high=1
)
_OTHER_SCALES: Final = ("weight_scale_2", "weight_scale_inv", "weight_zero_point", "input_scale")
_UNKNOWN_CLASS: Final = (
    "no configuration says whether BitNet's weight_scale divides or multiplies: taken to divide "
    "where it is above 1, since weights are smaller than 1"
)


class BitNetScheme:
    """Packed ternary weights beside one ``weight_scale``."""

    name = "bitnet"

    def find(self, tensors: Mapping[str, LayerRef], context: SchemeContext) -> Iterable[Claim]:
        """Find ``P.weight`` in U8 beside one number ``P.weight_scale``."""
        is_named = context.method == _METHOD
        linear = str(context.settings.get("linear_class", "bitlinear")) if is_named else None
        for name in called(tensors, _SCALE):
            codes = tensors.get(in_module(name, WEIGHT))
            if codes is None or codes.dtype != "U8" or len(codes.shape) != 2:
                continue
            scale = tensors[name]
            if scale.num_weights != 1 or scale.dtype not in FLOATS:
                continue
            if not is_named and any(in_module(name, one) in tensors for one in _OTHER_SCALES):
                continue
            yield Claim(
                layer=build_layer(
                    codes.name,
                    {"codes": codes, "scale": scale},
                    scheme=self.name,
                    fmt=_TERNARY.name,
                    shape=(codes.shape[0] * _PER_BYTE, codes.shape[1]),
                    recognised_by=recognised_by(context, _METHOD),
                    facts={"linear_class": linear},
                ),
                notes=() if is_named else (_UNKNOWN_CLASS,),
            )

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return fl32(code / scale), or fl32(code * scale) for ``autobitlinear``."""
        fields = fields_in_row_parts(parts["codes"], bits=2, count=_PER_BYTE, high_first=False)
        if bool((fields == _PER_BYTE - 1).any()):
            msg = (
                f"{name_layer(layer)} holds fields of 3, expected 0, 1 and 2 for -1, 0 and 1 "
                "(it is no packed BitNet weight, or damaged)"
            )
            raise CheckpointError(msg)
        scale = parts["scale"].float().reshape(1, 1)
        linear = layer.facts["linear_class"]
        if linear is None:
            linear = "bitlinear" if float(scale) > 1 else "autobitlinear"
        size = layer.num_weights
        view = View(num_matrices=1, rows=1, cols=size, block_rows=None, block_cols=max(1, size))
        coded = CodedWeights(
            fmt=_TERNARY,
            ordinals=(fields.to(torch.int8) - 1).reshape(view.shape),
            scales=Scales(values=scale if linear == "autobitlinear" else 1 / scale, view=view),
        )
        return LoadedLayer(values=coded.decode().reshape(layer.shape), coded=coded)
