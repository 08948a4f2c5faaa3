"""The weight files of one checkpoint, and whether they are all there."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from altgrad_inspect.checkpoints.header import Header, read_header
from altgrad_inspect.checkpoints.layouts.listing import WEIGHTS_SUFFIX, Listing
from altgrad_inspect.checkpoints.layouts.step_names import is_set_aside
from altgrad_inspect.checkpoints.weight_index import INDEX_SUFFIX, read_weight_index
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.refs import PLAIN, FileRef
from altgrad_inspect.storage.local import LocalReader

MODEL_NAMES: Final = ("model", "diffusion_pytorch_model", "adapter_model", "pytorch_lora_weights")
"""What libraries call the weights of a checkpoint, the most complete first."""

_SHARD: Final = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<total>[0-9]{5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The weight files of one checkpoint, not yet opened.

    Attributes:
        files: In a stable order, none twice.
        layer_files: Stored layer name to file name, from an index; empty without one.
        left_out: Other safetensors files in the directory.
        components: By directory, the files of each model, where there are several; ``files``
            are then those of all, and the keys of ``layer_files`` begin with the directory.
        assembly: How the files become stored tensors; see ``checkpoints.assemblies``.
        layout: The layout that the content gives away; None if only names speak for one.
        notes: What is worth a sentence.
    """

    files: tuple[Path, ...]
    layer_files: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[Path, ...] = ()
    components: Mapping[str, "Weights"] = field(default_factory=dict)
    assembly: str = PLAIN
    layout: str | None = None
    notes: tuple[str, ...] = ()


def find_weights(listing: Listing) -> Weights | None:
    """Return the weight files of a directory that is a checkpoint; None if it has none.

    Raises:
        CheckpointError: The index is unreadable, or a shard is missing.
    """
    for stem in MODEL_NAMES:
        found = find_stem(listing, stem)
        if found is not None:
            return _with_left_out(found, listing)
    usual = {
        shard_stem(file.stem) or file.stem
        for file in listing.weight_files
        if not is_set_aside(file.stem)
    }
    return find_stem(listing, usual.pop()) if len(usual) == 1 else None


def find_stem(listing: Listing, stem: str) -> Weights | None:
    """Return the weights called ``stem``, whole or in shards; None if there are none.

    Raises:
        CheckpointError: The index is unreadable, or a shard is missing.
    """
    by_name = {file.name: file for file in listing.files}
    whole, index = by_name.get(stem + WEIGHTS_SUFFIX), by_name.get(stem + INDEX_SUFFIX)
    if whole is not None:
        return Weights(files=(whole,))
    return _find_indexed(index) if index is not None else _find_shards(listing, stem)


def shard_stem(stem: str) -> str | None:
    """Return what the shards of a checkpoint have in common before their numbers."""
    match = _SHARD.fullmatch(stem)
    return match["stem"] if match else None


def check_weights(weights: Weights) -> dict[Path, tuple[FileRef, Header]]:
    """Read every header: each file must be whole, and hold the layers its index promises.

    Returns:
        The headers, in the order of the files.

    Raises:
        CheckpointError: A file is unreadable, truncated, or lacks a layer.
    """
    if weights.components:
        parts = [check_weights(component) for component in weights.components.values()]
        return {file: header for part in parts for file, header in part.items()}
    promised: dict[str, list[str]] = {}
    for layer, file_name in weights.layer_files.items():
        promised.setdefault(file_name, []).append(layer)
    headers: dict[Path, tuple[FileRef, Header]] = {}
    for file in weights.files:
        with LocalReader(file) as reader:
            headers[file] = (reader.file, read_header(reader))
        tensors = headers[file][1].tensors
        missing = [layer for layer in promised.get(file.name, ()) if layer not in tensors]
        if missing:
            msg = (
                f"{display_name(str(file))}: lacks the layer "
                f"'{display_name(missing[0], limit=80)}' that the index says it holds, expected "
                f"all {len(promised[file.name])} (save or copy the checkpoint again)"
            )
            raise CheckpointError(msg)
    return headers


def _find_indexed(index: Path) -> Weights:
    layer_files = read_weight_index(index)
    files = tuple(index.parent / name for name in sorted(set(layer_files.values())))
    for file in files:
        if not file.exists():
            raise _missing_shard(index.parent, file.name, "that the index names")
    return Weights(files=files, layer_files=layer_files)


def _find_shards(listing: Listing, stem: str) -> Weights | None:
    matches = [(file, _SHARD.fullmatch(file.stem)) for file in listing.weight_files]
    shards = [(file, match) for file, match in matches if match and match["stem"] == stem]
    if not shards:
        return None
    total = max(int(match["total"]) for _, match in shards)
    shards = [(file, match) for file, match in shards if int(match["total"]) == total]
    found = {file.name for file, _ in shards}
    for number in range(1, total + 1):
        name = f"{stem}-{number:05}-of-{total:05}{WEIGHTS_SUFFIX}"
        if name not in found:
            raise _missing_shard(listing.path, name, f"of {total}")
    return Weights(files=tuple(file for file, _ in shards))


def _with_left_out(found: Weights, listing: Listing) -> Weights:
    left_out = tuple(file for file in listing.weight_files if file not in found.files)
    return replace(found, left_out=left_out)


def _missing_shard(directory: Path, name: str, which: str) -> CheckpointError:
    return CheckpointError(
        f"{display_name(str(directory))}: is incomplete: the shard '{display_name(name)}' {which} "
        "is missing, expected all shards (it is still being written, or copy it again)"
    )
