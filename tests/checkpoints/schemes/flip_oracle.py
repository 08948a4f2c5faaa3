"""Flips of stored codes, counted one element at a time in numpy, from the definition alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One layer at one checkpoint; every array has one element a weight.

    ``code`` counts in the order of the values, from the value zero: with a zero point that is
    the code minus the zero point, rounded. ``offset`` is the rest of the zero point, ``zero``
    the rounded one, of codes from 0 to ``highest``.
    """

    code: Ints
    scale: Floats
    offset: Floats | None = None
    zero: Ints | None = None
    highest: int = 0

    def weights(self, values: dict[int, float]) -> Floats:
        plain = np.array([values[int(code)] for code in self.code.flat], dtype=np.float32)
        plain = plain.reshape(self.code.shape)
        if self.offset is not None:
            plain = plain - self.offset
        return (plain * self.scale).astype(np.float32)

    def has_grid_of(self, other: "Stored", index: tuple[int, ...]) -> bool:
        """Whether a weight has the same scale and zero point in both."""
        return all(
            mine is None or others is None or mine[index].tobytes() == others[index].tobytes()
            for mine, others in (
                (self.scale, other.scale),
                (self.offset, other.offset),
                (self.zero, other.zero),
            )
        )

    def encode(self, weight: float, index: tuple[int, ...], values: dict[int, float]) -> int:
        """The code of ``weight`` at the scale and zero point of this checkpoint."""
        scaled = np.float32(np.float32(weight) / self.scale[index])
        if self.offset is not None:
            scaled = np.float32(scaled + self.offset[index])
        if self.zero is not None:
            zero = int(self.zero[index])
            values = {code: values[code] for code in range(-zero, self.highest - zero + 1)}
        return nearest(float(scaled), values)


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
        if earlier.has_grid_of(later, index):
            code = int(later.code[index])
        else:
            code = earlier.encode(float(after[index]), index, values)
        flipped += code != int(earlier.code[index])
    updated = before.view(np.uint32) != after.view(np.uint32)
    return {
        "num_updated": int(updated.sum()),
        "num_flipped": flipped,
        "num_recoded": int((earlier.code != later.code).sum()),
    }
