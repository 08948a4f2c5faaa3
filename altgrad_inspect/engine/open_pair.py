"""Two checkpoints, any two, as if they were a run: A, then B, whatever their steps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from altgrad_inspect.checkpoints.candidates import name_candidate, open_candidate
from altgrad_inspect.checkpoints.checkpoint import Checkpoint, open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.display import display_name
from altgrad_inspect.engine.open_run import build_record, select_units
from altgrad_inspect.engine.plan import LayerUnit
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.records import CheckpointRecord
from altgrad_inspect.refs import CheckpointRef
from altgrad_inspect.settings import MERGED, SelectionSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPair:
    """Two checkpoints with their headers read.

    Attributes:
        paths: A and B, as the user named them.
        steps: What they are called in tables: their own steps, or 0 and 1 where A has none,
            or B has none that is later.
        checkpoints: A and B.
        records: One row each.
        units: The selected layers of both, by name; each holds A and B in this order.
        notes: Sentences for stderr.
    """

    paths: tuple[str, str]
    steps: tuple[int, int]
    checkpoints: tuple[Checkpoint, Checkpoint]
    records: tuple[CheckpointRecord, CheckpointRecord]
    units: tuple[LayerUnit, ...]
    notes: tuple[str, ...]


def open_pair(a: str | Path, b: str | Path, selection: SelectionSettings) -> OpenPair:
    """Find two checkpoints, read their headers and select their layers.

    Raises:
        CheckpointError: One is missing, damaged, or a run of several checkpoints.
        NothingMatchedError: One holds no checkpoint, or no layer matches.
    """
    found, notes = zip(*(_find_one(target) for target in (a, b)), strict=True)
    own = [_find_step(ref) for ref in found]
    steps, about_steps = _number(own)
    first, second = (
        open_checkpoint(replace(ref, step=step), merges_adapters=selection.adapters == MERGED)
        for ref, step in zip(found, steps, strict=True)
    )
    units, about_layers = select_units((first, second), selection)
    paths = (str(a), str(b))
    return OpenPair(
        paths=paths,
        steps=steps,
        checkpoints=(first, second),
        records=(
            build_record(paths[0], first.ref, first),
            build_record(paths[1], second.ref, second),
        ),
        units=units,
        notes=tuple(
            dict.fromkeys(
                [note for part in notes for note in part]
                + about_steps
                + [*first.notes, *second.notes, *about_layers]
            )
        ),
    )


def _find_one(target: str | Path) -> tuple[CheckpointRef, tuple[str, ...]]:
    run = discover_run([target])
    if len(run.checkpoints) > 1:
        newest = display_name(str(run.checkpoints[-1].path))
        msg = (
            f"{display_name(str(target))}: is a run of {len(run.checkpoints)} checkpoints, "
            f"expected one checkpoint (name one of them, e.g. {newest})"
        )
        raise CheckpointError(msg)
    return run.checkpoints[0], run.notes


def _find_step(ref: CheckpointRef) -> int | None:
    """Return the step that the checkpoint itself or its name says; None if neither does."""
    return open_candidate(name_candidate(ref.path)).step


def _number(own: Sequence[int | None]) -> tuple[tuple[int, int], list[str]]:
    first, second = own
    if first is not None and second is not None and first < second:
        return (first, second), []
    said = ["no step" if step is None else f"step {step}" for step in own]
    return (0, 1), [f"A has {said[0]} and B has {said[1]}: A is called 0 and B is called 1"]
