"""Weights rounded to unsigned codes with a scale and a zero point a group, for tests."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.checkpoints.schemes.flip_oracle import Stored
from tests.checkpoints.schemes.packers import Codes


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouped:
    """Codes, and scales and zero points of runs of columns, one a row and group."""

    codes: Codes
    scales: NDArray[np.float16]
    zeros: NDArray[np.float64]
    group: int
    highest: int

    @property
    def stored(self) -> Stored:
        zero = np.repeat(self.zeros, self.group, 1)
        whole = np.clip(np.round(zero), 0, self.highest).astype(np.int64)
        return Stored(
            code=self.codes - whole,
            scale=np.repeat(self.scales, self.group, 1).astype(np.float32),
            offset=(zero - whole).astype(np.float32) if np.any(zero != whole) else None,
            zero=whole,
            highest=self.highest,
        )


def round_groups(
    weight: NDArray[np.float64], group: int, highest: int, *, round_zero: bool
) -> Grouped:
    """From the smallest to the largest weight of a group; zero points are float16 numbers."""
    num_groups = weight.shape[1] // group
    scales = np.zeros((weight.shape[0], num_groups), dtype=np.float16)
    zeros = np.zeros(scales.shape)
    for row, place in np.ndindex(scales.shape):
        part = weight[row, place * group : (place + 1) * group]
        scales[row, place] = (part.max() - part.min()) / highest
        zero = -part.min() / float(scales[row, place])
        zeros[row, place] = np.clip(round(zero), 0, highest) if round_zero else np.float16(zero)
    exact = weight / np.repeat(scales, group, 1) + np.repeat(zeros, group, 1)
    codes = np.clip(np.round(exact), 0, highest).astype(np.int64)
    return Grouped(codes=codes, scales=scales, zeros=zeros, group=group, highest=highest)


def walk(
    shape: tuple[int, int], group: int, highest: int, *, round_zero: bool = True, shift: float = 0.0
) -> list[Grouped]:
    """Three checkpoints; a new outlier rescales a group in each of the later ones."""
    draw = np.random.default_rng(highest)
    weight = draw.standard_normal(shape) + shift
    found = [round_groups(weight, group, highest, round_zero=round_zero)]
    for step in range(2):
        weight = weight + 0.6 / (highest + 1) * draw.standard_normal(shape)
        weight[step, 5] = 5.0 + step
        found.append(round_groups(weight, group, highest, round_zero=round_zero))
    return found
