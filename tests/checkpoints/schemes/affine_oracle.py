"""Flips of integer codes with zero points, counted one element at a time in numpy."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredInts:
    """One layer at one checkpoint: codes from ``low`` to ``high``; one element a weight each."""

    code: Ints
    scale: Floats
    zero: Ints
    low: int
    high: int

    @property
    def counted(self) -> Ints:
        """Codes as counted from their zero point."""
        return self.code - self.zero

    @property
    def weights(self) -> Floats:
        return (self.counted.astype(np.float32) * self.scale).astype(np.float32)


def quantize(
    weight: Floats, *, group: int, low: int, high: int, symmetric: bool
) -> tuple[Ints, Floats, Ints]:
    """Codes (rows, cols), scales and zero points (rows, groups), from the largest and smallest."""
    groups = weight.reshape(len(weight), -1, group)
    smallest = np.minimum(groups.min(-1), 0)
    largest = np.maximum(groups.max(-1), 0)
    if symmetric:
        scale = (np.maximum(-smallest, largest) / high).astype(np.float32)
        zero = np.zeros(scale.shape, dtype=np.int64)
    else:
        scale = ((largest - smallest) / (high - low)).astype(np.float32)
        zero = np.rint(low - smallest / scale).astype(np.int64).clip(low, high)
    code = np.rint(groups / scale[..., None]).astype(np.int64) + zero[..., None]
    return code.clip(low, high).reshape(weight.shape), scale, zero


def describe(code: Ints, scale: Floats, zero: Ints, *, low: int, high: int) -> StoredInts:
    """Give every weight its own scale and zero point."""
    group = code.shape[1] // scale.shape[1]
    return StoredInts(
        code=code,
        scale=np.repeat(scale, group, axis=1),
        zero=np.repeat(zero, group, axis=1),
        low=low,
        high=high,
    )


def count_int_flips(earlier: StoredInts, later: StoredInts) -> dict[str, int]:
    """Count what the flips table calls updated, flipped and recoded."""
    before, after = earlier.weights, later.weights
    flipped = 0
    for index in np.ndindex(earlier.code.shape):
        scale, zero = earlier.scale[index], int(earlier.zero[index])
        same_scale = scale.tobytes() == later.scale[index].tobytes()
        if same_scale and zero == later.zero[index]:
            code = int(later.code[index])
        else:
            code = round(float(np.float32(after[index] / scale))) + zero
            code = max(earlier.low, min(earlier.high, code))
        flipped += code != int(earlier.code[index])
    return {
        "num_updated": int((before.view(np.uint32) != after.view(np.uint32)).sum()),
        "num_flipped": flipped,
        "num_recoded": int((earlier.counted != later.counted).sum()),
    }


def drift(shape: tuple[int, int], *, seed: int = 0, steps: int = 3) -> list[Floats]:
    """Weights of some checkpoints; the second half of the rows keeps its extremes.

    So some scales and zero points change from one to the next and others do not.
    """
    draw = np.random.default_rng(seed)
    first = draw.standard_normal(shape).astype(np.float32) + np.float32(0.3)
    first[:, ::8] = np.tile([-4.0, 5.0], (shape[0], shape[1] // 16)).astype(np.float32)
    run = [first]
    for step in range(1, steps):
        moved = run[-1] + 0.1 * draw.standard_normal(shape).astype(np.float32)
        moved = moved.clip(-3.9, 4.9).astype(np.float32)
        moved[:, ::8] = first[:, ::8]
        moved[: shape[0] // 2, 8] = 5.0 + step
        run.append(moved)
    return run
