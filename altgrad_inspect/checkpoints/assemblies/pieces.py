"""A layer out of the pieces that several ranks stored: all of it, and none of it twice."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from altgrad_inspect.checkpoints.header import DTYPE_BITS, Header
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.refs import FileRef, LayerRef, Piece, Region

MAX_REGIONS: Final = 65_536
"""Regions that one layer may be cut up into; 4,096 ranks with a few each are far below."""

_MAX_CELLS: Final = 1 << 18
_SMALLEST_BITS: Final = 8
_COPY: Final = "(a shard is missing: it is still being written, or copy it again)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One stored tensor that holds a part of a layer.

    Attributes:
        file: The file it is in.
        header: Of that file.
        stored: Its name there.
        regions: Boxes in the stored tensor, and where in the layer each belongs.
    """

    file: FileRef
    header: Header
    stored: str
    regions: tuple[tuple[Region, Region], ...]


def whole_region(shape: Sequence[int]) -> Region:
    """Return the box that is all of a tensor."""
    return tuple((0, size) for size in shape)


def put_together(
    subject: str, name: str, shape: tuple[int, ...], shards: Sequence[Shard]
) -> tuple[LayerRef, tuple[str, ...]]:
    """Build a layer from its shards.

    A region that is stored more than once, as replicas are, is read from the first shard.

    Args:
        subject: The checkpoint, for messages.
        name: The layer's name.
        shape: Its shape when it is whole.
        shards: At least one.

    Returns:
        The layer, and notes.

    Raises:
        CheckpointError: The shards differ in dtype, do not cover the layer, or overlap.
    """
    start = f"{display_name(subject)}: layer '{display_name(name, limit=80)}'"
    dtype = _find_dtype(start, shards)
    kept, num_replicas = _drop_replicas(start, shape, shards)
    _require_partition(start, shape, [to for shard in kept for _, to in shard.regions])
    notes: tuple[str, ...] = ()
    if num_replicas:
        notes = (f"{start} has {num_replicas} regions stored twice; the first copies are read",)
    entries = [shard.header.tensors[shard.stored] for shard in kept]
    first = kept[0]
    layer = LayerRef(
        name=name,
        stored_name=first.stored,
        dtype=dtype,
        shape=shape,
        file=first.file,
        offset=first.header.num_header_bytes + entries[0].start,
        num_bytes=math.prod(shape) * DTYPE_BITS[dtype] // 8,
        pieces=tuple(
            Piece(
                file=shard.file,
                offset=shard.header.num_header_bytes + entry.start,
                num_bytes=entry.end - entry.start,
                shape=entry.shape,
                regions=shard.regions,
            )
            for shard, entry in zip(kept, entries, strict=True)
        ),
    )
    return _without_pieces(layer), notes


def _without_pieces(layer: LayerRef) -> LayerRef:
    """A layer that one stored tensor holds as it is needs no putting together."""
    whole = whole_region(layer.shape)
    if len(layer.pieces) > 1 or layer.pieces[0].regions != ((whole, whole),):
        return layer
    if layer.pieces[0].shape != layer.shape:
        return layer
    return LayerRef(
        name=layer.name,
        stored_name=layer.stored_name,
        dtype=layer.dtype,
        shape=layer.shape,
        file=layer.file,
        offset=layer.offset,
        num_bytes=layer.num_bytes,
    )


def _find_dtype(start: str, shards: Sequence[Shard]) -> str:
    dtypes = sorted({shard.header.tensors[shard.stored].dtype for shard in shards})
    if len(dtypes) > 1:
        msg = (
            f"{start} is stored as {' and as '.join(dtypes)}, expected one dtype "
            "(remove shards that are left over from an earlier save)"
        )
        raise CheckpointError(msg)
    if DTYPE_BITS[dtypes[0]] < _SMALLEST_BITS:
        msg = (
            f"{start} is cut into shards of {dtypes[0]}, expected a dtype of whole bytes "
            "(consolidate the shards into one file)"
        )
        raise CheckpointError(msg)
    return dtypes[0]


def _drop_replicas(
    start: str, shape: tuple[int, ...], shards: Sequence[Shard]
) -> tuple[list[Shard], int]:
    """Keep the first of equal regions; empty ones go, if not all are empty."""
    if sum(len(shard.regions) for shard in shards) > MAX_REGIONS:
        msg = (
            f"{start} is cut into more than {MAX_REGIONS} regions, expected fewer "
            "(no real checkpoint has so many)"
        )
        raise CheckpointError(msg)
    seen: set[Region] = set()
    kept, num_replicas = [], 0
    for shard in shards:
        stored_shape = shard.header.tensors[shard.stored].shape
        mine = []
        for source, target in shard.regions:
            _require_inside(start, source, stored_shape, "the shard")
            _require_inside(start, target, shape, "the layer")
            if [stop - at for at, stop in source] != [stop - at for at, stop in target]:
                msg = (
                    f"{start} maps a region {_shown(source)} of a shard to {_shown(target)}, "
                    "expected the same size (do not trust this checkpoint)"
                )
                raise CheckpointError(msg)
            if target in seen:
                num_replicas += 1
            elif _volume(target) or not math.prod(shape):
                seen.add(target)
                mine.append((source, target))
        if mine:
            kept.append(
                Shard(
                    file=shard.file, header=shard.header, stored=shard.stored, regions=tuple(mine)
                )
            )
    if not kept:
        msg = f"{start}: its shards are empty, expected {math.prod(shape)} elements {_COPY}"
        raise CheckpointError(msg)
    return kept, num_replicas


def _require_inside(start: str, region: Region, shape: Sequence[int], what: str) -> None:
    fits = len(region) == len(shape) and all(
        0 <= at <= stop <= size for (at, stop), size in zip(region, shape, strict=False)
    )
    if not fits:
        msg = (
            f"{start} has a region {_shown(region)} outside of {what}, expected one inside "
            f"{_shown(whole_region(shape))} (do not trust this checkpoint)"
        )
        raise CheckpointError(msg)


def _require_partition(start: str, shape: tuple[int, ...], regions: Sequence[Region]) -> None:
    """Require that regions cover a layer exactly once.

    Their volumes add up to it, and no two share a cell of the grid that their edges span.
    """
    needed, held = math.prod(shape), sum(map(_volume, regions))
    if held < needed:
        msg = f"{start}: its shards hold {held} of {needed} elements, expected all {_COPY}"
        raise CheckpointError(msg)
    if held > needed or not _are_disjoint(regions, len(shape)):
        msg = (
            f"{start} has shards that overlap, expected each element once (they come from saves "
            "on different numbers of ranks: remove those that are left over)"
        )
        raise CheckpointError(msg)


def _are_disjoint(regions: Sequence[Region], num_dims: int) -> bool:
    places: list[Mapping[int, int]] = []
    num_cells = 1
    for dim in range(num_dims):
        edges = sorted({edge for region in regions for edge in region[dim]})
        places.append({edge: place for place, edge in enumerate(edges)})
        num_cells *= max(1, len(edges) - 1)
        if num_cells > _MAX_CELLS:
            return False  # nothing that is cut along a grid of ranks has so many
    taken: set[tuple[int, ...]] = set()
    for region in regions:
        spans = (
            range(place[at], place[stop]) for place, (at, stop) in zip(places, region, strict=True)
        )
        for cell in product(*spans):
            if cell in taken:
                return False
            taken.add(cell)
    return True


def _volume(region: Region) -> int:
    return math.prod(stop - at for at, stop in region)


def _shown(region: Region) -> str:
    return display_name(f"[{', '.join(f'{at}:{stop}' for at, stop in region)}]", limit=80)
