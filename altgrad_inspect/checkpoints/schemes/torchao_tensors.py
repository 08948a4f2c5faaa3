"""The tensor subclasses of torchao 0.18 whose files can be read, one entry a class.

Float8Tensor               FP8 codes * scale, blocks of any size
Int8Tensor                 (int8 code - zero point) * scale
IntxUnpackedToInt8Tensor   the same with codes of 1 to 8 bits, one to a byte
Int4Tensor                 int4 code * scale + zero point; both stored [K / group, N]
MXTensor                   FP8, FP6 or FP4 codes * 2^(scale - 127), blocks of 32
NVFP4Tensor                FP4 codes * (per_tensor_scale * FP8 scale), blocks of 16

FP4 and int4 codes lie two to a byte, the first one in the low bits.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import prod
from typing import Final

import torch
from torch import Tensor

from altgrad_inspect.checkpoints.schemes.affine import code_integers
from altgrad_inspect.checkpoints.schemes.blocks import fit_blocks, view_of_blocks
from altgrad_inspect.checkpoints.schemes.decoding import multiply_codes
from altgrad_inspect.checkpoints.schemes.fp4 import FP4
from altgrad_inspect.checkpoints.schemes.parts import (
    EXPONENTS,
    FLOAT8_FORMATS,
    FLOATS,
    INTEGERS,
    name_layer,
    no_fit,
    read_scale,
)
from altgrad_inspect.checkpoints.schemes.scheme import LoadedLayer
from altgrad_inspect.checkpoints.schemes.swizzled_scales import unswizzle_scales
from altgrad_inspect.checkpoints.schemes.unpack import nibbles_low_first
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.formats import element_format
from altgrad_inspect.quantize.scales import Scales, View
from altgrad_inspect.refs import LayerRef

_UNPACKED_ELEMENTS: Final[Mapping[str, str]] = {
    "float8_e4m3fn": "float8_e4m3fn",
    "float8_e5m2": "float8_e5m2",
    "fp6_e2m3": "float6_e2m3fn",
    "fp6_e3m2": "float6_e3m2fn",
}
_PACKED_ELEMENT: Final = "float4_e2m1fn_x2"
PART_DTYPES: Final[Mapping[str, AbstractSet[str]]] = {
    "scale": FLOATS | EXPONENTS | {"F8_E4M3"},
    "zero_point": INTEGERS | FLOATS,
    "per_tensor_scale": FLOATS,
}
"""Safetensors dtypes of what stands beside the codes, by role."""

_BLOCKS: Final = {"MXTensor": 32, "NVFP4Tensor": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What the metadata of a tensor say of its codes.

    Attributes:
        fmt: Name of the format.
        is_packed: Whether two of them share a byte.
        block: Sizes of the blocks that share a scale, in the dimensions of the weight.
        is_swizzled: Whether scales are in the order of tensor cores.
    """

    fmt: str
    is_packed: bool
    block: tuple[int, ...]
    is_swizzled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorClass:
    """How one subclass is read.

    Attributes:
        parts: The tensors that it cannot do without.
        optional_parts: Those that it also uses.
        describe: From the codes' dtype and the metadata; None where they cannot be.
        decode: From the layer and its parts.
    """

    parts: tuple[str, ...]
    describe: Callable[[LayerRef, Mapping[str, object]], Form | None]
    decode: Callable[[LayerRef, Mapping[str, Tensor]], LoadedLayer]
    optional_parts: tuple[str, ...] = ()


def _describe_float8(codes: LayerRef, data: Mapping[str, object]) -> Form | None:
    block = _read_block(data, codes.shape)
    fmt = FLOAT8_FORMATS.get(codes.dtype)
    return Form(fmt=fmt, is_packed=False, block=block) if fmt and block else None


def _describe_int8(codes: LayerRef, data: Mapping[str, object]) -> Form | None:
    block = _read_block(data, codes.shape)
    is_known = block is not None and codes.dtype == "I8"
    return Form(fmt="int8", is_packed=False, block=block) if block and is_known else None


def _describe_intx(codes: LayerRef, data: Mapping[str, object]) -> Form | None:
    block = _read_block(data, codes.shape)
    name = _read_name(data.get("target_dtype"))
    is_known = codes.dtype == "I8" and name in {f"int{bits}" for bits in range(1, 9)}
    return Form(fmt=name, is_packed=False, block=block) if block and is_known else None


