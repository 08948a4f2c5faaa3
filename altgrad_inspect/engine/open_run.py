"""From what the user named to the units of work: discover, select, open, cut."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from altgrad_inspect.checkpoints.checkpoint import Checkpoint, open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.selection import matches, select_checkpoints, select_layers
from altgrad_inspect.engine.plan import LayerUnit
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.records import CheckpointRecord, SkippedLayer, Status
from altgrad_inspect.refs import CheckpointRef, RunRef, RunTarget
from altgrad_inspect.settings import MERGED, SelectionSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """A run with its headers read.

    Attributes:
        ref: The run as discovered.
        checkpoints: Those that could be opened, in order.
        records: One row for every checkpoint, skipped and failed ones included.
        units: The selected layers, by name.
        left_out: Stored tensors that hold no weights, such as activation scales.
        notes: Sentences for stderr.
    """

    ref: RunRef
    checkpoints: tuple[Checkpoint, ...]
    records: tuple[CheckpointRecord, ...]
    units: tuple[LayerUnit, ...]
    left_out: tuple[SkippedLayer, ...]
    notes: tuple[str, ...]


def open_run(target: RunTarget, selection: SelectionSettings) -> OpenRun:
    """Discover a run, select checkpoints and layers, and read the headers.

    Raises:
        CheckpointError: The run is missing, or none of its checkpoints can be read.
        NothingMatchedError: There is no checkpoint, or nothing matches the selection.
    """
    targets = [target] if isinstance(target, str | Path) else list(target)
    discovered = discover_run(targets, order=selection.order)
    run = select_checkpoints(discovered, steps=selection.steps, last=selection.last)
    opened: list[Checkpoint] = []
    records: list[CheckpointRecord] = []
    notes = list(run.notes)
    said: dict[str, list[int]] = {}
    problems: list[CheckpointError] = []
    losses = _losses_by_step(run)
    for ref in run.checkpoints:
        try:
            checkpoint = open_checkpoint(ref, merges_adapters=selection.adapters == MERGED)
        except CheckpointError as error:
            problems.append(error)
            notes.append(f"step {ref.step} cannot be read and is left out: {error}")
            records.append(
                build_record(_name(ref, run.path), ref, status=Status.FAILED, reason=str(error))
            )
        else:
            opened.append(checkpoint)
            for note in checkpoint.notes:
                said.setdefault(note, []).append(ref.step)
            records.append(
                build_record(_name(ref, run.path), ref, checkpoint, loss=losses.get(ref.step))
            )
    if problems and not opened:
        raise problems[0]
    notes += [_say_once(note, steps) for note, steps in said.items()]
    records += [
        build_record(_name(ref, run.path), ref, status=ref.status, reason=ref.reason)
        for ref in run.skipped
    ]
    notes += [f"step {ref.step} is left out: {ref.reason}" for ref in run.skipped]
    units, layer_notes = select_units(opened, selection)
    return OpenRun(
        ref=run,
        checkpoints=tuple(opened),
        records=tuple(records),
        units=units,
        left_out=find_left_out(opened, selection),
        notes=(*notes, *layer_notes),
    )


def _say_once(note: str, steps: Sequence[int]) -> str:
    """What several checkpoints give rise to is said once."""
    if len(steps) == 1:
        return f"step {steps[0]}: {note}"
    return f"{len(steps)} checkpoints, steps {steps[0]} to {steps[-1]}: {note}"


def select_units(
    checkpoints: Sequence[Checkpoint], selection: SelectionSettings
) -> tuple[tuple[LayerUnit, ...], list[str]]:
    """Cut the selected layers of opened checkpoints into units; also what is worth a note.

    Raises:
        NothingMatchedError: No layer matches.
    """
    names = {name for checkpoint in checkpoints for name in checkpoint.layers}
    aliases = {
        dropped: kept
        for checkpoint in checkpoints
        for dropped, kept in checkpoint.aliases.items()
        if dropped not in names and kept in names
    }
    chosen = select_layers(
        sorted(names | aliases.keys()), layers=selection.layers, exclude=selection.exclude
    )
    notes = [
        f"{name} is tied to {aliases[name]}: showing that"
        for name in chosen
        if name in aliases and any(matches(pattern, name) for pattern in selection.layers)
    ]
    if not selection.layers:  # then the tied layer is there under its own name
        chosen = tuple(name for name in chosen if name not in aliases)
    steps = tuple(checkpoint.ref.step for checkpoint in checkpoints)
    units = [
        LayerUnit(
            layer=name,
            steps=steps,
            refs=tuple(checkpoint.layers.get(name) for checkpoint in checkpoints),
        )
        for name in sorted({aliases.get(name, name) for name in chosen})
    ]
    return tuple(units), notes


def find_left_out(
    checkpoints: Sequence[Checkpoint], selection: SelectionSettings
) -> tuple[SkippedLayer, ...]:
    """Return the tensors without weights of all checkpoints, each once, as far as selected."""
    found = dict.fromkeys(row for checkpoint in checkpoints for row in checkpoint.left_out)
    return tuple(
        row
        for row in found
        if not any(matches(pattern, row.layer) for pattern in selection.exclude)
        and (
            not selection.layers or any(matches(pattern, row.layer) for pattern in selection.layers)
        )
    )


def build_record(
    path: str,
    ref: CheckpointRef,
    checkpoint: Checkpoint | None = None,
    *,
    loss: float | None = None,
    status: Status = Status.OK,
    reason: str | None = None,
) -> CheckpointRecord:
    """Build the row of one checkpoint, which it calls ``path``."""
    return CheckpointRecord(
        step=ref.step,
        path=path,
        layout=ref.layout,
        scheme=checkpoint.scheme if checkpoint else None,
        num_layers=len(checkpoint.layers) if checkpoint else None,
        num_weights=checkpoint.num_weights if checkpoint else None,
        size_bytes=checkpoint.size_bytes if checkpoint else None,
        fingerprint=checkpoint.fingerprint if checkpoint else None,
        loss=loss,
        status=status,
        reason=reason,
    )


def _name(ref: CheckpointRef, run_path: str) -> str:
    return ref.label or _relative(ref.path, run_path)


def _relative(path: Path, run_path: str) -> str:
    """The checkpoint's path below the run, so that tables do not depend on where it lies.

    Below a glob, that is below the directories that it spells out.
    """
    for root in (Path(run_path), _spelled_out(run_path)):
        if root is not None and path.is_relative_to(root):
            return str(path.relative_to(root))
    return path.name


def _spelled_out(pattern: str) -> Path | None:
    """The directories before the first part that has magic; None if no part has any."""
    parts = Path(pattern).parts
    first = next((i for i, part in enumerate(parts) if glob.has_magic(part)), None)
    return None if first is None else Path(*parts[:first])


def _losses_by_step(run: RunRef) -> dict[int, float]:
    """Mean training loss in (step of the checkpoint before, own step], where there is any."""
    means: dict[int, float] = {}
    first = float("-inf")
    for ref in run.checkpoints:
        window = [loss for step, loss in run.losses if first < step <= ref.step]
        if window:
            means[ref.step] = sum(window) / len(window)
        first = ref.step
    return means
