"""Opened candidates put in order: complete ones, incomplete ones, and what is to be said."""

import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from altgrad_inspect.checkpoints.candidates import OpenedCandidate
from altgrad_inspect.checkpoints.neighbours import find_lost_ranks
from altgrad_inspect.checkpoints.ordering import (
    note_counters,
    note_gaps,
    number_in_order,
    require_one_branch,
)
from altgrad_inspect.checkpoints.repeated_notes import fold_repeats
from altgrad_inspect.checkpoints.trainer_state import FILE_NAME, read_global_step, read_losses
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError, HeaderError
from altgrad_inspect.records import Status
from altgrad_inspect.refs import PLAIN, CheckpointRef, RunRef
from altgrad_inspect.settings import Order


def build_run(
    subject: str,
    opened: Sequence[OpenedCandidate],
    *,
    are_named: bool,
    notes: Sequence[str] = (),
    root: Path | None = None,
    order: Order = "step",
) -> RunRef:
    """Order checkpoints by stage and step, or as the user asks.

    Args:
        subject: What the user named, as text.
        opened: The candidates, at least one.
        are_named: The user named each of them: then one that cannot be used is an error
            and not left out.
        notes: What is to be said first.
        root: The directory of the run, where its log may lie.
        order: What decides: ``step``; ``name``; or ``given``, which needs named ones.

    Raises:
        CheckpointError: A step appears twice, checkpoints are no sequence, or none can be used.
        ConfigError: They were not given in an order.
    """
    shown = display_name(subject)
    opened, about_order = number_in_order(shown, opened, order, are_named=are_named)
    opened, about_ranks = find_lost_ranks(opened)
    problems = [one.problem for one in opened if one.problem is not None]
    if problems and (are_named or len(opened) == 1):
        raise problems[0]
    complete = [one for one in opened if one.problem is None]
    if not complete:
        msg = (
            f"{shown}: none of its {len(opened)} checkpoints is complete, expected "
            f"at least one (the first: {problems[0]})"
        )
        raise CheckpointError(msg) from problems[0]
    if order == "step":
        require_one_branch(shown, complete)
    numbered, numbering = _number(shown, complete)
    checkpoints = tuple(sorted(numbered, key=lambda ref: (ref.stage, ref.step)))
    _require_increasing(shown, checkpoints)
    newest = (checkpoints[-1].stage, checkpoints[-1].step)
    skipped = [_leave_out(one, newest) for one in opened if one.problem is not None]
    # Numbers that are no steps have no losses: the log knows steps.
    losses, about_losses = _find_losses(complete, root) if order == "step" else ((), [])
    return RunRef(
        path=subject,
        checkpoints=checkpoints,
        skipped=tuple(sorted(skipped, key=lambda ref: (ref.stage, ref.step, str(ref.path)))),
        notes=(
            *notes,
            *about_order,
            *numbering,
            *_note_units(complete),
            *(note_gaps(shown, checkpoints) if order == "step" else ()),
            *(note_counters(shown, checkpoints) if order == "step" else ()),
            *fold_repeats(
                (display_name(str(one.candidate.path)), note)
                for one in opened
                for note in (*one.step_notes, *one.notes)
            ),
            *about_ranks,
            *about_losses,
        ),
        losses=losses,
    )


def _number(
    subject: str, complete: Sequence[OpenedCandidate]
) -> tuple[list[CheckpointRef], list[str]]:
    """Give every checkpoint a step, also where neither files nor names say one."""
    without = [one for one in complete if one.step is None]
    if len(without) == len(complete):
        refs = [_to_ref(one, position) for position, one in enumerate(complete)]
        note = f"{subject}: the names have no steps; numbered from 0 in the order given"
        return refs, [note] if len(refs) > 1 else []
    if without:
        path = display_name(str(without[0].candidate.path))
        msg = (
            f"{path}: has no step in its name, expected one such as step_000100 because others "
            "have one (rename it)"
        )
        raise CheckpointError(msg)
    return [_to_ref(one, one.step or 0) for one in complete], []


def _to_ref(one: OpenedCandidate, step: int) -> CheckpointRef:
    weights = one.weights
    return CheckpointRef(
        step=step,
        stage=one.candidate.stage,
        path=one.candidate.path,
        layout=(weights.layout if weights else None) or one.candidate.layout,
        files=weights.files if weights is not None else (),
        assembly=weights.assembly if weights is not None else PLAIN,
        layer_files=weights.layer_files if weights is not None else {},
        status=Status.OK if one.problem is None else Status.SKIPPED,
        reason=None if one.problem is None else str(one.problem),
        label=one.candidate.label,
    )


def _leave_out(one: OpenedCandidate, newest: tuple[int, int]) -> CheckpointRef:
    """Tell a checkpoint that is being written from one that is damaged.

    A file that breaks the rules is taken to be unfinished while nothing newer is complete.
    Once there is, nobody will finish it: reading it has failed, and a script should know.
    """
    ref = _to_ref(one, one.step or 0)
    is_damaged = isinstance(one.problem, HeaderError) and (ref.stage, ref.step) < newest
    return dataclasses.replace(ref, status=Status.FAILED) if is_damaged else ref


def _require_increasing(subject: str, checkpoints: Sequence[CheckpointRef]) -> None:
    for earlier, later in pairwise(checkpoints):
        names = f"{display_name(str(earlier.path))} and {display_name(str(later.path))}"
        if earlier.stage != later.stage and later.step <= earlier.step:
            msg = (
                f"{subject}: steps start again at stage {later.stage} ({names}), expected steps "
                "that increase (name the checkpoints of one stage, for example by a glob, or "
                "number them all with --order name)"
            )
            raise CheckpointError(msg)
        if later.step == earlier.step:
            msg = (
                f"{subject}: step {later.step} appears twice: {names}, expected one checkpoint a "
                "step (move one away, name the checkpoints to read, or number them with --order)"
            )
            raise CheckpointError(msg)


def _note_units(complete: Sequence[OpenedCandidate]) -> list[str]:
    units = sorted({one.candidate.unit for one in complete if one.candidate.unit})
    if len(units) < 2:
        return []
    return [f"the names count {' and '.join(units)}; their numbers are compared as they are"]


def _find_losses(
    complete: Sequence[OpenedCandidate], root: Path | None
) -> tuple[tuple[tuple[int, float], ...], list[str]]:
    """Read the newest log: each one repeats the history before it."""
    newest = max(
        (one for one in complete if (one.directory / FILE_NAME).is_file()),
        key=lambda one: one.step or 0,
        default=None,
    )
    try:
        directory = newest.directory if newest is not None else None
        if root is not None and (root / FILE_NAME).is_file():
            at_root = read_global_step(root) or 0
            if newest is None or at_root >= (newest.step or 0):
                directory = root
        return (read_losses(directory), []) if directory is not None else ((), [])
    except CheckpointError as error:
        return (), [f"no losses: {error}"]
