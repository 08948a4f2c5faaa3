"""The eigenvalues of a Gram matrix, by the solver that is fastest for its size and its place."""

from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from altgrad_inspect.metrics import spectrum_kernel
from altgrad_inspect.metrics.solver_place import placed_for_solver
from altgrad_inspect.metrics.spectrum_kernel import find_eigenvalues_compiled

MAX_NUMPY_COLUMNS: Final = 1024
"""Up to here the eigenvalues come from numpy (OpenBLAS), up to 1.8 times faster than torch (MKL) on
AMD and as fast on Intel; above, torch reduces large matrices in two stages."""


def find_eigenvalues(
    gram: Float[Tensor, "n n"], *, compiled: bool = False
) -> Float[Tensor, " n"] | None:
    """Return all eigenvalues, descending and on the CPU; None if the solver does not converge.

    Args:
        gram: In float64, of which the upper triangle is read; not changed.
        compiled: Whether to use the compiled loops where they apply; needs numba.
    """
    with placed_for_solver(gram) as placed:
        num_columns = len(placed)
        ascending = None
        if compiled and not placed.is_cuda and num_columns <= spectrum_kernel.MAX_COLUMNS:
            ascending = find_eigenvalues_compiled(placed)
        if ascending is None:
            ascending = _find_by_lapack(placed)
    if ascending is None or not bool(torch.isfinite(ascending).all()):
        return None
    return ascending.flip(0)


def _find_by_lapack(gram: Tensor) -> Tensor | None:
    try:
        if gram.is_cuda or len(gram) > MAX_NUMPY_COLUMNS:
            eigenvalues: Tensor = torch.linalg.eigvalsh(gram, UPLO="U").cpu()
            return eigenvalues
        return torch.from_numpy(np.linalg.eigvalsh(gram.numpy(), UPLO="U"))
    except (np.linalg.LinAlgError, torch.linalg.LinAlgError):  # type: ignore[attr-defined]
        return None
