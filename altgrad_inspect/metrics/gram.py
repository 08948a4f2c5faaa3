"""The Gram matrix of a layer in float64, block by block, without a float64 copy of the layer.

Products of two float32 or narrower numbers are exact in float64, so only their summation rounds.
Every way adds up the products of one block of rows on their own, and then adds them to the sum:
one sum row after row would round far worse.
"""

import math
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from altgrad_inspect.metrics import spectrum_kernel
from altgrad_inspect.metrics.freed_memory import keep_freed_memory
from altgrad_inspect.metrics.scaled_blocks import orient_tall, scale_, scaled_blocks
from altgrad_inspect.metrics.spectrum_kernel import CompiledProducts

CPU_BLOCK_ROWS: Final = 512
"""A block of so many rows in float64 stays in the cache while it is multiplied."""

CUDA_BLOCK_ROWS: Final = 2048
"""A GPU needs larger products than a cache would hold; the bound grows with them."""

NUM_COLUMN_BLOCKS: Final = 8
"""Blocks of columns from the diagonal on: 9/16 of all products, in pieces still large enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gram:
    """W^T W of the scaled matrix, oriented so that it is as small as possible.

    Attributes:
        matrix: In float64, on the device of the weights; at least its upper triangle.
        num_additions: Bound on the roundings that a product in it goes through.
    """

    matrix: Float[Tensor, "n n"]
    num_additions: int


class _Products(Protocol):
    """Adds up B^T B over blocks of rows."""

    def add(self, block: Float[Tensor, "rows n"]) -> None: ...

    def total(self) -> Float[Tensor, "n n"]: ...


def accumulate_gram(
    matrix: Float[Tensor, "rows cols"], *, exponent: int, compiled: bool = False
) -> Gram:
    """Return the Gram matrix of W * 2**exponent over its shorter side.

    Args:
        matrix: Of any float dtype, on any device; not changed.
        exponent: Of the power of two.
        compiled: Whether to use the compiled loops where they apply; needs numba.
    """
    keep_freed_memory()
    tall = orient_tall(matrix)
    num_columns = tall.shape[1]
    products: _Products
    if matrix.is_cuda:
        block_rows, products = CUDA_BLOCK_ROWS, _CudaProducts(num_columns, matrix.device)
    elif compiled:
        block_rows = spectrum_kernel.BLOCK_ROWS
        products = CompiledProducts(num_columns, min(block_rows, len(tall)))
    else:
        block_rows, products = CPU_BLOCK_ROWS, _NumpyProducts(num_columns)
    # Squares of narrower dtypes fit in float64 as they are, and n * n numbers are fewer.
    scale_first = matrix.dtype == torch.float64
    block_exponent = exponent if scale_first else 0
    for block in scaled_blocks(tall, exponent=block_exponent, block_rows=block_rows):
        products.add(block)
    gram = products.total()
    return Gram(
        matrix=gram if scale_first else scale_(gram, 2 * exponent),
        num_additions=count_additions(len(tall), block_rows=block_rows, dtype=matrix.dtype),
    )


def count_additions(num_rows: int, *, block_rows: int, dtype: torch.dtype) -> int:
    """Bound the additions, and the other roundings, that a product in the Gram matrix goes through.

    The other ones, all of which only float64 has: of the product itself, and of its two
    factors where the matrix is a difference of stored ones.
    """
    other = 3 if dtype == torch.float64 else 1
    return min(num_rows, block_rows) + math.ceil(num_rows / block_rows) + other


class _NumpyProducts:
    """By numpy, which knows that the product is symmetric and does half of the work."""

    def __init__(self, num_columns: int) -> None:
        self._product = np.empty((num_columns, num_columns))
        self._gram = torch.zeros((num_columns, num_columns), dtype=torch.float64)

    def add(self, block: Tensor) -> None:
        rows = block.numpy()
        self._gram.add_(torch.from_numpy(np.dot(rows.T, rows, out=self._product)))

    def total(self) -> Tensor:
        return self._gram


class _CudaProducts:
    """The upper triangle, in blocks of columns from the diagonal on."""

    def __init__(self, num_columns: int, device: torch.device) -> None:
        self._gram = torch.zeros((num_columns, num_columns), dtype=torch.float64, device=device)

    def add(self, block: Tensor) -> None:
        num_columns = block.shape[1]
        width = max(math.ceil(num_columns / NUM_COLUMN_BLOCKS), 64)
        for start in range(0, num_columns, width):
            stop = min(start + width, num_columns)
            products = block[:, start:stop].mT @ block[:, start:]
            self._gram[start:stop, start:].add_(products)

    def total(self) -> Tensor:
        return self._gram
