"""Gram matrices and their eigenvalues by compiled loops, where numba is installed.

The same numbers as from BLAS and LAPACK, but for the last digits, and inside the same bounds. The
products run at the speed of a general product, where those of BLAS for symmetric ones do not;
the eigenvalues of up to `MAX_COLUMNS` columns take two thirds of the time.

numba is an extra (``pip install altgrad-inspect[fast]``). Compiling takes seconds once and is
kept on disk, so only large runs use it (`worth_compiling_spectra`). What is used is decided by
the size of the run alone, since the last digits depend on it.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

MIN_SECONDS: Final = 3.0
"""Estimated seconds of spectra in a run from which the kernels pay for their start.

They save a third of it. Starting takes half a second, and 8 s more the first time."""

MAX_COLUMNS: Final = 2048
"""Beyond, the reduction waits for memory, and one in two stages, which LAPACK has, is faster."""

BLOCK_ROWS: Final = 256
"""So many rows of two panels stay in the first-level cache."""

_LANES: Final = 8
"""As of the kernels, which are not imported before they are needed."""


def worth_compiling_spectra(seconds: float) -> bool:
    """Whether a run with so many estimated seconds of spectra should use the kernels."""
    return seconds >= MIN_SECONDS and find_spec("numba") is not None


class CompiledProducts:
    """Adds up B^T B over blocks of rows.

    Args:
        num_columns: n.
        num_rows: The most rows in a block.
    """

    def __init__(self, num_columns: int, num_rows: int) -> None:
        padded = _pad(num_columns)
        self._products: NDArray[np.float64] = np.zeros((padded, padded))
        self._panels: NDArray[np.float64] = np.empty(padded * num_rows)
        self._num_columns = num_columns
        self._add: Any = import_module("altgrad_inspect.metrics.gram_compiled").add_products

    def add(self, block: Float[Tensor, "rows n"]) -> None:
        """Add the products of one block, in float64 on the CPU, stored by rows or by columns."""
        is_transposed = block.stride(0) < block.stride(1)
        stored = block.mT if is_transposed else block
        self._add(stored.numpy(), is_transposed, self._panels, self._products)

    def total(self) -> Float[Tensor, "n n"]:
        """The sum; only its upper triangle is of use."""
        return torch.from_numpy(self._products)[: self._num_columns, : self._num_columns]


def find_eigenvalues_compiled(matrix: Float[Tensor, "n n"]) -> Float[Tensor, " n"] | None:
    """Find the eigenvalues of a symmetric matrix.

    Args:
        matrix: In float64 on the CPU, of which the upper triangle is read; not changed. Its
            numbers must be of a size that can be squared.

    Returns:
        All eigenvalues, ascending; None if the method did not converge.
    """
    reduce = import_module("altgrad_inspect.metrics.tridiagonal_compiled").reduce
    find = import_module("altgrad_inspect.metrics.eigenvalues_compiled").find
    num_columns = len(matrix)
    # Rows that lie a power of two apart would crowd into the same few places of the cache.
    side = _pad(num_columns + 1) if num_columns % 64 == 0 else _pad(num_columns)
    padded = np.zeros((side, side))
    padded[:num_columns, :num_columns] = matrix.numpy()
    diagonal, off_diagonal = np.empty(num_columns), np.empty(num_columns)
    reduce(padded, num_columns, diagonal, off_diagonal)
    if not find(diagonal, off_diagonal):
        return None
    diagonal.sort()
    return torch.from_numpy(diagonal)


def _pad(num_columns: int) -> int:
    return -(-num_columns // _LANES) * _LANES
