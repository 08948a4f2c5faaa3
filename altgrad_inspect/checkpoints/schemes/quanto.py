"""Quantized tensors of optimum-quanto, flattened into a state dict.

8 bits       P.weight._data [N, ...] I8 or FP8, P.weight._scale [N, 1, ...]; weight = code * scale
4, 2 bits    P.weight._data._data U8, P.weight._scale and P.weight._shift, one a group;
             weight = code * scale - shift, or (code - shift) * scale where shift is an integer

Codes of 4 and 2 bits are unsigned and packed along the first dimension: of a byte, the lowest
bits belong to row i, the next ones to row i + R for R rows of bytes. Where a weight is cut into
groups, a row is one group. The shape of the weight is then written nowhere: the bias tells the
number of outputs, and without one the layer stays flat, so that its codes can be compared and
nobody computes a rank of the wrong matrix.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Final

import torch
from torch import Tensor

from altgrad_inspect.checkpoints.schemes.affine import code_integers
from altgrad_inspect.checkpoints.schemes.beside import in_module
from altgrad_inspect.checkpoints.schemes.blocks import fit_blocks, view_of_blocks
from altgrad_inspect.checkpoints.schemes.decoding import multiply_codes
from altgrad_inspect.checkpoints.schemes.parts import (
    FLOAT8_FORMATS,
    FLOATS,
    build_layer,
    no_fit,
    read_scale,
)
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LeftOut, LoadedLayer, SchemeContext
from altgrad_inspect.quantize.scales import Scales
from altgrad_inspect.refs import LayerRef

_METHOD: Final = "quanto"
_PACKED: Final = "._data._data"
_BYTES: Final = "._data"
_INPUTS: Final = ("input_scale", "output_scale")
_GROUP_SIZES: Final = (128, 96, 64, 32)
_SHIFTS: Final = FLOATS | {"I8", "U8"}
_FLAT_NOTE: Final = (
    "quanto: layers that are stored in groups and have no bias do not say their shape; their "
    "codes are compared, and they have no ranks"
)


class QuantoScheme:
    """``P._data`` beside ``P._scale``, and ``P._data._data`` beside ``P._shift`` too."""

    name = "quanto"

    def find(
        self, tensors: Mapping[str, LayerRef], context: SchemeContext
    ) -> Iterable[Claim | LeftOut]:
        """Find weights of 8 bits and packed ones, and the scales of inputs and outputs."""
        by = f"{context.source}: {_METHOD}" if context.method == _METHOD else "names and dtypes"
        for name, codes in tensors.items():
            ending = next((end for end in (_PACKED, _BYTES) if name.endswith(end)), None)
            if ending is None or name.removesuffix(ending) in tensors:
                continue
            layer = name.removesuffix(ending)
            claim = (
                self._claim_packed(layer, codes, tensors, by)
                if ending == _PACKED
                else self._claim_bytes(layer, codes, tensors, by)
            )
            if claim is not None:
                yield claim
                yield from _leave_out_inputs(layer, tensors)

    def _claim_bytes(
        self, layer: str, codes: LayerRef, tensors: Mapping[str, LayerRef], by: str
    ) -> Claim | None:
        scale = tensors.get(f"{layer}._scale")
        fmt = {**FLOAT8_FORMATS, "I8": "int8"}.get(codes.dtype)
        if scale is None or scale.dtype not in FLOATS or fmt is None:
            return None
        return Claim(
            layer=build_layer(
                layer,
                {"codes": codes, "scale": scale},
                scheme=self.name,
                fmt=fmt,
                shape=codes.shape,
                recognised_by=by,
            )
        )

    def _claim_packed(
        self, layer: str, codes: LayerRef, tensors: Mapping[str, LayerRef], by: str
    ) -> Claim | None:
        scale, shift = tensors.get(f"{layer}._scale"), tensors.get(f"{layer}._shift")
        if scale is None or shift is None or codes.dtype != "U8" or not codes.shape:
            return None
        num_rows, byte_rows = max(scale.shape, default=1), max(1, codes.shape[0])
        bits = next((bits for bits in (4, 2) if byte_rows == -(-num_rows * bits // 8)), None)
        if scale.dtype not in FLOATS or shift.dtype not in _SHIFTS or bits is None:
            return None
        stored = (num_rows, *codes.shape[1:])
        bias = tensors.get(in_module(layer, "bias"))
        shape = _find_shape(stored, bias)
        return Claim(
            layer=build_layer(
                layer,
                {"codes": codes, "scale": scale, "shift": shift},
                scheme=self.name,
                fmt=f"int{bits}",
                shape=shape,
                recognised_by=by,
                facts={"bits": bits, "num_rows": num_rows},
            ),
            notes=(_FLAT_NOTE,) if len(shape) == 1 else (),
        )

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return code * scale, for packed codes less the shift."""
        return _decode_packed(layer, parts) if "shift" in parts else _decode_bytes(layer, parts)


