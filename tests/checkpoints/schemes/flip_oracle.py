"""Flips of stored codes, counted one element at a time in numpy, from the definition alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One layer at one checkpoint; every array has one element a weight.

    ``code`` counts in the order of the values, from the value zero.
    """

    code: Ints
    scale: Floats

    def weights(self, values: dict[int, float]) -> Floats:
        plain = np.array([values[int(code)] for code in self.code.flat], dtype=np.float32)
        return (plain.reshape(self.code.shape) * self.scale).astype(np.float32)


def nearest(scaled: float, values: dict[int, float]) -> int:
    """The code of the nearest value; from the middle to the even code."""
    if scaled >= max(values.values()):
        return max(values)
    if scaled <= min(values.values()):
        return min(values)
    return min(values, key=lambda code: (abs(values[code] - scaled), code % 2))


def count_flips(earlier: Stored, later: Stored, values: dict[int, float]) -> dict[str, int]:
    """Count what the flips table calls updated, flipped and recoded."""
    before, after = earlier.weights(values), later.weights(values)
    flipped = 0
    for index in np.ndindex(earlier.code.shape):
        scale = earlier.scale[index]
        if scale.tobytes() == later.scale[index].tobytes():
            code = int(later.code[index])
        else:
            code = nearest(float(np.float32(after[index] / scale)), values)
        flipped += code != int(earlier.code[index])
    updated = before.view(np.uint32) != after.view(np.uint32)
    return {
        "num_updated": int(updated.sum()),
        "num_flipped": flipped,
        "num_recoded": int((earlier.code != later.code).sum()),
    }
