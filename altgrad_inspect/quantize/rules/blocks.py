"""What scales are made from: smallest and largest weight and mean magnitude of every block.

All over the finite weights only. The layer is read in tiles; no copy of it is made.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from altgrad_inspect.quantize.scales import View, tile_weights, tiles

Range = tuple[Float32[Tensor, "block_rows block_cols"], Float32[Tensor, "block_rows block_cols"]]


def find_block_amax(weights: Float[Tensor, "rows cols"], view: View) -> Float32[Tensor, "_ _"]:
    """Largest finite magnitude in every block of the 2-D ``view`` of a layer; 0 if none."""
    if weights.numel() == 0:
        return torch.zeros(view.num_blocks, device=weights.device)
    if view.block_rows is None:
        return _find_largest_of_all(weights, view).view(1, 1)
    budget = tile_weights(weights.device)
    step = max(1, budget // max(1, view.cols))
    by_row = [
        torch.cat(
            [
                _find_largest(piece, dim=2)
                for piece in _split(weights[row : row + step], view.block_cols, budget)
            ],
            dim=1,
        )
        for row in range(0, weights.shape[0], step)
    ]
    return _find_largest_of_rows(torch.cat(by_row), view.num_matrices, view.rows, view.block_rows)


def _find_largest_of_all(weights: Float[Tensor, "rows cols"], view: View) -> Float32[Tensor, ""]:
    low, high = torch.aminmax(weights)
    largest = torch.maximum(-low, high).abs_().float()  # of -0 too: rules look at its bits
    if math.isfinite(float(largest)):
        return largest
    parts = [_find_largest(weights[rows, cols]) for rows, cols in tiles(view, weights.device)]
    return torch.stack(parts).amax()


def _find_largest(
    weights: Float[Tensor, "*shape"], dim: int | None = None
) -> Float32[Tensor, "*blocks"]:
    """Largest finite magnitude, 0 if there is none."""
    if weights.element_size() > 4 or dim is None:
        low, high = torch.aminmax(weights, dim=dim) if dim is not None else torch.aminmax(weights)
        largest = torch.maximum(-low, high).abs_().float()  # of -0 too: rules look at its bits
    else:
        # The bits of magnitudes are in the order of their values, infinity and NaN on top, and
        # integers are reduced several times faster than floats, where NaN is watched for.
        bits = weights.view(torch.int16 if weights.element_size() == 2 else torch.int32)
        magnitudes = bits.bitwise_and(torch.iinfo(bits.dtype).max)
        largest = magnitudes.amax(dim=dim).view(weights.dtype).float()
    if bool(torch.isfinite(largest).all()):
        return largest
    finite = weights.abs().float()
    finite = torch.where(torch.isfinite(finite), finite, 0.0)
    return finite.amax() if dim is None else finite.amax(dim)


def find_block_range(weights: Float[Tensor, "rows cols"], view: View) -> Range:
    """Smallest and largest finite weight in every block; 0 and 0 where there is none."""
    if weights.numel() == 0:
        nothing = torch.zeros(view.num_blocks, device=weights.device)
        return nothing, nothing.clone()
    if view.block_rows is None:
        parts = [_find_range(weights[rows, cols]) for rows, cols in tiles(view, weights.device)]
        lows, highs = zip(*parts, strict=True)
        low, high = torch.stack(lows).amin().view(1, 1), torch.stack(highs).amax().view(1, 1)
    else:
        low, high = _find_ranges_of_rows(weights, view)
        blocks = (view.num_matrices, view.rows, view.block_rows)
        low = -_find_largest_of_rows(-low, *blocks)
        high = _find_largest_of_rows(high, *blocks)
    nothing = low > high  # +Inf and -Inf, where no weight is finite
    return low.masked_fill(nothing, 0.0), high.masked_fill(nothing, 0.0)


def find_mean_magnitude(weights: Float[Tensor, "rows cols"], view: View) -> Float32[Tensor, ""]:
    """Mean magnitude of all finite weights, summed in float64; 0 if there is none."""
    total = torch.zeros((), dtype=torch.float64, device=weights.device)
    count = torch.zeros((), dtype=torch.int64, device=weights.device)
    for rows, cols in tiles(view, weights.device):
        magnitudes = weights[rows, cols].abs().double()
        is_finite = torch.isfinite(magnitudes)
        total += torch.where(is_finite, magnitudes, 0.0).sum()
        count += torch.count_nonzero(is_finite)
    return (total / count.clamp(min=1)).float()


def _find_range(
    weights: Float[Tensor, "*shape"], dim: int | None = None
) -> tuple[Float32[Tensor, "*blocks"], Float32[Tensor, "*blocks"]]:
    """Extremes of the finite weights, +Inf and -Inf if there is none."""
    low, high = torch.aminmax(weights, dim=dim) if dim is not None else torch.aminmax(weights)
    low, high = low.float(), high.float()
    if bool(torch.isfinite(low).all()) and bool(torch.isfinite(high).all()):
        return low, high  # NaN spreads through aminmax
    values = weights.float()
    is_finite = torch.isfinite(values)
    low = torch.where(is_finite, values, torch.inf)
    high = torch.where(is_finite, values, -torch.inf)
    return (low.amin(), high.amax()) if dim is None else (low.amin(dim), high.amax(dim))


def _find_ranges_of_rows(
    weights: Float[Tensor, "rows cols"], view: View
) -> tuple[Float32[Tensor, "rows block_cols"], Float32[Tensor, "rows block_cols"]]:
    """The extremes of every run of ``block_cols`` columns of every row."""
    parts: list[tuple[Tensor, Tensor]] = []
    budget = tile_weights(weights.device)
    step = max(1, budget // max(1, view.cols))
    for row in range(0, weights.shape[0], step):
        pieces = [
            _find_range(piece, dim=2)
            for piece in _split(weights[row : row + step], view.block_cols, budget)
        ]
        lows, highs = zip(*pieces, strict=True)
        parts.append((torch.cat(lows, dim=1), torch.cat(highs, dim=1)))
    lows, highs = zip(*parts, strict=True)
    return torch.cat(lows), torch.cat(highs)


def _split(
    weights: Float[Tensor, "rows cols"], block_cols: int, budget: int
) -> Iterator[Float[Tensor, "rows blocks block_cols"]]:
    """Yield views of whole blocks, and at last that of a short one."""
    whole = weights.shape[1] // block_cols * block_cols
    step = max(block_cols, budget // block_cols * block_cols)
    for col in range(0, whole, step):
        piece = weights[:, col : min(col + step, whole)]
        yield piece.view(len(weights), -1, block_cols)
    if whole < weights.shape[1]:
        yield weights[:, whole:].unsqueeze(1)


def _find_largest_of_rows(
    values: Float32[Tensor, "rows blocks"], num_matrices: int, rows: int, block_rows: int
) -> Float32[Tensor, "block_rows blocks"]:
    """The largest of every ``block_rows`` rows, matrix by matrix."""
    if block_rows == 1:
        return values
    by_matrix = values.reshape(num_matrices, rows, -1)
    missing = -rows % block_rows
    padded = torch.nn.functional.pad(by_matrix, (0, 0, 0, missing), value=-torch.inf)
    blocks = padded.reshape(num_matrices, -1, block_rows, values.shape[-1])
    return blocks.amax(dim=2).reshape(-1, values.shape[-1])
