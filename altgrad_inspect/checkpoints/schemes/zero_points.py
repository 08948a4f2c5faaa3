"""Codes with a zero point: a weight is (code - zero) * scale.

The ordinal of a code is the code minus the zero point, so that the value zero has the ordinal 0.
Where a zero point lies between two codes, or beyond them, it is the code nearest to it that
counts, and the rest is an offset of the scales.
"""

from dataclasses import replace

import torch
from jaxtyping import Int64, Integer, Shaped
from torch import Tensor

from altgrad_inspect.formats import IntFormat
from altgrad_inspect.quantize.coded import CodedWeights
from altgrad_inspect.quantize.grids import ordinal_dtype
from altgrad_inspect.quantize.scales import Scales, View, tiles


def unsigned_format(highest: int, name: str | None = None) -> IntFormat:
    """Codes from 0 to ``highest`` minus a zero point from the same range.

    Args:
        highest: At least 1.
        name: Of the format; None for ``uint`` and the bits of ``highest``.
    """
    bits = highest.bit_length()
    return IntFormat(
        name=name or f"uint{bits}",
        bits=bits,
        source="codes minus their zero point",
        low=-highest,
        high=highest,
    )


def code_with_zero_points(
    codes: Integer[Tensor, "rows cols"],
    zeros: Shaped[Tensor, "block_rows block_cols"],
    scales: Shaped[Tensor, "block_rows block_cols"],
    view: View,
    *,
    fmt: IntFormat,
    col_blocks: Int64[Tensor, " cols"] | None = None,
) -> CodedWeights:
    """Put codes, zero points and scales together.

    Args:
        codes: Unsigned, at most ``fmt.high``.
        zeros: Integers or floats, in units of a code.
        scales: Any float dtype.
        view: Which weights share a scale.
        fmt: As `unsigned_format` gives it.
        col_blocks: The block of every column, where blocks are not runs of columns.
    """
    built = Scales(values=scales.float().contiguous(), view=view, col_blocks=col_blocks)
    return count_from_zero_points(codes, zeros, built, fmt=fmt, low=0, high=fmt.code_of_max)


def count_from_zero_points(
    codes: Integer[Tensor, "rows cols"],
    zeros: Shaped[Tensor, "block_rows block_cols"],
    scales: Scales,
    *,
    fmt: IntFormat,
    low: int,
    high: int,
) -> CodedWeights:
    """Return the ordinals of integer codes, each minus the zero point of its block.

    Args:
        codes: Any integer dtype, from ``low`` to ``high``.
        zeros: Integers or floats, in units of a code; what is no number counts as 0.
        scales: Without zero points.
        fmt: Reaches from ``low - high`` to ``high - low``.
        low: The smallest code.
        high: The largest.
    """
    whole, offsets = zeros, None
    if zeros.is_floating_point():
        zeros = zeros.float().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        whole = zeros.round().clamp(low, high)
        offsets = zeros - whole if bool((zeros != whole).any()) else None
    whole = whole.short()
    built = replace(scales, offsets=offsets, lowest=low - whole, highest=high - whole)
    ordinals = torch.empty(scales.view.shape, dtype=ordinal_dtype(fmt), device=codes.device)
    for rows, cols in tiles(scales.view, codes.device):
        ordinals[rows, cols] = codes[rows, cols].short() - built.pick(whole, rows, cols)
    return CodedWeights(fmt=fmt, ordinals=ordinals, scales=built)
