"""Scales: which weights share one, and how weights are brought onto the grid with them.

Everything is float32, as in the training stacks. A weight is encoded as round(fl32(w / s)), a
true division, unless a recipe says that its source multiplies. How scales follow from the
weights is in ``altgrad_inspect.quantize.rules``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float32, Int16, Int64, Integer
from torch import Tensor

from altgrad_inspect.formats import ElementFormat
from altgrad_inspect.quantize.grids import encode_ordinals, nan_ordinal
from altgrad_inspect.quantize.quantizer import Quantizer, Ties

TILE_WEIGHTS = 1 << 17
"""Weights worked on at a time on the CPU, so that temporaries stay in the cache."""

TILE_WEIGHTS_CUDA = 1 << 24
"""The same on a GPU, where launches cost more than memory."""


def tile_weights(device: torch.device) -> int:
    """Weights to work on at a time on ``device``."""
    return TILE_WEIGHTS_CUDA if device.type == "cuda" else TILE_WEIGHTS


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A layer as its quantizer sees it: ``num_matrices`` matrices on top of each other.

    Blocks never reach from one matrix of a stack into the next; ragged edges are blocks
    of their own.

    Attributes:
        num_matrices: Matrices in the stack, at least 1.
        rows: Rows of each.
        cols: Columns of each.
        block_rows: Rows that share a scale; None for one scale over the whole layer.
        block_cols: Columns that share a scale.
    """

    num_matrices: int
    rows: int
    cols: int
    block_rows: int | None
    block_cols: int

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the 2-D view: all rows of all matrices, columns."""
        return self.num_matrices * self.rows, self.cols

    @property
    def num_blocks(self) -> tuple[int, int]:
        """Shape of one number a block: block rows of all matrices, block columns."""
        if self.block_rows is None:
            return 1, 1
        blocks_per_matrix = -(-self.rows // self.block_rows)
        return self.num_matrices * blocks_per_matrix, -(-self.cols // self.block_cols)


def view_for(quantizer: Quantizer, *, num_matrices: int, rows: int, cols: int) -> View:
    """How ``quantizer`` looks at a layer of ``num_matrices`` matrices of rows x cols."""
    granularity = quantizer.granularity
    if granularity.kind in {"tensor", "flat"}:
        num_weights = num_matrices * rows * cols
        is_flat = granularity.kind == "flat"
        return View(
            num_matrices=1,
            rows=1,
            cols=num_weights,
            block_rows=1 if is_flat else None,
            block_cols=max(1, min(granularity.block_cols or num_weights, num_weights)),
        )
    return View(
        num_matrices=num_matrices,
        rows=rows,
        cols=cols,
        block_rows=max(1, min(granularity.block_rows or rows, rows)),
        block_cols=max(1, min(granularity.block_cols or cols, cols)),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scales:
    """The scales of one layer at one checkpoint.

    All tensors but ``col_blocks`` have one element a block: (block rows of all matrices,
    block columns), on one device.

    Attributes:
        values: float32; a weight is about the value of its ordinal times this.
        view: Which weights each of them covers.
        multipliers: float32; what weights are multiplied by before they are rounded, where
            the source multiplies. None: they are divided by ``values``.
        shifts: float32; subtracted from weights before anything else, where the source does.
        offsets: float32; added before rounding, where a zero point lies between two codes:
            then a weight is about (value of its ordinal - offset) times its scale.
        zeros: int16; subtracted from the codes that rounding gives, where the source adds the
            zero point before: the float32 sum is not that of an ordinal.
        lowest: int16; the smallest ordinal that has a code, where a zero point decides; None
            for that of the format.
        highest: int16; the largest, likewise.
        col_blocks: int64, (columns,): the block column of every column, where blocks are not
            runs of columns.
        amax: float32; largest magnitudes that the scales of the *next* checkpoint follow from,
            for rules that look back.
    """

    values: Float32[Tensor, "block_rows block_cols"]
    view: View
    multipliers: Float32[Tensor, "block_rows block_cols"] | None = None
    shifts: Float32[Tensor, "block_rows block_cols"] | None = None
    offsets: Float32[Tensor, "block_rows block_cols"] | None = None
    zeros: Int16[Tensor, "block_rows block_cols"] | None = None
    lowest: Int16[Tensor, "block_rows block_cols"] | None = None
    highest: Int16[Tensor, "block_rows block_cols"] | None = None
    col_blocks: Int64[Tensor, " cols"] | None = None
    amax: Float32[Tensor, "block_rows block_cols"] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether weights are divided by ``values`` and rounded, and nothing else."""
        extras = (self.multipliers, self.shifts, self.offsets, self.zeros, self.lowest)
        return self.col_blocks is None and all(extra is None for extra in extras)

    def row_blocks(self, rows: slice) -> Int64[Tensor, " rows"]:
        """The row of `values` that covers each of ``rows`` of the 2-D view."""
        index = torch.arange(rows.start, rows.stop, device=self.values.device)
        if self.view.block_rows is None:
            return torch.zeros_like(index)
        blocks_per_matrix = self.values.shape[0] // self.view.num_matrices
        matrix, row = index // self.view.rows, index % self.view.rows
        return matrix * blocks_per_matrix + row // self.view.block_rows

    def tile(self, rows: slice, cols: slice) -> Float32[Tensor, "_ _"]:
        """The scales of a tile of the 2-D view; broadcasts against it."""
        return self.pick(self.values, rows, cols)

    def pick(self, blocks: Tensor, rows: slice, cols: slice) -> Tensor:
        """Of a tensor with one element a block, those of a tile; broadcasts against it."""
        if self.view.block_rows is None:
            return blocks
        picked = blocks[self.row_blocks(rows)]
        if blocks.shape[1] == 1:
            return picked
        if self.col_blocks is not None:
            return picked[:, self.col_blocks[cols]]
        width = self.view.block_cols
        if width > cols.stop - cols.start:
            col_index = torch.arange(cols.start, cols.stop, device=blocks.device)
            return picked[:, col_index // width]
        first, last = cols.start // width, -(-cols.stop // width)  # repeating is 20 times faster
        repeated = picked[:, first:last].repeat_interleave(width, dim=1)
        return repeated[:, cols.start - first * width : cols.stop - first * width]

    def scale_down(
        self, weights: Float32[Tensor, "rows cols"], rows: slice, cols: slice
    ) -> Float32[Tensor, "rows cols"]:
        """Bring the weights of a tile onto the grid: what is rounded next."""
        if self.shifts is not None:
            weights = weights - self.pick(self.shifts, rows, cols)
        if self.multipliers is not None:
            scaled = weights * self.pick(self.multipliers, rows, cols)
        else:
            scaled = weights / self.tile(rows, cols)
        if self.offsets is not None:
            scaled += self.pick(self.offsets, rows, cols)
        return scaled

    def encode(
        self,
        scaled: Float32[Tensor, "rows cols"],
        fmt: ElementFormat,
        at: tuple[slice, slice],
        *,
        ties: Ties = Ties.EVEN,
        may_hold_nan: bool = True,
    ) -> Integer[Tensor, "rows cols"]:
        """Round what `scale_down` gave for the tile ``at`` onto ``fmt``; returns ordinals."""
        ordinals = encode_ordinals(scaled, fmt, ties=ties, may_hold_nan=may_hold_nan)
        if self.lowest is None or self.highest is None:
            return ordinals
        inside = ordinals.short()
        if self.zeros is not None:
            inside -= self.pick(self.zeros, *at)
        inside = torch.maximum(inside, self.pick(self.lowest, *at))
        inside = torch.minimum(inside, self.pick(self.highest, *at)).to(ordinals.dtype)
        return torch.where(ordinals == nan_ordinal(fmt), ordinals, inside)

    def cpu(self) -> "Scales":
        """Return the same on the CPU."""
        moved: dict[str, Any] = {
            one.name: tensor.cpu()
            for one in fields(self)
            if isinstance(tensor := getattr(self, one.name), Tensor)
        }
        return replace(self, **moved)

    def equals(self, other: "Scales") -> bool:
        """Whether both give every weight the same code."""
        return self.view == other.view and not bool(self.differs_from(other).any())

    def differs_from(self, other: "Scales") -> Bool[Tensor, "block_rows block_cols"]:
        """Which blocks have other bits in their scale or zero point."""
        differs = self.values.view(torch.int32) != other.values.view(torch.int32)
        for name in ("multipliers", "shifts", "zeros", "lowest"):
            mine, others = getattr(self, name), getattr(other, name)
            if mine is not None and others is not None:
                differs |= mine != others
        if self.offsets is not None or other.offsets is not None:
            differs |= _offsets(self) != _offsets(other)
        return differs


def _offsets(scales: Scales) -> Float32[Tensor, "block_rows block_cols"]:
    return torch.zeros_like(scales.values) if scales.offsets is None else scales.offsets


def tiles(view: View, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Cut the 2-D view into tiles of about `tile_weights` weights, row by row."""
    num_rows, num_cols = view.shape
    budget = tile_weights(device)
    step_cols = min(num_cols, budget) or 1
    step_rows = max(1, budget // step_cols)
    for row in range(0, num_rows, step_rows):
        for col in range(0, num_cols, step_cols):
            yield (
                slice(row, min(row + step_rows, num_rows)),
                slice(col, min(col + step_cols, num_cols)),
            )
