"""Weights that tell recipes apart: amax around powers of two, ties, zeros, tiny and huge blocks.

Built from raw bits of a generator that is stable by contract, so that digests of what a library
made of them stay valid.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float32]

MAXIMA: Final = (448.0, 57344.0, 6.0, 7.5, 28.0, 2688.0)
"""Largest values of formats, and 6 * 448: amax / these is what rules round."""


def ordinary(rows: int, cols: int, *, seed: int) -> Weights:
    """Bell-shaped, about 0.02 wide: twelve uniform numbers of 16 bits each, summed."""
    bits = np.random.PCG64(seed)
    raw = bits.random_raw(rows * cols * 3).view(np.uint16).reshape(-1, 12)
    centred = raw.astype(np.int64).sum(axis=1) - 12 * 32768
    return np.asarray(centred.astype(np.float32) * np.float32(2.0**-22)).reshape(rows, cols)


def to_bf16(weights: Weights) -> Weights:
    """Rounded to bfloat16, nearest even, as float32."""
    bits = weights.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def boundary_amaxes(*, mild: bool = False) -> Weights:
    """Powers of two and those times every format's maximum, with their neighbours in float32."""
    exponents = np.array(
        [-127, -126, -100, -40, -20, -9, -8, -7, -3, -2, -1, 0, 1, 2, 5, 9, 40, 100]
    )
    exponents = exponents[np.abs(exponents) < 10] if mild else exponents
    powers = np.ldexp(1.0, exponents)
    exact = np.concatenate([powers, *(powers * np.float64(m) for m in MAXIMA), powers * 1.75])
    exact = np.unique(exact.astype(np.float32))
    around = [exact]
    for _ in range(3):
        around = [np.nextafter(around[0], np.float32(0)), *around]
        around.append(np.nextafter(around[-1], np.float32(np.inf)))
    return np.concatenate(around).astype(np.float32)


def blocks(
    shape: tuple[int, int], *, count: int, per_row: int, seed: int, mild: bool = False
) -> Weights:
    """Blocks of a shape, ``count`` of them in rows of ``per_row``, each with a boundary amax.

    Besides those blocks of zeros, unless it is to be ``mild`` one that is subnormal and one with
    values near the largest float32, and some whose weights are few in kind: ties.
    """
    rows, cols = shape
    amaxes = boundary_amaxes(mild=mild)
    picked = np.linspace(0, amaxes.size - 1, count).astype(int)
    out = []
    for index, amax in enumerate(amaxes[picked]):
        block = ordinary(rows, cols, seed=seed + index)
        block = block / np.abs(block).max()
        if index % 5 == 1:
            block = np.round(block * np.float32(96)) / np.float32(96)
        elif index % 5 == 2:
            block = to_bf16(block)
        block = (block * amax).astype(np.float32)
        block.reshape(-1)[np.abs(block).argmax()] = amax * (-1) ** index
        out.append(np.clip(block, -amax, amax))
    out[0] = np.zeros(shape, dtype=np.float32)
    if not mild:
        out[1] = ordinary(rows, cols, seed=seed) * np.float32(2.0**-130)
        out[2] = ordinary(rows, cols, seed=seed) * np.float32(2.0**127)
    out[3] = np.full(shape, -0.0, dtype=np.float32)
    lines = [np.concatenate(out[i : i + per_row], axis=1) for i in range(0, count, per_row)]
    return np.concatenate(lines)


def cases(kind: str, size: tuple[int, int]) -> dict[str, Weights]:
    """Named matrices for a granularity, all of whole blocks but the one called ``ragged``.

    Args:
        kind: As in `Granularity`.
        size: Rows and columns of a block; (1, 64) for a flat one.
    """
    named = {
        "ordinary": ordinary(256, 384, seed=1),
        "coarse": to_bf16(ordinary(256, 384, seed=2)),
        "ragged": ordinary(131, 203, seed=3),
    }
    if kind in {"tensor", "channel"}:
        rows = blocks((1, 96), count=400, per_row=1, seed=10)
        named["rows"] = rows
        if kind == "tensor":
            del named["rows"]
            named |= {f"tensor {i}": rows[i : i + 1].reshape(6, 16) for i in range(0, 400, 7)}
            named["zeros"] = rows[0:1].copy()
    elif size[0] > 1:
        named["blocks"] = blocks(size, count=24, per_row=4, seed=20)
        named["mild"] = blocks(size, count=24, per_row=4, seed=20, mild=True)
    else:
        named["blocks"] = blocks(size, count=600, per_row=2, seed=30)
        named["mild"] = blocks(size, count=600, per_row=2, seed=40, mild=True)
    return named
