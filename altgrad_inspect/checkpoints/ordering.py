"""The order of checkpoints: by step, by name or as given; and what in it deserves a word."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from altgrad_inspect.checkpoints.candidates import OpenedCandidate
from altgrad_inspect.checkpoints.layouts.accelerate import NAME as ACCELERATE
from altgrad_inspect.checkpoints.layouts.trainer import TrainerLayout
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError, ConfigError
from altgrad_inspect.refs import CheckpointRef
from altgrad_inspect.settings import Order

_DIGITS: Final = re.compile(r"([0-9]+)")
_BRANCH: Final = re.compile(r"(?<![a-z])(ingredient|branch|seed)[-_=]?([0-9]{1,9})(?![0-9])")
_MOST_SHOWN: Final = 6
_MOST_STEPS: Final = 3


def number_in_order(
    subject: str, opened: Sequence[OpenedCandidate], order: Order, *, are_named: bool
) -> tuple[list[OpenedCandidate], list[str]]:
    """Give checkpoints numbers from 0 in the place of their steps, unless steps are the order.

    Incomplete ones have a number too, so that it does not change when they are completed.

    Args:
        subject: The run, for messages.
        opened: The candidates, in the order in which they were named or found.
        order: ``step``, ``name`` or ``given``.
        are_named: The user named each of them.

    Returns:
        The candidates, and notes.

    Raises:
        ConfigError: They were not given in an order.
    """
    if order == "step":
        return list(opened), []
    if order == "given" and not are_named and len(opened) > 1:
        msg = (
            f"order: given needs checkpoints that are named one by one, and {subject} is one name "
            f"for {len(opened)} of them, expected several names (or take the order name)"
        )
        raise ConfigError(msg)
    names = [one.candidate.label or str(one.candidate.path) for one in opened]
    chosen = sorted(range(len(names)), key=lambda at: _natural_key(names[at]))
    if order == "given":
        chosen = list(range(len(names)))
    numbered = [
        replace(
            opened[at],
            candidate=replace(opened[at].candidate, step=number, stage=0, unit=""),
            step=number,
            step_notes=(),
        )
        for number, at in enumerate(chosen)
    ]
    how = "order in which they were named" if order == "given" else "order of their names"
    note = f"{subject}: checkpoints are numbered from 0 in the {how}; their own steps do not count"
    return numbered, [note]


def _natural_key(name: str) -> list[tuple[int, int, str]]:
    """Order numbers in names by their value: ``a9`` comes before ``a10``."""
    return [
        (0, int(part), part) if part.isdecimal() else (1, 0, part)
        for part in _DIGITS.split(name)
        if part
    ]


def _name(one: OpenedCandidate) -> str:
    return one.candidate.label or one.candidate.path.name


def require_one_branch(subject: str, complete: Sequence[OpenedCandidate]) -> None:
    """Refuse checkpoints that were trained beside each other and not one after the other.

    Raises:
        CheckpointError: There are two or more branches, such as the ingredients of OLMo-2.
    """
    branches: dict[str, list[int]] = {}
    for one in complete:
        found = _BRANCH.search(_name(one).lower())
        if found is not None:
            stage = f"stage{one.candidate.stage}-" if one.candidate.stage else ""
            branches.setdefault(f"{stage}{found.group()}", []).append(one.step or 0)
    if len(branches) < 2:
        return
    shown = [
        f"{branch} ({len(steps)} checkpoints, steps {min(steps)} to {max(steps)})"
        if len(steps) > 1
        else f"{branch} (step {steps[0]})"
        for branch, steps in sorted(branches.items())
    ]
    more = f" and {len(shown) - _MOST_SHOWN} more" if len(shown) > _MOST_SHOWN else ""
    msg = (
        f"{subject}: holds {len(branches)} branches that were trained beside each other: "
        f"{', '.join(shown[:_MOST_SHOWN])}{more}, expected one sequence (name the checkpoints of "
        f"one, for example by a glob '*{min(branches)}*', or number them all with --order name)"
    )
    raise CheckpointError(msg)


def note_gaps(subject: str, checkpoints: Sequence[CheckpointRef]) -> list[str]:
    """Say where a trainer's checkpoints are missing, which it deletes by ``save_total_limit``.

    A trainer saves at multiples of its interval, and once more at the end of the run.
    """
    steps = [ref.step for ref in checkpoints if ref.layout == TrainerLayout.name]
    gaps = [later - earlier for earlier, later in pairwise(steps)]
    usual = min(gaps[:-1], default=0)
    if usual and any(step % usual for step in steps[:-1]):
        usual = math.gcd(*steps[:-1])
    wide = [
        f"{earlier} to {later}"
        for (earlier, later), gap in zip(pairwise(steps), gaps, strict=True)
        if gap > usual > 0
    ]
    if not wide:
        return []
    more = f" and {len(wide) - _MOST_STEPS} more" if len(wide) > _MOST_STEPS else ""
    shown = f"{', '.join(wide[:_MOST_STEPS])}{more}"
    note = (
        f"{subject}: steps are unevenly spaced: {usual} apart, but {shown}; checkpoints between "
        "were not saved, or deleted (save_total_limit)"
    )
    return [note]


def note_counters(subject: str, checkpoints: Sequence[CheckpointRef]) -> list[str]:
    """Say so where the numbers in names are no training steps."""
    if not any(ref.layout == ACCELERATE for ref in checkpoints) or len(checkpoints) < 2:
        return []
    return [f"{subject}: the names count saves of accelerate, not training steps"]


def note_latest(subject: str, newest: int, latest: int | None) -> list[str]:
    """Say so where nanotron has not noted its newest checkpoint as finished."""
    if latest is None or newest <= latest:
        return []
    note = (
        f"{display_name(subject)}: latest.txt says that step {latest} is the last one finished; "
        f"step {newest} may still be being written"
    )
    return [note]
