"""How the work is cut: one unit is one layer through the whole run. Pure, no tensors.

A unit names, for every checkpoint in order, where the layer's bytes are (or that the
checkpoint lacks it). Whoever works it off reads every byte once and returns rows, so the
same cut serves threads, processes and the GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

from altgrad_inspect.records import LayerRecord
from altgrad_inspect.refs import LayerRef

FLIP_WEIGHTS_PER_SECOND = 60e6
"""Weights a core encodes, compares and counts; a rough figure, for estimates only."""

GRAM_FLOPS_PER_SECOND = 45e9
TRIDIAGONAL_FLOPS_PER_SECOND = 16e9
READ_BYTES_PER_SECOND = 1.5e9
VISIT_SECONDS = 0.8e-3
"""What looking at a layer at one checkpoint costs, however small it is."""

READ_AHEAD_BYTES: Final = 8 << 20
"""What a worker reads while it still computes, and so holds beyond what it looks at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerUnit:
    """One layer through the run.

    Attributes:
        layer: Its name.
        steps: Steps of the checkpoints, in order.
        refs: Where it is in each of them; None where a checkpoint lacks it.
    """

    layer: str
    steps: tuple[int, ...]
    refs: tuple[LayerRef | None, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes to read over the whole run."""
        return sum(ref.num_bytes for ref in self.refs if ref)

    @property
    def present(self) -> tuple[tuple[int, LayerRef], ...]:
        """(step, where) of the checkpoints that hold the layer."""
        return tuple((step, ref) for step, ref in zip(self.steps, self.refs, strict=True) if ref)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a command would read, hold and take; estimates, from headers alone.

    Attributes:
        num_checkpoints: Checkpoints selected.
        num_layers: Layers selected.
        num_transitions: Pairs of consecutive checkpoints.
        size_bytes: Bytes to read.
        memory_bytes: Peak memory beyond the idle process, over all workers.
        num_flops: Floating-point operations of the spectra.
        flips_seconds: Estimated time of ``flips``.
        rank_seconds: Estimated time of ``rank``.
    """

    num_checkpoints: int
    num_layers: int
    num_transitions: int
    size_bytes: int
    memory_bytes: int
    num_flops: float
    flips_seconds: float
    rank_seconds: float


def spectrum_flops(shape: tuple[int, ...]) -> tuple[float, float]:
    """Operations of the Gram matrix and of the eigenvalues for a layer of this shape."""
    if len(shape) < 2 or 0 in shape:
        return 0.0, 0.0
    is_stack = len(shape) == 3 and shape[-1] > 16
    count, rows, cols = shape if is_stack else (1, shape[0], prod(shape[1:]))
    small, large = min(rows, cols), max(rows, cols)
    return count * float(large) * small**2, count * 4 / 3 * float(small) ** 3


def rank_seconds(shape: tuple[int, ...]) -> float:
    """Rough time of one spectrum on one core."""
    gram, eigenvalues = spectrum_flops(shape)
    return gram / GRAM_FLOPS_PER_SECOND + eigenvalues / TRIDIAGONAL_FLOPS_PER_SECOND


def unit_seconds(unit: LayerUnit, *, num_quantizers: int, num_spectra: int) -> float:
    """Rough time of one unit on one core; orders the work and weighs the progress bar."""
    present = unit.present
    weights = sum(ref.num_weights for _, ref in present)
    seconds = len(present) * VISIT_SECONDS + unit.num_bytes / READ_BYTES_PER_SECOND
    seconds += num_quantizers * weights / FLIP_WEIGHTS_PER_SECOND
    if num_spectra:
        seconds += num_spectra * sum(rank_seconds(ref.shape) for _, ref in present)
    return seconds


def build_plan(
    units: Sequence[LayerUnit], *, num_checkpoints: int, num_quantizers: int, num_workers: int
) -> Plan:
    """Add up what the units cost."""
    flops = [sum(spectrum_flops(ref.shape)) for unit in units for _, ref in unit.present]
    memory = sorted((_unit_memory_bytes(unit, num_quantizers) for unit in units), reverse=True)
    flips = sum(unit_seconds(unit, num_quantizers=num_quantizers, num_spectra=0) for unit in units)
    ranks = sum(unit_seconds(unit, num_quantizers=0, num_spectra=1) for unit in units)
    return Plan(
        num_checkpoints=num_checkpoints,
        num_layers=len(units),
        num_transitions=max(0, num_checkpoints - 1),
        size_bytes=sum(unit.num_bytes for unit in units),
        memory_bytes=sum(memory[:num_workers]),
        num_flops=sum(flops),
        flips_seconds=flips / num_workers,
        rank_seconds=ranks / num_workers,
    )


def _unit_memory_bytes(unit: LayerUnit, num_quantizers: int) -> int:
    """Two checkpoints of the layer as stored, or three if read ahead, codes and the Gram matrix."""
    sizes = [0]
    for _, ref in unit.present:
        small = min(ref.shape[0], prod(ref.shape[1:])) if len(ref.shape) > 1 else 0
        codes = 2 * num_quantizers * ref.num_weights
        copies = 3 if ref.loaded_bytes <= READ_AHEAD_BYTES else 2
        sizes.append(copies * ref.loaded_bytes + codes + 3 * 8 * small**2)
    return max(sizes)


def describe_layer(unit: LayerUnit) -> LayerRecord:
    """Sum a unit up as one row of the layer listing."""
    present = unit.present
    first = present[0][1]
    signs = [ref.recognised_by for _, ref in present if ref.recognised_by]
    return LayerRecord(
        layer=unit.layer,
        dtype=", ".join(sorted({ref.dtype for _, ref in present})),
        shape=first.shape,
        num_weights=first.num_weights,
        num_checkpoints=len(present),
        step_first=present[0][0],
        step_last=present[-1][0],
        scheme=", ".join(dict.fromkeys(ref.scheme for _, ref in present)),
        recognised_by=", ".join(dict.fromkeys(signs)) or None,
    )
