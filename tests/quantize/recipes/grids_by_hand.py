"""Rounding onto number formats in numpy, without the package: tables, and a search in float64."""

from collections.abc import Callable
from typing import Any, Final

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
"""float32, unless it says so."""
Ordinals = NDArray[Any]
"""Whole numbers."""
Round = Callable[[Floats], Ordinals]
"""From weights on the grid to ordinals."""


def _table(dtype: type, count: int) -> NDArray[np.float64]:
    return np.arange(count, dtype=np.uint8).view(dtype).astype(np.float64)


TABLES: Final = {
    "e4m3": _table(ml_dtypes.float8_e4m3fn, 127),
    "e5m2": _table(ml_dtypes.float8_e5m2, 124),
    "e2m3": _table(ml_dtypes.float6_e2m3fn, 32),
    "e3m2": _table(ml_dtypes.float6_e3m2fn, 32),
    "e2m1": _table(ml_dtypes.float4_e2m1fn, 8),
}
"""Values from zero on."""


def rounder(element: str, ties: str = "even") -> Round:
    """Nearest value, saturating; ties ``even``, towards ``zero`` or ``away`` from it."""
    values = TABLES[element]
    middles = (values[1:] + values[:-1]) / 2

    def run(scaled: Floats) -> Ordinals:
        magnitude = np.minimum(np.abs(scaled.astype(np.float64)), values[-1])
        low = np.searchsorted(middles, magnitude, side="left")  # a tie stays below
        high = np.searchsorted(middles, magnitude, side="right")
        codes = {"zero": low, "away": high, "even": np.where(low % 2 == 0, low, high)}[ties]
        return np.asarray(np.where(scaled < 0, -codes, codes))

    return run


def largest(element: str) -> np.float32:
    return np.float32(TABLES[element][-1])


def to_e4m3(values: Floats) -> Floats:
    """Rounded to E4M3, as values."""
    return values.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)


def reduce_blocks(weights: Floats, shape: tuple[int, int], ufunc: np.ufunc) -> Floats:
    """``ufunc`` over every block; short blocks at the edges are blocks of their own."""
    rows, cols = (range(0, size, step) for size, step in zip(weights.shape, shape, strict=True))
    by_row = ufunc.reduceat(weights, list(rows), axis=0)
    return np.asarray(ufunc.reduceat(by_row, list(cols), axis=1))


def amax_of(weights: Floats, shape: tuple[int, int]) -> Floats:
    return reduce_blocks(np.abs(weights), shape, np.maximum)


def spread(blocks: Floats, shape: tuple[int, int], size: tuple[int, int]) -> Floats:
    """One number a weight from one a block."""
    return np.repeat(np.repeat(blocks, shape[0], 0), shape[1], 1)[: size[0], : size[1]]
