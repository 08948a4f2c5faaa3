"""Where things are: a run, its checkpoints, their layers, and the files that hold them.

    RunRef > CheckpointRef > LayerRef > Piece > FileRef

Made of names and headers alone; nothing here has read a weight.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from altgrad_inspect.records import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRef:
    """A file as it stood when its header was read; any later difference means it changed."""

    path: Path
    size_bytes: int
    mtime_ns: int
    inode: int


RunTarget = str | Path | Sequence[str | Path]
"""What a user may call a run: a directory, a file, a glob, or several of them."""

Fact = str | int | float | bool | tuple[int, ...] | None
"""A setting of a storage scheme."""

Region = tuple[tuple[int, int], ...]
"""A box in a tensor: (start, stop) of every dimension."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stored tensor that holds a part of a layer, such as one rank's shard.

    Attributes:
        file: The file that holds it.
        offset: Absolute position of its first byte in the file.
        num_bytes: How many bytes it takes.
        shape: Of the stored tensor.
        regions: Boxes in the stored tensor, and where in the layer each belongs.
    """

    file: FileRef
    offset: int
    num_bytes: int
    shape: tuple[int, ...]
    regions: tuple[tuple[Region, Region], ...]


PLAIN: Final = "plain"
"""The scheme of a layer whose stored numbers are the weights, and of files that hold whole ones."""

LORA_UPDATE: Final = "lora-update"
"""The scheme of the update that an adapter makes, which is stored as two matrices."""

CODELESS: Final = frozenset({PLAIN, LORA_UPDATE})
"""Schemes that store numbers, and not codes of a format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRef:
    """Where the bytes of one layer of one checkpoint are.

    Attributes:
        name: The layer's name with wrapper parts (``module.``, ``_orig_mod.``) removed.
        stored_name: The name as it stands in the file.
        dtype: The dtype as safetensors spells it, e.g. ``"BF16"``; for a layer that is stored
            as codes the name of their format.
        shape: The logical shape.
        file: The file that holds it, or its first piece or part.
        offset: Absolute position of the first byte in the file.
        num_bytes: How many bytes the layer takes, pieces and parts together.
        pieces: The stored tensors that it is put together from; empty if it is one.
        scheme: How it is stored: ``plain``, or a scheme of ``checkpoints.schemes``.
        parts: By role, the stored tensors that the scheme makes the layer of, e.g. codes and
            scales; empty for a plain layer.
        facts: What the scheme must know to do so, e.g. bits and group size.
        recognised_by: What gave the scheme away, in words.
    """

    name: str
    stored_name: str
    dtype: str
    shape: tuple[int, ...]
    file: FileRef
    offset: int
    num_bytes: int
    pieces: tuple[Piece, ...] = ()
    scheme: str = PLAIN
    parts: Mapping[str, "LayerRef"] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)
    recognised_by: str | None = None

    @property
    def loaded_bytes(self) -> int:
        """How many bytes it takes in memory: as stored and, if that is codes, decoded as well."""
        decoded = 0 if self.scheme == PLAIN else (4 + 1) * self.num_weights
        return self.num_bytes + decoded

    @property
    def num_weights(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRef:
    """One checkpoint as discovered: names and headers were looked at, no weights.

    Attributes:
        step: Training step; within one run it is unique.
        stage: Training stage for layouts that restart steps, else 0; orders before step.
        path: The directory or file that is the checkpoint.
        layout: The layout that recognised it, e.g. ``"trainer"``.
        label: What tables call it in place of its path: the branch of a hub cache. Empty if
            its path says it.
        files: The safetensors files that hold its layers, in a stable order.
        assembly: How its files become layers; see ``checkpoints.assemblies``.
        layer_files: From an index file: layer -> its file; empty where there is no index.
        status: ``ok``; ``skipped`` for an incomplete one; ``failed`` for a damaged one.
        reason: Why it is left out, else None.
    """

    step: int
    stage: int = 0
    path: Path
    layout: str
    files: tuple[Path, ...]
    assembly: str = PLAIN
    layer_files: Mapping[str, str] = field(default_factory=dict)
    status: Status = Status.OK
    reason: str | None = None
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRef:
    """An ordered run.

    Attributes:
        path: What the user named, as text, for messages and reports.
        checkpoints: Complete checkpoints in order; (stage, step) is strictly increasing.
        skipped: Incomplete and damaged checkpoints, which are named and left out.
        notes: One sentence each about how the run was read, for stderr.
        losses: (step, training loss), ascending, from the run's own log; empty if there is none.
    """

    path: str
    checkpoints: tuple[CheckpointRef, ...]
    skipped: tuple[CheckpointRef, ...] = ()
    notes: tuple[str, ...] = ()
    losses: tuple[tuple[int, float], ...] = ()
