"""Shards of torch's distributed checkpoints in safetensors: offsets are in the metadata.

Format: torch, ``distributed/checkpoint/hf_storage.py`` and ``_hf_utils.py``. The shape of a
whole layer is not stored: it is where its outermost shard ends.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from altgrad_inspect.checkpoints.assemblies.pieces import Shard, put_together, whole_region
from altgrad_inspect.checkpoints.header import Header
from altgrad_inspect.checkpoints.json_files import parse_json_object
from altgrad_inspect.checkpoints.names import normalise_names, note_kept_names
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.refs import CheckpointRef, FileRef, LayerRef

FILE_NAME: Final = re.compile(
    r"shard-(?P<shard>[0-9]{5,9})-model-[0-9]{5,9}-of-[0-9]{5,9}\.safetensors"
)
"""Of a shard: the rank, from 1, and which file of that rank."""

_INFO: Final = "DCP_SHARDING_INFO"
_OFFSETS: Final = "saved_offsets"
_LARGEST_OFFSET: Final = 1 << 60


def assemble_dcp_shards(
    ref: CheckpointRef, headers: Mapping[Path, tuple[FileRef, Header]]
) -> tuple[dict[str, LayerRef], tuple[str, ...]]:
    """Put every layer together from the shards of all ranks.

    Raises:
        CheckpointError: A file does not say where its tensors belong, or a layer has holes.
    """
    found: dict[str, list[Shard]] = {}
    for path, (file, header) in headers.items():
        offsets = _read_offsets(path, header)
        for stored, entry in header.tensors.items():
            source = whole_region(entry.shape)
            target = tuple(
                (at, at + size) for at, size in zip(offsets[stored], entry.shape, strict=True)
            )
            shard = Shard(file=file, header=header, stored=stored, regions=((source, target),))
            found.setdefault(stored, []).append(shard)
    names, kept = normalise_names(tuple(found))
    layers: dict[str, LayerRef] = {}
    notes = note_kept_names(ref.path, kept)
    for stored, shards in found.items():
        shape = _find_shape(ref, stored, shards)
        layer, about = put_together(str(ref.path), names[stored], shape, shards)
        layers[layer.name] = layer
        notes += about
    return dict(sorted(layers.items())), tuple(notes)


def _find_shape(ref: CheckpointRef, stored: str, shards: Sequence[Shard]) -> tuple[int, ...]:
    targets = [shard.regions[0][1] for shard in shards]
    if len({len(target) for target in targets}) > 1:
        msg = (
            f"{display_name(str(ref.path))}: layer '{display_name(stored, limit=80)}' has shards "
            "of different dimensions, expected the same (save or copy the checkpoint again)"
        )
        raise CheckpointError(msg)
    return tuple(max(stop for _, stop in edges) for edges in zip(*targets, strict=True))


def _read_offsets(path: Path, header: Header) -> dict[str, tuple[int, ...]]:
    subject = display_name(str(path))
    written = header.metadata.get(_INFO)
    if written is None:
        msg = (
            f"{subject}: has no {_INFO} in its metadata, expected the offsets of its tensors "
            "(save the checkpoint again)"
        )
        raise CheckpointError(msg)
    # One object a tensor and one around them; checked before they are built.
    num_tensors = len(header.tensors)
    num_sizes = sum(len(entry.shape) for entry in header.tensors.values())
    if written.count("{") > num_tensors + 1 or written.count(",") > 3 * num_tensors + num_sizes:
        msg = (
            f"{subject}: {_INFO} describes more than its {num_tensors} tensors, expected an entry "
            "for each (do not trust this checkpoint)"
        )
        raise CheckpointError(msg)
    info = parse_json_object(f"{subject}: {_INFO}", written.encode())
    return {
        stored: _read_entry(subject, stored, info.get(stored), len(entry.shape))
        for stored, entry in header.tensors.items()
    }


def _read_entry(subject: str, stored: str, entry: object, num_dims: int) -> tuple[int, ...]:
    offsets = entry.get(_OFFSETS) if isinstance(entry, dict) else None
    if (
        isinstance(offsets, list)
        and len(offsets) == num_dims
        and all(type(one) is int and 0 <= one < _LARGEST_OFFSET for one in offsets)
    ):
        return tuple(offsets)
    msg = (
        f"{subject}: {_INFO} gives tensor '{display_name(stored, limit=80)}' the {_OFFSETS} "
        f"{display_name(str(offsets), limit=60)}, expected {num_dims} whole numbers "
        "(do not trust this checkpoint)"
    )
    raise CheckpointError(msg)
