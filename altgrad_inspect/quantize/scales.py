"""Scales: which weights share one, and how it follows from them.

Everything is float32, as in the training stacks: ``amax`` gives fl32(amax / max) and a
weight is encoded as round(fl32(w / s)), a true division, never a product with 1/s.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from altgrad_inspect.quantize.spec import Quantizer, ScaleRule

SMALLEST_SCALE = 2.0**-126
"""Smallest normal float32; a smaller quotient is raised to it."""

UNSCALED_MAX = 2.0**127
"""Formats that reach this far hold every float32 as it is: their amax scale is 1."""

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


def view_for(quantizer: Quantizer, *, num_matrices: int, rows: int, cols: int) -> View:
    """How ``quantizer`` looks at a layer of ``num_matrices`` matrices of rows x cols."""
    granularity = quantizer.granularity
    if granularity.kind == "tensor":
        return View(
            num_matrices=1,
            rows=1,
            cols=num_matrices * rows * cols,
            block_rows=None,
            block_cols=max(1, num_matrices * rows * cols),
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

    Attributes:
        values: float32, (block rows of all matrices, block columns), normal and above 0.
        view: Which weights each of them covers.
    """

    values: Float32[Tensor, "block_rows block_cols"]
    view: View

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
        if self.view.block_rows is None:
            return self.values
        picked = self.values[self.row_blocks(rows)]
        if self.values.shape[1] == 1:
            return picked
        width = self.view.block_cols
        if width > cols.stop - cols.start:
            col_index = torch.arange(cols.start, cols.stop, device=self.values.device)
            return picked[:, col_index // width]
        first, last = cols.start // width, -(-cols.stop // width)  # repeating is 20 times faster
        repeated = picked[:, first:last].repeat_interleave(width, dim=1)
        return repeated[:, cols.start - first * width : cols.stop - first * width]


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


def fit_scales(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:
    """Choose the scales of ``weights``, given as the 2-D ``view`` of the layer.

    amax is over the finite weights; without a finite non-zero one the scale is 1.
    """
    if weights.numel() == 0 or quantizer.rule in {ScaleRule.NONE, ScaleRule.FIXED}:
        values = torch.full(_grid_shape(view), quantizer.fixed_scale or 1.0, dtype=torch.float32)
        return Scales(values=values.to(weights.device), view=view)
    amax = _block_amax(weights, view)
    if quantizer.fmt.max >= UNSCALED_MAX:
        return Scales(values=torch.ones_like(amax), view=view)
    scales = (amax / quantizer.fmt.max).clamp_(min=SMALLEST_SCALE)
    if quantizer.rule is ScaleRule.POW2:
        mantissa, exponent = torch.frexp(scales)
        exponent = torch.where(mantissa == 0.5, exponent - 1, exponent)  # up, unless exact
        scales = torch.ldexp(torch.ones_like(scales), exponent)
    return Scales(values=torch.where(amax == 0, 1.0, scales), view=view)


def _grid_shape(view: View) -> tuple[int, int]:
    if view.block_rows is None:
        return 1, 1
    blocks_per_matrix = -(-view.rows // view.block_rows)
    return view.num_matrices * blocks_per_matrix, -(-view.cols // view.block_cols)


def _block_amax(weights: Float[Tensor, "rows cols"], view: View) -> Float32[Tensor, "_ _"]:
    """Largest finite magnitude in every block, float32."""
    if view.block_rows is None:
        return _tensor_amax(weights, view)
    num_rows = weights.shape[0]
    step = max(1, tile_weights(weights.device) // max(1, view.cols))
    parts = [
        _amax_along_cols(weights[row : row + step], view.block_cols)
        for row in range(0, num_rows, step)
    ]
    by_row = torch.cat(parts).reshape(view.num_matrices, view.rows, -1)
    missing = -view.rows % view.block_rows
    padded = torch.nn.functional.pad(by_row, (0, 0, 0, missing))  # 0 is neutral: amax >= 0
    blocks = padded.reshape(view.num_matrices, -1, view.block_rows, by_row.shape[-1])
    return blocks.amax(dim=2).reshape(-1, by_row.shape[-1])


def _tensor_amax(weights: Float[Tensor, "rows cols"], view: View) -> Float32[Tensor, "1 1"]:
    amax = torch.zeros((1, 1), device=weights.device)
    for rows, cols in tiles(view, weights.device):
        low, high = torch.aminmax(weights[rows, cols])
        largest = torch.maximum(-low, high).float()
        if not bool(torch.isfinite(largest)):  # NaN spreads through aminmax
            largest = _finite_magnitudes(weights[rows, cols]).amax()
        amax = torch.maximum(amax, largest)
    return amax


def _finite_magnitudes(weights: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
    magnitudes = weights.abs().float()
    return torch.where(torch.isfinite(magnitudes), magnitudes, 0.0)


def _amax_along_cols(
    weights: Float[Tensor, "rows cols"], block_cols: int
) -> Float32[Tensor, "rows blocks"]:
    num_rows, num_cols = weights.shape
    missing = -num_cols % block_cols
    padded = torch.nn.functional.pad(weights, (0, missing)) if missing else weights
    largest = _largest_magnitudes(padded.reshape(num_rows, -1, block_cols)).float()
    if bool(torch.isfinite(largest).all()):
        return largest
    return _finite_magnitudes(padded).reshape(num_rows, -1, block_cols).amax(dim=2)


def _largest_magnitudes(blocks: Float[Tensor, "rows blocks cols"]) -> Float[Tensor, "rows blocks"]:
    """Largest magnitude of every block; not finite where one of its weights is not."""
    if blocks.element_size() > 4:
        low, high = torch.aminmax(blocks, dim=2)
        return torch.maximum(-low, high)
    # The bits of magnitudes are in the order of their values, infinity and NaN on top, and
    # integers are reduced several times faster than floats, where NaN is watched for.
    bits = blocks.view(torch.int16 if blocks.element_size() == 2 else torch.int32)
    magnitudes = bits.bitwise_and(torch.iinfo(bits.dtype).max)
    return magnitudes.amax(dim=2).view(blocks.dtype)
