"""Checkpoints that look complete alone, and not beside their neighbours.

Sharded checkpoints of torch do not say how large a layer is: it ends where its last shard
ends, so that a lost last rank makes every layer smaller and leaves no hole.
"""

from collections.abc import Sequence
from dataclasses import replace

from altgrad_inspect.checkpoints.assemblies.dcp_shards import FILE_NAME
from altgrad_inspect.checkpoints.candidates import OpenedCandidate
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError


def find_lost_ranks(
    opened: Sequence[OpenedCandidate],
) -> tuple[list[OpenedCandidate], list[str]]:
    """Compare sharded checkpoints with those before and after them.

    A checkpoint has lost ranks if a neighbour has shards of higher ranks, and at least half of
    the layers that these hold are larger there, or are only there. One layer that grows, as
    embeddings do, is no loss.

    Returns:
        The candidates, with a problem where one lost ranks; and notes.
    """
    sharded = [at for at, one in enumerate(opened) if one.problem is None and one.shapes]
    sharded.sort(key=lambda at: (opened[at].candidate.stage, opened[at].step or 0))
    found = list(opened)
    for place, at in enumerate(sharded):
        beside = (*sharded[max(0, place - 1) : place], *sharded[place + 1 : place + 2])
        for neighbour in beside:
            problem = _compare(opened[at], opened[neighbour])
            if problem is not None:
                found[at] = replace(opened[at], problem=problem)
                break
    if len(sharded) != 1:
        return found, []
    path = display_name(str(opened[sharded[0]].candidate.path))
    note = (
        f"{path}: its shards do not say how large a layer is, so that a lost last shard could only "
        "be seen beside another checkpoint"
    )
    return found, [note]


def _compare(one: OpenedCandidate, other: OpenedCandidate) -> CheckpointError | None:
    last, other_last = _last_rank(one), _last_rank(other)
    if last >= other_last:
        return None
    lost = [
        name
        for name, shape in other.shapes.items()
        if name not in one.shapes or _is_cut(one.shapes[name], shape)
    ]
    whole = [
        name for name, shape in other.shapes.items() if one.shapes.get(name) == shape and shape
    ]
    if not lost or len(lost) < len(whole):
        return None
    name = lost[0]
    here = f"shape {list(one.shapes[name])}" if name in one.shapes else "no shard at all"
    msg = (
        f"{display_name(str(one.candidate.path))}: is incomplete: it has shards of {last} ranks "
        f"and {display_name(other.candidate.path.name)} of {other_last}, where layer "
        f"'{display_name(name, limit=80)}' has shape {list(other.shapes[name])} and here {here}, "
        "expected the same (the shards of the last ranks are missing: copy it again)"
    )
    return CheckpointError(msg)


def _is_cut(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    return (
        len(shape) == len(whole)
        and shape != whole
        and all(size <= full for size, full in zip(shape, whole, strict=True))
    )


def _last_rank(one: OpenedCandidate) -> int:
    files = one.weights.files if one.weights is not None else ()
    matches = (FILE_NAME.fullmatch(file.name) for file in files)
    return max((int(match["shard"]) for match in matches if match), default=0)