def _describe_int4(codes: LayerRef, data: Mapping[str, object]) -> Form | None:
    block = _read_block(data, _unpacked_shape(codes.shape))
    is_known = codes.dtype in {"I8", "U8"}
    return Form(fmt="int4", is_packed=True, block=block) if block and is_known else None


def _describe_mx(codes: LayerRef, data: Mapping[str, object]) -> Form | None:
    return _describe_micro(codes, data, "MXTensor", _read_name(data.get("elem_dtype")))


def _describe_nvfp4(codes: LayerRef, data: Mapping[str, object]) -> Form | None:
    return _describe_micro(codes, data, "NVFP4Tensor", _PACKED_ELEMENT)


def _describe_micro(
    codes: LayerRef, data: Mapping[str, object], kind: str, element: str
) -> Form | None:
    size, is_swizzled = data.get("block_size", _BLOCKS[kind]), data.get("is_swizzled_scales")
    is_packed = element == _PACKED_ELEMENT
    fmt = FP4 if is_packed else _UNPACKED_ELEMENTS.get(element)
    if fmt is None or not isinstance(size, int) or size < 1:
        return None
    whole_bytes = {"U8", "F4"} if is_packed else {"U8"}
    if codes.dtype not in whole_bytes and FLOAT8_FORMATS.get(codes.dtype) != fmt:
        return None
    block = (*(1 for _ in codes.shape[:-1]), size)
    return Form(fmt=fmt, is_packed=is_packed, block=block, is_swizzled=is_swizzled is True)


