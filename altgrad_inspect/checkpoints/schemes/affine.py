"""Integer codes with a scale and, maybe, a zero point: weight = (code - zero point) * scale."""

import torch
from jaxtyping import Integer, Shaped
from torch import Tensor

from altgrad_inspect.checkpoints.schemes.parts import name_layer
from altgrad_inspect.checkpoints.schemes.zero_points import count_from_zero_points
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.formats import IntFormat
from altgrad_inspect.quantize.coded import CodedWeights
from altgrad_inspect.quantize.grids import ordinal_dtype
from altgrad_inspect.quantize.scales import Scales
from altgrad_inspect.refs import LayerRef


def code_integers(
    layer: LayerRef,
    codes: Integer[Tensor, "..."],
    scales: Scales,
    *,
    bits: int,
    signed: bool = True,
    zero_points: Shaped[Tensor, "block_rows block_cols"] | None = None,
) -> CodedWeights:
    """Return the ordinals of integer codes, which count from the zero point.

    A zero point between two codes, or beyond them, leaves its rest in the offsets.

    Args:
        layer: For messages.
        codes: Any integer dtype, in the order of ``scales.view``.
        scales: Values and view.
        bits: Width of a code, 1 to 8.
        signed: Whether codes are two's complement.
        zero_points: In codes, integers or float32; one a block.

    Raises:
        CheckpointError: A code does not fit in ``bits`` bits.
    """
    low, high = _code_range(bits, signed=signed)
    codes = codes.reshape(scales.view.shape)
    _require_range(layer, codes, low, high)
    if zero_points is None:
        fmt = IntFormat(name=f"int{bits}", bits=bits, low=low, high=high)
        return CodedWeights(fmt=fmt, ordinals=codes.to(ordinal_dtype(fmt)), scales=scales)
    width = high - low
    fmt = IntFormat(name=f"int{bits}", bits=bits, low=-width, high=width)
    return count_from_zero_points(codes, zero_points, scales, fmt=fmt, low=low, high=high)


def _code_range(bits: int, *, signed: bool) -> tuple[int, int]:
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def _require_range(
    layer: LayerRef, codes: Integer[Tensor, "rows cols"], low: int, high: int
) -> None:
    if codes.numel() == 0:
        return
    smallest, largest = (int(end) for end in torch.aminmax(codes))
    if smallest < low or largest > high:
        msg = (
            f"{name_layer(layer)} has codes from {smallest} to {largest}, expected {low} to "
            f"{high} (save the checkpoint again)"
        )
        raise CheckpointError(msg)
