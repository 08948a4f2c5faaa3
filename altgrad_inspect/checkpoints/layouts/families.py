"""Flat files of several models in one directory: which one is meant must be said."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from altgrad_inspect.checkpoints.layouts.listing import WEIGHTS_SUFFIX, Candidate
from altgrad_inspect.checkpoints.layouts.weights import shard_stem
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError

_GLOB_CHARACTERS: Final = re.compile(r"([*?[])")
_MOST_SHOWN: Final = 4


def require_one_family(subject: str, directory: Path, candidates: Sequence[Candidate]) -> None:
    """Refuse files that have a step in common and differ in more than that.

    Args:
        subject: What the user named, for messages.
        directory: Where they lie.
        candidates: The files.

    Raises:
        CheckpointError: There are several families, such as ``unet_100`` and ``vae_100``.
    """
    families: dict[str, set[tuple[int, int]]] = {}
    for one in candidates:
        key = (one.stage, one.step or 0)
        families.setdefault(_as_glob(one), set()).add(key)
    num_steps = len(set().union(*families.values()))
    if len(families) < 2 or num_steps == sum(map(len, families.values())):
        return
    shown = [display_name(family, limit=60) for family in sorted(families)[:_MOST_SHOWN]]
    more = f" and {len(families) - _MOST_SHOWN} more" if len(families) > _MOST_SHOWN else ""
    largest = max(sorted(families), key=lambda family: len(families[family]))
    example = display_name(str(_escape(directory) / largest))
    msg = (
        f"{display_name(subject)}: holds files of {len(families)} kinds for the same steps: "
        f"{', '.join(shown)}{more}, expected those of one model (name one kind by a glob: "
        f"'{example}')"
    )
    raise CheckpointError(msg)


def _as_glob(candidate: Candidate) -> str:
    """Return the name of a file with its step as ``*``."""
    stem = shard_stem(candidate.path.stem) if candidate.files else candidate.path.stem
    escaped = _GLOB_CHARACTERS.sub(r"[\1]", stem or "")
    number = re.compile(rf"(?<![0-9])0*{candidate.step}(?![0-9])")
    matches = list(number.finditer(escaped))
    if matches:
        start, end = matches[-1].span()
        escaped = f"{escaped[:start]}*{escaped[end:]}"
    return f"{escaped}{'-*' if candidate.files else ''}{WEIGHTS_SUFFIX}"


def _escape(directory: Path) -> Path:
    return Path(_GLOB_CHARACTERS.sub(r"[\1]", str(directory)))