def _read_block(data: Mapping[str, object], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Read the block size; -1 stands for a whole dimension."""
    stored = data.get("block_size")
    if not isinstance(stored, list) or len(stored) != len(shape):
        return None
    if not all(isinstance(size, int) for size in stored):
        return None
    return tuple(
        whole if size == -1 else int(size) for size, whole in zip(stored, shape, strict=True)
    )


def _read_name(stored: object) -> str:
    """Read the name of a dtype: ``{"_type": "torch.dtype", "_data": "int4"}``, or text."""
    name = stored.get("_data") if isinstance(stored, Mapping) else stored
    return name if isinstance(name, str) else ""


def _unpacked_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:-1], 2 * shape[-1]) if shape else ()


def shape_of(codes: LayerRef, form: Form) -> tuple[int, ...]:
    """The shape of the weights behind ``codes``."""
    is_halved = form.is_packed and codes.dtype != "F4"  # F4 counts elements, not bytes
    return _unpacked_shape(codes.shape) if is_halved else codes.shape


def _decode_float8(layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
    view = _find_view(layer)
    scale = _fit(layer, read_scale(parts["scale"]), view)
    return _decode_codes(layer, parts["qdata"].view(torch.uint8), Scales(values=scale, view=view))


def _decode_integers(layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
    view = _find_view(layer)
    scales = Scales(values=_fit(layer, read_scale(parts["scale"]), view), view=view)
    zero = parts.get("zero_point")
    coded = code_integers(
        layer,
        parts["qdata"],
        scales,
        zero_points=None if zero is None else _fit(layer, zero, view, what="zero points"),
    )
    return LoadedLayer(values=coded.decode().reshape(layer.shape), coded=coded)


def _decode_int4(layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
    """The kernels add the zero point, in units of the weights (mslk: quantize/shuffle.py)."""
    view = _find_view(layer)
    scale, zero = (_fit(layer, _turn(layer, parts[name]), view) for name in ("scale", "zero_point"))
    codes = (nibbles_low_first(parts["qdata"]).to(torch.int8) ^ 8) - 8
    coded = code_integers(layer, codes, Scales(values=scale, view=view), zero_points=-zero / scale)
    groups = codes.reshape(*scale.shape, -1)
    values = groups * scale[..., None] + zero[..., None]
    return LoadedLayer(values=values.reshape(layer.shape), coded=coded)


def _decode_mx(layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
    view = _find_view(layer)
    scales = Scales(values=read_scale(_plain_order(layer, parts["scale"], view)), view=view)
    return _decode_codes(layer, parts["qdata"].view(torch.uint8), scales)


def _decode_nvfp4(layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
    view = _find_view(layer)
    scale = _plain_order(layer, parts["scale"], view).float()
    whole = parts.get("per_tensor_scale")
    if whole is not None:
        if whole.numel() not in {1, view.num_matrices}:
            raise no_fit(layer, whole, "per-tensor scales", "one, or one a matrix")
        scale = whole.float().reshape(-1, 1, 1) * scale.reshape(
            view.num_matrices, -1, scale.shape[-1]
        )
    scales = Scales(values=scale.reshape(-1, scale.shape[-1]), view=view)
    return _decode_codes(layer, parts["qdata"].view(torch.uint8), scales)


def _decode_codes(layer: LayerRef, stored: Tensor, scales: Scales) -> LoadedLayer:
    fmt = element_format(layer.dtype)
    codes = nibbles_low_first(stored) if layer.facts["is_packed"] else stored
    if fmt.bits < 8 and codes.numel() and int(codes.max()) >> fmt.bits:
        raise no_fit(layer, stored, "codes", f"{fmt.bits} bits each")
    return multiply_codes(layer, codes, scales)


def _find_view(layer: LayerRef) -> View:
    block = layer.facts["block"]
    view = view_of_blocks(layer.shape, block) if isinstance(block, tuple) else None
    if view is None:
        msg = (
            f"{name_layer(layer)} of shape {list(layer.shape)} has blocks of {block}, expected "
            "blocks that are rectangles of its matrices (leave it out with --exclude)"
        )
        raise CheckpointError(msg)
    return view


def _fit(layer: LayerRef, stored: Tensor, view: View, *, what: str = "scales") -> Tensor:
    fitted = fit_blocks(stored, view)
    if fitted is None:
        raise no_fit(layer, stored, what, f"one a block of {layer.facts['block']}")
    return fitted


def _turn(layer: LayerRef, stored: Tensor) -> Tensor:
    """Numbers of groups that are stored with the outputs last, with the groups last."""
    if stored.dim() < 2:
        raise no_fit(layer, stored, "scales or zero points", "[K / group, N]")
    return stored.float().transpose(-1, -2).contiguous()


def _plain_order(layer: LayerRef, scale: Tensor, view: View) -> Tensor:
    """Return scales as a matrix, (rows of all matrices, block columns)."""
    if not layer.facts["is_swizzled"]:
        return _fit(layer, scale, view)
    cols = -(-view.cols // view.block_cols)
    found = unswizzle_scales(scale, rows=prod(layer.shape[:-1]), cols=cols)
    if found is None:
        raise no_fit(layer, scale, "swizzled scales", f"one a block of {layer.facts['block']}")
    return _fit(layer, found, view)


_TWO: Final = ("qdata", "scale")

CLASSES: Final[Mapping[str, TensorClass]] = {
    "Float8Tensor": TensorClass(parts=_TWO, describe=_describe_float8, decode=_decode_float8),
    "Int8Tensor": TensorClass(
        parts=_TWO,
        optional_parts=("zero_point",),
        describe=_describe_int8,
        decode=_decode_integers,
    ),
    "IntxUnpackedToInt8Tensor": TensorClass(
        parts=_TWO,
        optional_parts=("zero_point",),
        describe=_describe_intx,
        decode=_decode_integers,
    ),
    "Int4Tensor": TensorClass(
        parts=(*_TWO, "zero_point"), describe=_describe_int4, decode=_decode_int4
    ),
    "MXTensor": TensorClass(parts=_TWO, describe=_describe_mx, decode=_decode_mx),
    "NVFP4Tensor": TensorClass(
        parts=_TWO,
        optional_parts=("per_tensor_scale",),
        describe=_describe_nvfp4,
        decode=_decode_nvfp4,
    ),
}
"""The subclasses that can be read, by the name that the metadata give."""

OPAQUE: Final[Mapping[str, str]] = {
    "Int4TilePackedTo4dTensor": "a GPU",
    "Int4PlainInt32Tensor": "XPU and NPU devices",
    "Int4PreshuffledTensor": "a GPU",
}
"""Subclasses whose codes are in an order that only a kernel knows, and whose kernel."""
