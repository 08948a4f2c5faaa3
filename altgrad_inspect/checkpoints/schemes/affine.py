"""Integer codes with a scale and, maybe, a zero point: weight = (code - zero point) * scale.

How wide the codes are, 1 to 8 bits, says the format that the layer names.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Integer, Shaped
from torch import Tensor

from altgrad_inspect.checkpoints.schemes.decoding import require_blocks
from altgrad_inspect.checkpoints.schemes.parts import name_layer
from altgrad_inspect.checkpoints.schemes.scheme import LoadedLayer
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
    signed: bool = True,
    zero_points: Shaped[Tensor, "block_rows block_cols"] | None = None,
) -> CodedWeights:
    """Return the ordinals of integer codes, which count from the zero point.

    A zero point between two codes, or beyond them, leaves its rest in the offsets.

    Args:
        layer: The layer.
        codes: Any integer dtype, in the order of ``scales.view``.
        scales: Values and view.
        signed: Whether codes are two's complement.
        zero_points: In codes, integers or float32; one a block.

    Raises:
        CheckpointError: A code needs more bits.
    """
    low, high = _code_range(layer, signed=signed)
    smallest, largest = _range_of(codes)
    if smallest < low or largest > high:
        msg = (
            f"{name_layer(layer)} has codes from {smallest} to {largest}, expected {low} to "
            f"{high} (save the checkpoint again)"
        )
        raise CheckpointError(msg)
    return _count_codes(layer, codes, scales, zero_points, (low, high))


def scale_integers(
    layer: LayerRef, codes: Tensor, zero_points: Tensor | None, scales: Scales
) -> LoadedLayer:
    """Return the layer whose weights are fl32((q - z) * scale); the ordinal of q is q - z.

    Args:
        layer: The layer.
        codes: The codes q in two's complement, of as many elements as the layer.
        zero_points: One z a block, as ``scales.values``, in the range of the codes, integers or
            floats; None for zero everywhere.
        scales: Without zero points.

    Raises:
        CheckpointError: A code or a zero point needs more bits, or a zero point is between two.
    """
    low, high = _code_range(layer)
    if zero_points is not None:
        require_whole(layer, zero_points)
    for what, numbers in (("code", codes), ("zero point", zero_points)):
        least, most = (0, 0) if numbers is None else _range_of(numbers)
        if least < low or most > high:
            msg = (
                f"{name_layer(layer)} has a {what} of {least if least < low else most}, "
                f"expected {low} to {high} in {_bits_of(layer)} bits (check its configuration)"
            )
            raise CheckpointError(msg)
    zeros = None if zero_points is None else zero_points.short()
    coded = _count_codes(layer, codes, scales, zeros, (low, high))
    return LoadedLayer(values=coded.decode().reshape(layer.shape), coded=coded)


def decode_integers(layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
    """Return fl32((code - zero point) * scale).

    Args:
        layer: The layer.
        parts: ``codes``, one an element; ``scale``; and maybe ``zeros``.

    Raises:
        CheckpointError: They do not fit together.
    """
    scale, zeros = parts["scale"], parts.get("zeros")
    blocks = require_blocks(layer, scale)
    if zeros is not None:
        require_zero_a_scale(layer, zeros, scale)
        zeros = blocks.spread(zeros)
    return scale_integers(layer, parts["codes"], zeros, blocks.read(scale))


def require_zero_a_scale(layer: LayerRef, zeros: Tensor, scale: Tensor) -> None:
    """Check that zero points are stored as the scales are.

    Raises:
        CheckpointError: They have another shape.
    """
    if zeros.shape != scale.shape:
        msg = (
            f"{name_layer(layer)} has zero points of shape {list(zeros.shape)}, expected "
            f"{list(scale.shape)} as its scales (save the checkpoint again)"
        )
        raise CheckpointError(msg)


def require_whole(layer: LayerRef, zeros: Tensor) -> None:
    """Check that zero points, which count codes, are whole numbers.

    Raises:
        CheckpointError: One is between two codes, or no number.
    """
    if not zeros.is_floating_point():
        return
    if not bool((zeros.isfinite() & (zeros == zeros.round())).all()):
        msg = (
            f"{name_layer(layer)} has zero points between two codes or beyond all, expected whole "
            "numbers: whether they are codes or weights is not known (leave it out with --exclude)"
        )
        raise CheckpointError(msg)


def _bits_of(layer: LayerRef) -> int:
    return int(layer.dtype.removeprefix("int"))


def _code_range(layer: LayerRef, *, signed: bool = True) -> tuple[int, int]:
    bits = _bits_of(layer)
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def _range_of(numbers: Tensor) -> tuple[int, int]:
    """Smallest and largest; zeros where there are none."""
    if numbers.numel() == 0:
        return 0, 0
    low, high = torch.aminmax(numbers)
    return int(low), int(high)


def _count_codes(
    layer: LayerRef,
    codes: Tensor,
    scales: Scales,
    zero_points: Tensor | None,
    code_range: tuple[int, int],
) -> CodedWeights:
    low, high = code_range
    codes, bits = codes.reshape(scales.view.shape), _bits_of(layer)
    if zero_points is None and high == 0:  # no format ends at 0: that of codes minus zero points
        zero_points = torch.zeros_like(scales.values, dtype=torch.int16)
    if zero_points is None:
        fmt = IntFormat(name=layer.dtype, bits=bits, low=low, high=high)
        return CodedWeights(fmt=fmt, ordinals=codes.to(ordinal_dtype(fmt)), scales=scales)
    fmt = IntFormat(name=layer.dtype, bits=bits, low=low - high, high=high - low)
    return count_from_zero_points(codes, zero_points, scales, fmt=fmt, low=low, high=high)
