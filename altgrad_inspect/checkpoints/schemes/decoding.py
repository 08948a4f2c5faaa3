"""Which weights share a stored scale, told from shapes; and codes times scales as a layer."""

from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from altgrad_inspect.checkpoints.schemes.parts import (
    name_layer,
    read_scale,
    stack_shape,
)
from altgrad_inspect.checkpoints.schemes.scheme import LoadedLayer
from altgrad_inspect.checkpoints.schemes.zero_points import count_from_zero_points
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.formats import ElementFormat, IntFormat
from altgrad_inspect.quantize.coded import CodedWeights
from altgrad_inspect.quantize.grids import ordinal_dtype
from altgrad_inspect.quantize.scales import Scales, View
from altgrad_inspect.refs import Fact, LayerRef

BLOCK_ROWS: Final = "block_rows"
BLOCK_COLS: Final = "block_cols"
"""Facts of a layer: the block size that the configuration gives."""

WHOLE_GROUPS: Final = "whole_groups"
"""Fact of a layer: its groups of columns are equally long, so none is cut off at the end."""

_SMALLEST_CUT_OFF: Final = 32
"""Blocks whose last one is cut off are powers of two from here on, unless a configuration says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """How stored scales cover a layer.

    Attributes:
        stack: (matrices, block rows of each, block columns): what the scales reshape to, after
            one number was repeated for every matrix.
        view: The layer as its blocks see it.
    """

    stack: tuple[int, int, int]
    view: View

    def spread(self, stored: Tensor) -> Tensor:
        """Return one number a block: (block rows of all matrices, block columns)."""
        count, rows, cols = self.stack
        whole = stored.reshape(1, 1, 1).expand(self.stack) if stored.numel() == 1 else stored
        return whole.reshape(count * rows, cols).contiguous()


def find_blocks(
    shape: tuple[int, ...], scale_shape: tuple[int, ...], facts: dict[str, Fact] | None = None
) -> Blocks | None:
    """Return the blocks that scales of ``scale_shape`` cut a layer of ``shape`` into.

    Args:
        shape: Of the layer, 1 to 3 dimensions.
        scale_shape: Of the stored scales: one number; one a row or a matrix; one a block, also
            with a dimension of one behind each of two (ModelOpt).
        facts: `BLOCK_ROWS`, `BLOCK_COLS` and `WHOLE_GROUPS` where they are known.

    Returns:
        None if they do not fit, or if blocks of several sizes would do.
    """
    known = facts or {}
    try:
        count, rows, cols = stack_shape(shape)
    except CheckpointError:
        return None
    stack = _stack_of(shape, scale_shape)
    if stack is None or 0 in {count, rows, cols}:
        return None
    block_rows = _block_size(rows, stack[1], known.get(BLOCK_ROWS), is_whole=False)
    if known.get(WHOLE_GROUPS) and (stack[2] == 0 or cols % stack[2]):
        return None
    is_whole = bool(known.get(WHOLE_GROUPS)) or stack[1] == rows > 1
    block_cols = _block_size(cols, stack[2], known.get(BLOCK_COLS), is_whole=is_whole)
    if block_rows is None or block_cols is None:
        return None
    view = View(
        num_matrices=count, rows=rows, cols=cols, block_rows=block_rows, block_cols=block_cols
    )
    return Blocks(stack=stack, view=view)


def _stack_of(shape: tuple[int, ...], scale: tuple[int, ...]) -> tuple[int, int, int] | None:
    count, rows, cols = stack_shape(shape)
    if torch.Size(scale).numel() == 1:
        return count, 1, 1
    if len(shape) == 3:
        return _stack_of_matrices((count, rows, cols), scale)
    match len(shape), scale:
        case 1, (num_blocks,):
            return 1, 1, num_blocks
        case 2, (num_rows,) if num_rows == rows:
            return 1, rows, 1
        case 2, (block_rows, block_cols) | (block_rows, 1, block_cols, 1):
            return 1, block_rows, block_cols
        case _:
            return None


def _stack_of_matrices(
    shape: tuple[int, int, int], scale: tuple[int, ...]
) -> tuple[int, int, int] | None:
    count, rows, cols = shape
    if not scale or scale[0] != count:
        return None
    match scale[1:]:
        case () | (1,):
            return count, 1, 1
        case (num,) if rows != cols:  # else it could be one a row or one a column
            return {rows: (count, rows, 1), cols: (count, 1, cols)}.get(num)
        case (block_rows, block_cols):
            return count, block_rows, block_cols
        case _:
            return None


def _block_size(size: int, num_blocks: int, known: Fact, *, is_whole: bool) -> int | None:
    """Return the size of ``num_blocks`` blocks, the last one maybe short; None if it is unsure.

    Args:
        size: Of what is cut.
        num_blocks: Into how many.
        known: The block size that the configuration gives; used if it gives as many blocks.
        is_whole: Whether blocks are likely to be equally long.
    """
    if isinstance(known, int) and known > 0 and -(-size // known) == num_blocks:
        return min(known, size)
    if num_blocks < 1 or num_blocks > size:
        return None
    if num_blocks == 1 or (is_whole and size % num_blocks == 0):
        return size // num_blocks
    smallest = -(-size // num_blocks)
    largest = -(-size // (num_blocks - 1)) - 1
    power = 1 << (smallest - 1).bit_length()
    if smallest in {largest, power}:
        return smallest if -(-size // smallest) == num_blocks else None
    is_cut_off = size % num_blocks != 0 and _SMALLEST_CUT_OFF <= power <= largest
    return power if is_cut_off else None


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
    blocks = require_blocks(layer, scale)
    scales = Scales(values=blocks.spread(read_scale(scale)), view=blocks.view)
    return multiply_out(layer, fmt, ordinals, scales)


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
