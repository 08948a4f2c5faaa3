"""Integer codes with a scale and, maybe, a zero point: weight = (code - zero point) * scale."""

from dataclasses import replace

import torch
from jaxtyping import Float, Integer, Shaped
from torch import Tensor

from altgrad_inspect.formats import IntFormat
from altgrad_inspect.quantize.coded import CodedWeights
from altgrad_inspect.quantize.grids import ordinal_dtype
from altgrad_inspect.quantize.scales import Scales, tiles


def code_range(bits: int, *, signed: bool) -> tuple[int, int]:
    """Smallest and largest code of ``bits`` bits."""
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def code_integers(
    codes: Integer[Tensor, "rows cols"],
    scales: Scales,
    *,
    bits: int,
    signed: bool = True,
    zero_points: Shaped[Tensor, "block_rows block_cols"] | None = None,
) -> CodedWeights:
    """Return the ordinals of integer codes, which count from the zero point.

    A zero point between two codes, or beyond them, leaves its rest in the offsets.

    Args:
        codes: Any integer dtype, of shape ``scales.view.shape``.
        scales: Values and view.
        bits: Width of a code, 1 to 8.
        signed: Whether codes are two's complement.
        zero_points: In codes, integers or float32; one a block.
    """
    low, high = code_range(bits, signed=signed)
    if zero_points is None:
        fmt = IntFormat(name=f"int{bits}", bits=bits, low=low, high=high)
        return CodedWeights(fmt=fmt, ordinals=codes.to(ordinal_dtype(fmt)), scales=scales)
    width = high - low
    fmt = IntFormat(name=f"int{bits}", bits=bits, low=-width, high=width)
    dtype = ordinal_dtype(fmt)
    zero = _as_float(zero_points)
    whole = zero.round().clamp(low, high)
    offsets = zero - whole if bool((zero != whole).any()) else None
    whole = whole.to(torch.int16)
    scales = replace(scales, lowest=low - whole, highest=high - whole, offsets=offsets)
    ordinals = torch.empty(scales.view.shape, dtype=dtype, device=codes.device)
    for rows, cols in tiles(scales.view, codes.device):
        picked = scales.pick(whole, rows, cols)
        ordinals[rows, cols] = codes[rows, cols].to(torch.int16) - picked
    return CodedWeights(fmt=fmt, ordinals=ordinals, scales=scales)


def _as_float(zero_points: Shaped[Tensor, "*blocks"]) -> Float[Tensor, "*blocks"]:
    """Return zero points as float32; those of a scale of 0, which are no numbers, as 0."""
    return torch.nan_to_num(zero_points.float(), nan=0.0, posinf=0.0, neginf=0.0)
