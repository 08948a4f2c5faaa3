"""Codes times stored scales, as a layer: steps that schemes share."""

from dataclasses import replace

import torch
from torch import Tensor

from altgrad_inspect.checkpoints.schemes.blocks import Blocks, find_blocks
from altgrad_inspect.checkpoints.schemes.parts import name_layer
from altgrad_inspect.checkpoints.schemes.scheme import LoadedLayer
from altgrad_inspect.checkpoints.schemes.zero_points import count_from_zero_points
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.formats import ElementFormat, IntFormat
from altgrad_inspect.quantize.coded import CodedWeights
from altgrad_inspect.quantize.grids import ordinal_dtype
from altgrad_inspect.quantize.scales import Scales
from altgrad_inspect.refs import LayerRef


def require_blocks(layer: LayerRef, scale: Tensor) -> Blocks:
    """Return `find_blocks` of a layer and its scales.

    Raises:
        CheckpointError: They do not fit.
    """
    blocks = find_blocks(layer.shape, tuple(scale.shape), dict(layer.facts))
    if blocks is None:
        msg = (
            f"{name_layer(layer)} has scales of shape {list(scale.shape)}, expected one number or "
            f"one a block of {list(layer.shape)} (put its config.json beside it, or save it again)"
        )
        raise CheckpointError(msg)
    return blocks


def multiply_out(
    layer: LayerRef, fmt: ElementFormat, ordinals: Tensor, scales: Scales
) -> LoadedLayer:
    """Return the layer whose weights are fl32(value of the ordinal * scale)."""
    coded = CodedWeights(fmt=fmt, ordinals=ordinals.reshape(scales.view.shape), scales=scales)
    return LoadedLayer(values=coded.decode().reshape(layer.shape), coded=coded)


def scale_codes(
    layer: LayerRef, fmt: ElementFormat, ordinals: Tensor, scale: Tensor
) -> LoadedLayer:
    """Return the layer that ``ordinals`` and ``scale`` as stored make.

    Raises:
        CheckpointError: They do not fit together.
    """
    return multiply_out(layer, fmt, ordinals, require_blocks(layer, scale).read(scale))


def whole_numbers(bits: int) -> IntFormat:
    """Return the format of signed integers of so many bits, the smallest one included.

    With one bit a code is -1 or 0; then the format reaches to 1, which no code has.
    """
    high = (1 << (bits - 1)) - 1
    return IntFormat(name=f"int{bits}", bits=bits, low=-1 - high, high=max(high, 1))


def scale_integers(
    layer: LayerRef, bits: int, integers: Tensor, zero_points: Tensor | None, scales: Scales
) -> LoadedLayer:
    """Return the layer whose weights are fl32((q - z) * scale); the ordinal of q is q - z.

    Args:
        layer: The layer.
        bits: Width of a code; codes and zero points are -2**(bits - 1) to 2**(bits - 1) - 1.
        integers: The codes q, of as many elements as the layer.
        zero_points: One z a block, as ``scales.values``; None for zero everywhere.
        scales: Without zero points.

    Raises:
        CheckpointError: A code or a zero point needs more bits.
    """
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    integers = integers.reshape(scales.view.shape)
    for what, numbers in (("code", integers), ("zero point", zero_points)):
        if numbers is not None and numbers.numel():
            least, most = (int(end) for end in torch.aminmax(numbers))
            if least < low or most > high:
                msg = (
                    f"{name_layer(layer)} has a {what} of {least if least < low else most}, "
                    f"expected {low} to {high} in {bits} bits (check its configuration)"
                )
                raise CheckpointError(msg)
    if zero_points is None and bits > 1:
        fmt = whole_numbers(bits)
        return multiply_out(layer, fmt, integers.to(ordinal_dtype(fmt)), scales)
    zeros = torch.zeros_like(scales.values) if zero_points is None else zero_points
    fmt = replace(whole_numbers(bits), low=low - high, high=high - low)
    coded = count_from_zero_points(integers, zeros.short(), scales, fmt=fmt, low=low, high=high)
    return LoadedLayer(values=coded.decode().reshape(layer.shape), coded=coded)
