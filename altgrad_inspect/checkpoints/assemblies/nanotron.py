"""nanotron: one file a shard, whose path is the layer's name and whose metadata its place.

Format: nanotron, ``serialize/utils.py:get_path``, ``serialize/metadata.py:TensorMetadata`` and
``parallel/parameters.py:SlicesPair``.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from altgrad_inspect.checkpoints.assemblies.pieces import Shard, put_together, whole_region
from altgrad_inspect.checkpoints.header import MAX_DIMENSIONS, Header
from altgrad_inspect.checkpoints.names import normalise_names, note_kept_names
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.refs import CheckpointRef, FileRef, LayerRef, Region

MODEL_DIRECTORY: Final = "model"
FILE_NAME: Final = re.compile(
    r"model_(?P<name>.+?)(?P<ranks>(?:_[a-z]+-rank-[0-9]{1,9}-of-[0-9]{1,9})*)\.safetensors",
    re.DOTALL,
)
"""Of a shard: the last part of the layer's name, and which rank it is of how many."""

_DATA: Final = "data"
_SHAPE: Final = "unsharded_shape"
_SLICES: Final = "local_global_slices_pairs"
_MAX_CHARACTERS: Final = 1_000_000
_MAX_PAIRS: Final = 4096
_DISTRUST: Final = "(do not trust this checkpoint)"
_INTEGER: Final = r"(?:np\.u?int[0-9]{0,2}\(([0-9]{1,15})\)|([0-9]{1,15}))"
_SIZE: Final = re.compile(_INTEGER)
_SIZES: Final = re.compile(rf"\(\s*(?:{_INTEGER}\s*(?:,\s*{_INTEGER}\s*)*,?\s*)?\)")
_RANK: Final = re.compile(r"_([a-z]+)-rank-([0-9]+)-of-([0-9]+)")


def assemble_nanotron(
    ref: CheckpointRef, headers: Mapping[Path, tuple[FileRef, Header]]
) -> tuple[dict[str, LayerRef], tuple[str, ...]]:
    """Put every layer together from the files in its directory.

    Raises:
        CheckpointError: A file has no place in a layer, or a layer is not complete.
    """
    root = ref.path / MODEL_DIRECTORY
    found: dict[str, list[Path]] = {}
    for path in headers:
        match = FILE_NAME.fullmatch(path.name)
        stem = match["name"] if match is not None else path.stem
        found.setdefault(".".join((*path.relative_to(root).parts[:-1], stem)), []).append(path)
    names, kept = normalise_names(tuple(found))
    layers: dict[str, LayerRef] = {}
    notes = note_kept_names(ref.path, kept)
    for stored, paths in found.items():
        shards, shape = _read_shards(paths, headers)
        try:
            layer, about = put_together(str(ref.path), names[stored], shape, shards)
        except CheckpointError as error:
            lost = _find_lost_ranks(paths)
            if not lost:
                raise
            msg = f"{error}; by the names of its files {lost} is missing"
            raise CheckpointError(msg) from error
        layers[layer.name] = layer
        notes += about
    return dict(sorted(layers.items())), tuple(notes)


def _read_shards(
    paths: list[Path], headers: Mapping[Path, tuple[FileRef, Header]]
) -> tuple[list[Shard], tuple[int, ...]]:
    shards: list[Shard] = []
    shapes: dict[tuple[int, ...], Path] = {}
    for path in paths:
        file, header = headers[path]
        subject = display_name(str(path))
        if _DATA not in header.tensors:
            held = display_name(", ".join(header.tensors), limit=80) or "nothing"
            msg = f"{subject}: holds {held}, expected a tensor called data (save it again)"
            raise CheckpointError(msg)
        local = header.tensors[_DATA].shape
        shape, regions = _read_place(subject, header.metadata, local)
        shapes.setdefault(shape, path)
        shards.append(Shard(file=file, header=header, stored=_DATA, regions=regions))
    if len(shapes) > 1:
        (shape, one), (other_shape, other) = list(shapes.items())[:2]
        msg = (
            f"{display_name(str(one))}: is of a layer of shape {list(shape)} and "
            f"{display_name(other.name)} beside it of one of shape {list(other_shape)}, expected "
            "one shape (remove what is left over from an earlier save)"
        )
        raise CheckpointError(msg)
    return shards, next(iter(shapes))


