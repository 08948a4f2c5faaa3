"""A layer as seen at one checkpoint: there and read, there and unreadable, or missing."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from altgrad_inspect.errors import InspectError
from altgrad_inspect.quantize.coded import CodedWeights
from altgrad_inspect.records import SkippedLayer
from altgrad_inspect.refs import LayerRef


@dataclass(slots=True)
class Sighting:
    """One layer at one checkpoint.

    Attributes:
        step: Of the checkpoint.
        ref: Where it is; None if the checkpoint lacks it.
        weights: As stored, or as decoded from ``coded``; None if missing or unreadable. Valid
            until the reader's slot is used again, that is for this checkpoint and the next.
        coded: The codes that are stored, where they are.
        problem: Why it could not be read, else None.
        note: That the weights are on the CPU, because a GPU has no room for them; else None.
        moved: For ``engine.placement``: the same on the CPU, once it was needed there.
    """

    step: int
    ref: LayerRef | None = None
    weights: Tensor | None = None
    coded: CodedWeights | None = None
    problem: str | None = None
    note: str | None = None
    moved: "Sighting | None" = field(default=None, repr=False)

    def same_bits_as(self, other: "Sighting") -> bool:
        """Whether both were read and are bit-identical, in the same shape and dtype.

        Both must be on one device; where a GPU has no room to compare them, the CPU does.
        """
        mine, others = self.weights, other.weights
        if mine is None or others is None:
            return False
        if mine.shape != others.shape or mine.dtype != others.dtype:
            return False
        try:
            return torch.equal(*_as_bits(mine, others))
        except torch.OutOfMemoryError:
            return torch.equal(*_as_bits(mine.cpu(), others.cpu()))


def _as_bits(*layers: Tensor) -> list[Tensor]:
    """View layers as integers, eight bytes each where they allow: that is compared 7x faster."""
    flat = [weights.reshape(-1) for weights in layers]
    starts = [one.storage_offset() * one.element_size() for one in flat]
    is_wide = all(size % 8 == 0 for size in (*starts, *(one.nbytes for one in flat)))
    return [one.view(torch.int64 if is_wide else torch.uint8) for one in flat]


class SkipList:
    """The rows of ``skipped.parquet`` for one layer, each reason once."""

    def __init__(self, layer: str) -> None:
        self._layer = layer
        self._rows: dict[tuple[str, tuple[int, ...], str], SkippedLayer] = {}

    def add(self, ref: LayerRef, reason: str) -> None:
        """Note that the layer, as it is at ``ref``, is left out for ``reason``."""
        self._rows[reason, ref.shape, ref.dtype] = SkippedLayer(
            layer=self._layer, shape=ref.shape, dtype=ref.dtype, reason=reason
        )

    @property
    def rows(self) -> tuple[SkippedLayer, ...]:
        """What was noted, in order."""
        return tuple(self._rows.values())


def first_line(error: BaseException) -> str:
    """The first line of what went wrong, with its kind where we did not raise it."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else ""
    if isinstance(error, InspectError):
        return text
    if isinstance(error, MemoryError) or "alloc" in text or "out of memory" in text:
        return f"out of memory: {text or type(error).__name__}"
    return f"{type(error).__name__}: {text}"
