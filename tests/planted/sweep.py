"""The planted runs: 38 layers of which one has a fault, for every fault and strength."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from altgrad_inspect.roles import peer_group
from tests.planted.generator import (
    CONTINUED,
    FINE_TUNING,
    PRE_TRAINING,
    Course,
    Plant,
    healthy,
    move_layer,
)
from tests.planted.plants import FAULTS, Fault
from tests.planted.recorder import LayerRecorder, LayerRows, Tables, build_tables

LENGTHS: Final = (5, 10, 20, 50)
NUM_BYSTANDERS: Final = 6

_SETTINGS: Final = (
    (FINE_TUNING, 0.1, torch.float32),
    (CONTINUED, 0.0, torch.float32),
    (PRE_TRAINING, 0.1, torch.float32),
    (CONTINUED, 0.1, torch.bfloat16),
)


def build_courses(first_seed: int) -> tuple[Course, ...]:
    """Return every length, spacing and pace once; one seed a pace."""
    return tuple(
        Course(num_checkpoints=length, even=even, pace=pace, floor=floor, dtype=dtype, seed=seed)
        for seed, (pace, floor, dtype) in enumerate(_SETTINGS, start=first_seed)
        for length in LENGTHS
        for even in (True, False)
    )


COURSES: Final = build_courses(0)
"""What thresholds were chosen on."""

HELD_OUT_COURSES: Final = build_courses(100)
"""What they were then tried on, once."""


def record_layer(course: Course, name: str, start: Tensor, number: int, plant: Plant) -> LayerRows:
    """Move one layer through ``course`` and measure it at every checkpoint."""
    recorder = LayerRecorder(name, course.dtype)
    for step, weights in move_layer(course, start, number, plant):
        recorder.see(step, weights)
    return recorder.rows


def record_healthy(course: Course, layers: Mapping[str, Tensor]) -> dict[str, LayerRows]:
    """Measure every layer with nothing planted."""
    return {
        name: record_layer(course, name, start, number, healthy)
        for number, (name, start) in enumerate(layers.items())
    }


def no_losses(course: Course) -> dict[int, float | None]:
    """A run that logged nothing."""
    return dict.fromkeys(course.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fault in one layer of one run.

    Attributes:
        course: The run.
        fault: What was planted.
        strength: How strongly.
        layer: Where.
        cause: Index of the first checkpoint that shows it.
        tables: The layer, its peers, and a few bystanders.
    """

    course: Course
    fault: Fault
    strength: float
    layer: str
    cause: int
    tables: Tables


def find_victim(names: tuple[str, ...], course: Course, number: int) -> str:
    """Return the layer for the fault with this number: another role and block each time."""
    blocks = [name for name in names if ".layer." in name]
    groups = sorted({peer_group(name) for name in blocks})
    group = groups[(number + course.seed) % len(groups)]
    members = [name for name in blocks if peer_group(name) == group]
    return members[(number + course.num_checkpoints + course.seed) % len(members)]


def build_cases(
    course: Course,
    layers: Mapping[str, Tensor],
    around: Mapping[str, LayerRows],
    faults: tuple[Fault, ...] = FAULTS,
) -> Iterator[Case]:
    """Yield every fault at every strength, planted into a healthy run.

    Args:
        course: The run.
        layers: Weights of its first checkpoint.
        around: The run measured without a fault.
        faults: What to plant.
    """
    names = tuple(layers)
    cause = max(2, course.num_checkpoints // 2)
    for number, fault in enumerate(faults):
        layer = find_victim(names, course, number)
        peers = [name for name in names if peer_group(name) == peer_group(layer)]
        others = [name for name in names if name not in peers][:: len(names) // NUM_BYSTANDERS]
        for strength in fault.strengths:
            plant = fault.plant(strength, cause)
            rows = record_layer(course, layer, layers[layer], names.index(layer), plant)
            run = {name: around[name] for name in (*peers, *others)} | {layer: rows}
            yield Case(
                course=course,
                fault=fault,
                strength=strength,
                layer=layer,
                cause=0 if fault.from_start else cause,
                tables=build_tables(run, no_losses(course)),
            )
