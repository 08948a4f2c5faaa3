"""Checkpoints of a few tensors, and the layers that are read from them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from altgrad_inspect.checkpoints.checkpoint import Checkpoint, open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.layer_reader import LayerReader
from altgrad_inspect.checkpoints.schemes.scheme import LoadedLayer
from altgrad_inspect.tables.results import Results


def store(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write one checkpoint."""
    path.mkdir(parents=True)
    content = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    save_file(content, path / "model.safetensors", metadata=dict(metadata or {}) or None)
    return path


def open_stored(path: Path) -> Checkpoint:
    (ref,) = discover_run([path]).checkpoints
    return open_checkpoint(ref)


def load(path: Path, name: str) -> LoadedLayer:
    """Decode one layer of one checkpoint."""
    with LayerReader(torch.device("cpu")) as reader:
        return reader.load(open_stored(path).layers[name])


def rows_of(results: Results, table: str, layer: str) -> list[dict[str, Any]]:
    """The rows of one layer, in the order of the table."""
    rows: list[dict[str, Any]] = results.to_arrow(table).to_pylist()
    return [row for row in rows if row["layer"] == layer]
