"""Which matrices a layer holds, and which layers hold none.

A spectrum belongs to a matrix, and a layer is a tensor of any shape. The rules are:

    2-D                          the matrix itself
    3-D, last dimension <= 16    a 1-D convolution: (out, in * k)
    3-D, otherwise               a stack of matrices (fused experts), one each
    4-D, 5-D                     a convolution: (out, everything else)

Everything else has no matrix, and a reason that says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Final

import torch
from jaxtyping import Shaped
from torch import Tensor

MAX_CONV1D_KERNEL: Final = 16
"""A last dimension up to this is the kernel of a 1-D convolution, above it the columns."""

WEIGHT_DTYPES: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Dtypes whose stored numbers are the weights themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixPlan:
    """The matrices of one layer: ``num_matrices`` of shape (``rows``, ``cols``)."""

    num_matrices: int
    rows: int
    cols: int


def matrix_shapes(shape: tuple[int, ...]) -> MatrixPlan | str:
    """Return the matrices that a layer of this shape holds, or the reason why it holds none."""
    if 0 in shape:
        return "empty: a layer without weights has no spectrum"
    match shape:
        case () | (_,):
            return f"{len(shape)}-D: a {'vector' if shape else 'number'} has no spectrum"
        case (rows, cols):
            return MatrixPlan(num_matrices=1, rows=rows, cols=cols)
        case (count, rows, cols) if cols > MAX_CONV1D_KERNEL:
            return MatrixPlan(num_matrices=count, rows=rows, cols=cols)
        case (out, *others) if len(others) <= 4:
            return MatrixPlan(num_matrices=1, rows=out, cols=prod(others))
        case _:
            return f"{len(shape)}-D: no rule says which matrix this is"


def matrices(tensor: Shaped[Tensor, "..."]) -> Iterator[Shaped[Tensor, "rows cols"]]:
    """Yield the matrices of a layer in order, as views where its memory allows.

    Raises:
        ValueError: The shape holds no matrix; ask `matrix_shapes` first.
    """
    plan = matrix_shapes(tuple(tensor.shape))
    if isinstance(plan, str):
        msg = f"shape {tuple(tensor.shape)}: holds no matrix, expected 2 to 5 dimensions ({plan})"
        raise ValueError(msg)  # noqa: TRY004  # the shape is wrong, not the type
    yield from tensor.reshape(plan.num_matrices, plan.rows, plan.cols).unbind(0)


def weightless_reason(dtype: torch.dtype) -> str | None:
    """Say why numbers stored in this dtype are not weights to measure; None if they are.

    Codes of 8 bits and fewer mean nothing without their scales: reading them as values
    multiplies every norm by 1/scale. Whoever has the scales decodes first.
    """
    if dtype in WEIGHT_DTYPES:
        return None
    name = str(dtype).removeprefix("torch.")
    if name.startswith("float"):
        return f"{name}: codes without their scale: a norm read from them is wrong by 1/scale"
    if name.startswith(("complex", "chalf", "cfloat", "cdouble")):
        return f"{name}: complex numbers are not weights that this can measure"
    return f"{name}: not floating-point numbers, so not weights by themselves"
