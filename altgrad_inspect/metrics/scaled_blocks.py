"""A matrix read along its longer side, in blocks of rows in float64, times a power of two.

Squares of what it yields neither overflow nor underflow if the power is chosen for that, and
memory is that of one block.
"""

import math
from collections.abc import Iterator
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

MAX_ONE_STEP_EXPONENT: Final = 1000
"""2**1000 is a float64, and what is left of any exponent after it is one too."""


def orient_tall(matrix: Tensor) -> Tensor:
    """Return the matrix or its transpose, as a view with at least as many rows as columns."""
    return matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT


def scaled_blocks(
    tall: Tensor, *, exponent: int, block_rows: int
) -> Iterator[Float[Tensor, "block n"]]:
    """Yield blocks of rows in float64, times 2**exponent, in one buffer that is used again.

    Args:
        tall: (rows, n), of any float dtype, on any device; not changed.
        exponent: Of the power of two, of any size.
        block_rows: The most rows in a block, at least 1.
    """
    num_rows, num_columns = tall.shape
    size = min(block_rows, num_rows)
    if tall.stride(0) >= tall.stride(1):
        buffer = torch.empty((size, num_columns), dtype=torch.float64, device=tall.device)
    else:  # the transpose of a stored wide matrix: copy along its rows
        buffer = torch.empty((num_columns, size), dtype=torch.float64, device=tall.device).mT
    for start in range(0, num_rows, size):
        rows = tall[start : start + size]
        yield scale_(buffer[: len(rows)].copy_(rows), exponent)


def scale_(tensor: Tensor, exponent: int) -> Tensor:
    """Multiply in place by 2**exponent, which may itself be too large for a float64."""
    if exponent == 0:
        return tensor
    first = max(min(exponent, MAX_ONE_STEP_EXPONENT), -MAX_ONE_STEP_EXPONENT)
    tensor.mul_(math.ldexp(1.0, first))
    return tensor.mul_(math.ldexp(1.0, exponent - first)) if exponent != first else tensor
