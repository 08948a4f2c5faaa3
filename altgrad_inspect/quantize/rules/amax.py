"""Scales from the largest magnitude of a block: amax / max, or that as a power of two."""

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from altgrad_inspect.quantize.quantizer import Quantizer
from altgrad_inspect.quantize.scales import Scales, View, tile_weights, tiles

SMALLEST_SCALE = 2.0**-126
"""Smallest normal float32; a smaller quotient is raised to it."""

UNSCALED_MAX = 2.0**127
"""Formats that reach this far hold every float32 as it is: their amax scale is 1."""


def fit_unscaled(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:
    """The rules ``none`` and ``fixed``: the same scale everywhere, whatever the weights."""
    values = torch.full(grid_shape(view), quantizer.fixed_scale or 1.0, dtype=torch.float32)
    return Scales(values=values.to(weights.device), view=view)


def fit_amax(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:
    """The rule ``amax``: fl32(amax / max), 1 where there is no finite weight but zero."""
    amax = find_block_amax(weights, view)
    if quantizer.fmt.max >= UNSCALED_MAX:
        return Scales(values=torch.ones_like(amax), view=view)
    scales = (amax / quantizer.fmt.max).clamp_(min=SMALLEST_SCALE)
    return Scales(values=torch.where(amax == 0, 1.0, scales), view=view)


def fit_pow2(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:
    """The rule ``pow2``: that of ``amax``, rounded up to a power of two unless it is one."""
    values = fit_amax(weights, quantizer, view).values
    mantissa, exponent = torch.frexp(values)
    exponent = torch.where(mantissa == 0.5, exponent - 1, exponent)
    return Scales(values=torch.ldexp(torch.ones_like(values), exponent), view=view)


def grid_shape(view: View) -> tuple[int, int]:
    """Blocks of a view: rows of them, columns of them."""
    if view.block_rows is None:
        return 1, 1
    blocks_per_matrix = -(-view.rows // view.block_rows)
    return view.num_matrices * blocks_per_matrix, -(-view.cols // view.block_cols)


def find_block_amax(weights: Float[Tensor, "rows cols"], view: View) -> Float32[Tensor, "_ _"]:
    """Largest finite magnitude in every block of the 2-D ``view`` of a layer; 0 if none."""
    if weights.numel() == 0:
        return torch.zeros(grid_shape(view), device=weights.device)
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
