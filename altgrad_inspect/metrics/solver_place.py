"""Where the decompositions of small square matrices run, when the weights are on a GPU.

**Unmeasured**: the thresholds follow what is known of the solvers (a reduction to tridiagonal form
is a chain of small kernels, which a GPU fills only from about a thousand columns on, and a few
of them side by side fill it better), not a timing of ours; `tests/benchmarks/gpu.py` prints
the table to choose them from. Many matrices of one shape are not batched: below the threshold
every worker solves its own on the CPU, which is one thread a core, and there a batch gains
nothing from 128 columns on.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor

LEAST_COLUMNS_ON_GPU: Final = 1024
"""Narrower matrices are solved on the CPU, in the thread of the worker that has them."""

MOST_SOLVERS_ON_GPU: Final = 4
"""Workers that solve on the GPU at once, each on its own stream; the others wait."""

_turns = threading.BoundedSemaphore(MOST_SOLVERS_ON_GPU)


def choose_solver_device(num_columns: int, device: torch.device) -> torch.device:
    """Return where to decompose a matrix of so many columns that is on ``device``."""
    if device.type == "cuda" and num_columns >= LEAST_COLUMNS_ON_GPU:
        return device
    return torch.device("cpu")


@contextmanager
def placed_for_solver(matrix: Tensor) -> Iterator[Tensor]:
    """Give the matrix, of shape (rows, n), where it should be decomposed, when it is its turn."""
    device = choose_solver_device(matrix.shape[1], matrix.device)
    if device.type == "cpu":
        yield matrix.cpu()  # the matrix itself if it is there already
        return
    with _turns:
        yield matrix