def _find_shape(stored: tuple[int, ...], bias: LayerRef | None) -> tuple[int, ...]:
    """The shape of a weight whose rows or groups are stored; flat if that cannot be told."""
    num_rows, num_weights = stored[0], prod(stored)
    outputs = bias.shape[0] if bias is not None and len(bias.shape) == 1 else 0
    if outputs == num_rows or len(stored) != 2 or stored[1] not in _GROUP_SIZES:
        return stored
    if outputs and num_rows % outputs == 0:
        return (outputs, num_weights // outputs)
    return (num_weights,)


def _decode_bytes(layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
    scale = read_scale(parts["scale"])
    is_row = scale.numel() == layer.shape[0]
    block = (1, *layer.shape[1:]) if is_row else layer.shape
    view = view_of_blocks(layer.shape, block)
    values = None if view is None else fit_blocks(scale, view)
    if view is None or values is None:
        raise no_fit(layer, scale, "scales", "one a row, or one")
    scales = Scales(values=values, view=view)
    if layer.dtype != "int8":
        return multiply_codes(layer, parts["codes"], scales)
    coded = code_integers(layer, parts["codes"], scales)
    return LoadedLayer(values=coded.decode().reshape(layer.shape), coded=coded)


def _decode_packed(layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
    bits, num_rows = int(str(layer.facts["bits"])), int(str(layer.facts["num_rows"]))
    scale, shift = read_scale(parts["scale"]).reshape(-1, 1), parts["shift"].reshape(-1, 1)
    if not scale.numel() == shift.numel() == num_rows:
        raise no_fit(layer, parts["shift"], "shifts", f"one for each of {num_rows} scales")
    rows = _unpack_rows(parts["codes"], bits)[:num_rows].reshape(num_rows, -1)
    group = rows.shape[1]
    view = view_of_blocks((num_rows, group), (1, group))
    if view is None:
        raise no_fit(layer, parts["codes"], "codes", "at least one a row")
    zero = shift.float()
    is_integer = not shift.dtype.is_floating_point
    coded = code_integers(
        layer,
        rows,
        Scales(values=scale, view=view),
        signed=False,
        zero_points=zero if is_integer else zero / scale,
    )
    values = coded.decode() if is_integer else scale * rows - zero
    return LoadedLayer(values=values.reshape(layer.shape), coded=coded)


def _unpack_rows(stored: Tensor, bits: int) -> Tensor:
    """Unpack rows of codes: the lowest bits of every byte first, then the next ones."""
    mask = (1 << bits) - 1
    return torch.cat([(stored >> start) & mask for start in range(0, 8, bits)])


def _leave_out_inputs(layer: str, tensors: Mapping[str, LayerRef]) -> Iterator[LeftOut]:
    for name in _INPUTS:
        scale = tensors.get(in_module(layer, name))
        if scale is not None:
            yield LeftOut(tensor=scale, reason="quanto: how activations are quantized")
