"""Runs of real weights that move as Adam moves them, a cosine schedule and all.

The weights are crops of the matrices of a published sentence encoder, so their spectra and
their code histograms are those of trained layers. What moves them is simulated: one unit of
`UNIT_STEPS` training steps is one Adam step on a gradient that is mostly noise and partly
a slowly turning signal of rank 2. So a layer drifts in a few directions and walks randomly
in all others, as layers do.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

UNIT_STEPS: Final = 25
_BETAS: Final = (0.9, 0.95)
_ROWS, _COLS = 96, 160
"""Crops are at most this large: small enough for a sweep, large enough for a spectrum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How far the weights go.

    Attributes:
        name: For tables.
        relative_update: Size of an update over 100 steps at the peak learning rate, as a
            fraction of the standard deviation of the layer.
        signal_share: Share of the gradient's size that is signal, in [0, 1).
        weight_decay: Of AdamW, relative to the update.
    """

    name: str
    relative_update: float
    signal_share: float
    weight_decay: float


FINE_TUNING: Final = Pace(
    name="fine-tuning", relative_update=2e-3, signal_share=0.3, weight_decay=0.0
)
CONTINUED: Final = Pace(
    name="continued pre-training", relative_update=1.5e-2, signal_share=0.25, weight_decay=0.02
)
PRE_TRAINING: Final = Pace(
    name="pre-training", relative_update=3e-2, signal_share=0.12, weight_decay=0.1
)
PACES: Final = (FINE_TUNING, CONTINUED, PRE_TRAINING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """When checkpoints are saved, and how the layers move between them.

    Attributes:
        num_checkpoints: How many, the one of step 0 included.
        even: Every 100 steps if true, else after 25 to 400 steps.
        pace: How far the weights go.
        floor: Share of the peak learning rate that the cosine ends at.
        dtype: What the masters are saved as.
        seed: Of everything random.
    """

    num_checkpoints: int
    even: bool
    pace: Pace
    floor: float = 0.1
    dtype: torch.dtype = torch.float32
    seed: int = 0

    @property
    def units(self) -> tuple[int, ...]:
        """How many units lie between consecutive checkpoints."""
        count = self.num_checkpoints - 1
        if self.even:
            return (4,) * count
        generator = np.random.default_rng(self.seed)
        return tuple(int(n) for n in generator.choice([1, 2, 4, 8, 16], size=count))

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps of the checkpoints, from 0."""
        return tuple(UNIT_STEPS * int(n) for n in np.cumsum([0, *self.units]))

    @property
    def name(self) -> str:
        """For test ids and tables."""
        spacing = "even" if self.even else "uneven"
        kind = str(self.dtype).removeprefix("torch.")
        return f"{self.pace.name}, {self.num_checkpoints} {spacing}, {kind}, seed {self.seed}"


def read_layers(path: Path) -> dict[str, Tensor]:
    """Return crops of the 38 matrices of the encoder, float32, by name."""
    layers = {}
    with safe_open(path, framework="pt") as file:
        for name in sorted(file.keys()):
            shape = file.get_slice(name).get_shape()
            if len(shape) == 2 and min(shape) >= 64 and "position" not in name:
                layers[name] = file.get_slice(name)[:_ROWS, :_COLS].float().clone()
    return layers


@dataclass(slots=True, kw_only=True)
class Movement:
    """Adam on a made-up gradient, for one layer."""

    course: Course
    shape: tuple[int, int]
    std: float
    seed: int
    _random: torch.Generator = field(init=False)
    _mean: Tensor = field(init=False)
    _square: Tensor = field(init=False)
    _sides: tuple[Tensor, Tensor] = field(init=False)
    _unit: int = 0

    def __post_init__(self) -> None:
        self._random = torch.Generator().manual_seed(self.seed)
        self._mean = torch.zeros(self.shape)
        self._square = torch.ones(self.shape)
        self._sides = (self._draw(self.shape[0], 2), self._draw(self.shape[1], 2))

    def _draw(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._random)

    def _gradient(self) -> Tensor:
        left, right = (0.95 * side + 0.31 * self._draw(*side.shape) for side in self._sides)
        self._sides = (left, right)
        share = self.course.pace.signal_share
        signal: Tensor = left @ right.T / 2**0.5
        return signal.mul(share).add(self._draw(*self.shape), alpha=(1 - share**2) ** 0.5)

    def _learning_rate(self) -> float:
        total = sum(self.course.units)
        cosine = 0.5 * (1 + math.cos(math.pi * min(self._unit / total, 1)))
        floor = self.course.floor
        return floor + (1 - floor) * cosine

    def advance(self, num_units: int, weight: Tensor) -> Tensor:
        """Return the update of ``weight`` over the next units."""
        total = torch.zeros(self.shape)
        pace = self.course.pace
        for _ in range(num_units):
            gradient = self._gradient()
            self._mean = _BETAS[0] * self._mean + (1 - _BETAS[0]) * gradient
            self._square = _BETAS[1] * self._square + (1 - _BETAS[1]) * gradient.square()
            size = pace.relative_update * self._learning_rate() * self.std
            total += size * self._mean / (self._square.sqrt() + 1e-8)
            total -= pace.weight_decay * pace.relative_update * self._learning_rate() * weight
            self._unit += 1
        return total


Plant = Callable[[int, Tensor, Tensor], Tensor]
"""(index of the checkpoint, weights at the one before, update) -> weights."""


def healthy(index: int, before: Tensor, update: Tensor) -> Tensor:  # noqa: ARG001 - a Plant
    """Let the layer move as it would."""
    return before + update


def move_layer(
    course: Course, start: Tensor, number: int, plant: Plant = healthy
) -> Iterator[tuple[int, Tensor]]:
    """Yield (step, weights) at every checkpoint of ``course``.

    Args:
        course: When and how.
        start: The weights of step 0.
        number: Of the layer: layers of a course move independently.
        plant: What happens to the weights besides training.
    """
    movement = Movement(
        course=course,
        shape=(start.shape[0], start.shape[1]),
        std=float(start.std()),
        seed=1000 * course.seed + number,
    )
    weights = plant(0, start, torch.zeros_like(start))
    yield 0, weights
    pairs = zip(course.units, course.steps[1:], strict=True)
    for index, (units, step) in enumerate(pairs, start=1):
        weights = plant(index, weights, movement.advance(units, weights))
        yield step, weights