def _read_place(
    subject: str, metadata: Mapping[str, str], local: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[tuple[Region, Region], ...]]:
    """Return the shape of the whole layer, and where in it the stored tensor belongs."""
    if _SHAPE not in metadata and _SLICES not in metadata:
        return local, ((whole_region(local), whole_region(local)),)
    shape = _parse_shape(subject, metadata.get(_SHAPE, ""))
    written = metadata.get(_SLICES, "")
    if len(written) > _MAX_CHARACTERS or written.count(";") >= _MAX_PAIRS:
        msg = f"{subject}: {_SLICES} is too long, expected at most {_MAX_PAIRS} pairs {_DISTRUST}"
        raise CheckpointError(msg)
    return shape, tuple(_parse_pair(subject, pair, local, shape) for pair in written.split(";"))


def _parse_shape(subject: str, written: str) -> tuple[int, ...]:
    if written.count(",") <= MAX_DIMENSIONS and _SIZES.fullmatch(written.strip()):
        return tuple(int(one or other) for one, other in _SIZE.findall(written))
    msg = (
        f"{subject}: {_SHAPE} is '{display_name(written, limit=80)}', expected sizes such as "
        f"(32, 16) {_DISTRUST}"
    )
    raise CheckpointError(msg)


def _parse_pair(
    subject: str, written: str, local: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[Region, Region]:
    """Parse slices such as ``0,16,None|None,None,None#16,32,None|None,None,None``."""
    source, separator, target = written.partition("#")
    regions = _parse_slices(source, local), _parse_slices(target, shape)
    if separator and regions[0] is not None and regions[1] is not None:
        return regions[0], regions[1]
    msg = (
        f"{subject}: {_SLICES} has '{display_name(written, limit=80)}', expected start,stop,None "
        f"for each of {len(local)} dimensions, of the shard # and of the layer {_DISTRUST}"
    )
    raise CheckpointError(msg)


def _parse_slices(written: str, shape: tuple[int, ...]) -> Region | None:
    if not shape and not written:
        return ()
    slices = written.split("|", len(shape))
    if len(slices) != len(shape):
        return None
    region = []
    for one, size in zip(slices, shape, strict=True):
        parts = one.split(",", 3)
        if len(parts) != 3 or parts[2] not in {"None", "1"}:
            return None
        edges = [
            _parse_edge(part, default) for part, default in zip(parts, (0, size), strict=False)
        ]
        if edges[0] is None or edges[1] is None:
            return None
        region.append((edges[0], edges[1]))
    return tuple(region)


def _parse_edge(written: str, default: int) -> int | None:
    if written == "None":
        return default
    match = _SIZE.fullmatch(written)
    return None if match is None else int(match[1] or match[2])


def _find_lost_ranks(paths: list[Path]) -> str:
    """Name the tensor-parallel or expert ranks that no file is of, by the names of the others."""
    seen: dict[tuple[str, int], set[int]] = {}
    for path in paths:
        for kind, rank, size in _RANK.findall(path.name):
            if kind != "pp":  # a layer is on one pipeline stage
                seen.setdefault((kind, int(size)), set()).add(int(rank))
    lost = [
        f"{kind}-rank-{rank}-of-{size}"
        for (kind, size), ranks in seen.items()
        for rank in range(min(size, _MAX_PAIRS))
        if rank not in ranks
    ]
    return ", ".join(lost[:3]) + (" and more" if len(lost) > 3 else "")
