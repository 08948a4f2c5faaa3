"""Steps in the names of files and directories."""

import re
from dataclasses import dataclass
from typing import Final

from altgrad_inspect.checkpoints.layouts.non_steps import (
    has_written_date,
    strip_dates,
    strip_non_steps,
)

_UNITS: Final = ("step", "iter", "epoch", "checkpoint")
_UNIT_OF: Final = {
    "step": "step",
    "steps": "step",
    "iter": "iter",
    "iteration": "iter",
    "epoch": "epoch",
    "ep": "epoch",
    "checkpoint": "checkpoint",
    "ckpt": "checkpoint",
}
_COUNTED: Final = re.compile(
    r"(?<![a-z])(steps?|iter(?:ation)?|epoch|ep|checkpoint|ckpt)[-_=]?([0-9]{1,15})(?![0-9])"
)
_STAGE: Final = re.compile(r"(?<![a-z])stage[-_=]?([0-9]{1,9})(?![0-9])")
_LAST_NUMBER: Final = re.compile(r"(?<![0-9])([0-9]{1,15})$")
_LAST_DELIMITED_NUMBER: Final = re.compile(r"(?:^|[-_.=])([0-9]{1,15})$")
_WORDS: Final = re.compile(r"[a-z]+")
_SHARD: Final = re.compile(r"-[0-9]{5}-of-[0-9]{5}$")
_SET_ASIDE: Final = frozenset(
    {
        *{"tmp", "temp", "partial", "incomplete", "latest", "last", "best", "final"},
        *{"optimizer", "optim", "scheduler", "ema", "rng"},
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepName:
    """What a name says: ``unit`` is empty when it is only a number."""

    step: int
    stage: int = 0
    unit: str = ""


def parse_step_name(name: str) -> StepName | None:
    """Read stage and step from a name without its suffix.

    A number after ``step`` counts before one after ``iter``, ``epoch`` or ``checkpoint``;
    without any of these words it is the number that the name ends with, if not for a
    precision such as ``-bf16``, a hash or a date. Eight digits that may be a date are a step
    where there is no other.
    """
    lowered = strip_non_steps(name.lower())
    stage_match = _STAGE.search(lowered)
    stage = int(stage_match.group(1)) if stage_match else 0
    undated = strip_dates(lowered)
    for text in dict.fromkeys((undated, lowered)):
        counted = {_UNIT_OF[word]: int(number) for word, number in _COUNTED.findall(text)}
        for unit in _UNITS:
            if unit in counted:
                return StepName(step=counted[unit], stage=stage, unit=unit)
    last = _LAST_NUMBER.search(lowered)
    if undated != lowered:
        other = _LAST_DELIMITED_NUMBER.search(undated)
        last = other if other or has_written_date(lowered) else last
    return StepName(step=int(last.group(1)), stage=stage) if last else None


def is_set_aside(name: str) -> bool:
    """Say whether a name marks a copy or a temporary file rather than a step of the run."""
    return not _SET_ASIDE.isdisjoint(_WORDS.findall(name.lower()))


def is_shard_name(stem: str) -> bool:
    """Say whether a name without its suffix is that of one part of a checkpoint."""
    return _SHARD.search(stem) is not None
