"""Which layers and which checkpoints of a run are looked at."""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import translate
from functools import lru_cache
from typing import Final

from altgrad_inspect.display import display_name
from altgrad_inspect.errors import ConfigError, NothingMatchedError
from altgrad_inspect.refs import RunRef

_REGEX_PREFIX: Final = "re:"
_GLOB_CHARACTERS: Final = frozenset("*?[")
_DIGITS: Final = re.compile(r"[0-9]+")
_STEP: Final = re.compile(r"[0-9]{0,18}")
_LARGEST_STEP: Final = (1 << 63) - 1
_MOST_SUGGESTED: Final = 3


def matches(pattern: str, name: str) -> bool:
    """Say whether a layer is meant by a pattern.

    Args:
        pattern: A substring; a glob for the whole name if it has any of ``*?[``; or, after
            ``re:``, a regular expression that is found anywhere in the name.
        name: The whole name; upper and lower case differ.

    Raises:
        ConfigError: The pattern is empty or not a valid regular expression.
    """
    return _compile(pattern)(name)


@lru_cache(maxsize=256)
def _compile(pattern: str) -> Callable[[str], bool]:
    if pattern in {"", _REGEX_PREFIX}:
        msg = f"pattern {pattern!r}: is empty, expected part of a layer's name (leave it out)"
        raise ConfigError(msg)
    if pattern.startswith(_REGEX_PREFIX):
        try:
            search = re.compile(pattern.removeprefix(_REGEX_PREFIX)).search
        except (re.error, RecursionError, OverflowError) as error:
            msg = (
                f"pattern '{display_name(pattern)}': is no regular expression: {error}, expected "
                "one as Python's re has them (correct it)"
            )
            raise ConfigError(msg) from error
        return lambda name: search(name) is not None
    if not _GLOB_CHARACTERS.isdisjoint(pattern):
        match = re.compile(translate(pattern)).match
        return lambda name: match(name) is not None
    return lambda name: pattern in name


def select_layers(
    names: Sequence[str], *, layers: Sequence[str] = (), exclude: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the names that are looked at, in the given order.

    Args:
        names: All layer names.
        layers: Patterns of the layers to look at; all layers if empty. Each must match.
        exclude: Patterns of layers to leave out, which win; they may match nothing.

    Raises:
        ConfigError: A pattern is invalid.
        NothingMatchedError: A pattern of ``layers`` matches nothing, or nothing is left.
    """
    kept: set[str] = set() if layers else set(names)
    for pattern in layers:
        found = [name for name in names if matches(pattern, name)]
        if not found:
            raise _nothing_matches(pattern, names)
        kept.update(found)
    chosen = [name for name in names if name in kept]
    left = tuple(name for name in chosen if not any(matches(one, name) for one in exclude))
    if chosen and not left:
        shown = ", ".join(display_name(pattern) for pattern in exclude)
        msg = f"--exclude {shown}: leaves no layer of {len(chosen)}, expected some (narrow it)"
        raise NothingMatchedError(msg)
    return left


def _nothing_matches(pattern: str, names: Sequence[str]) -> NothingMatchedError:
    close = find_closest(pattern.removeprefix(_REGEX_PREFIX), names)
    shown = ", ".join(display_name(name, limit=100) for name in close)
    advice = f"closest: {shown}" if close else "list them with `altgrad-inspect ls`"
    return NothingMatchedError(
        f"--layers {display_name(pattern)}: matches none of {len(names)} layers, expected part "
        f"of a name, a glob or re:… ({advice})"
    )


def find_closest(name: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the names most like a misspelt one, the most similar first, at most three.

    Layers that differ only in their numbers are compared once, which keeps a model of
    45,000 layers fast. A name that is like one part of a layer's path counts too.
    """
    templates: dict[str, str] = {}
    for candidate in names:
        templates.setdefault(_DIGITS.sub("#", candidate), candidate)
    wanted = _DIGITS.sub("#", name)
    close = difflib.get_close_matches(wanted, templates, n=_MOST_SUGGESTED, cutoff=0.6)
    if close:
        return tuple(templates[template] for template in close)
    parts: dict[str, str] = {}
    for template, candidate in templates.items():
        for part in template.split("."):
            parts.setdefault(part, candidate)
    near = difflib.get_close_matches(wanted.strip("*.?"), parts, n=_MOST_SUGGESTED, cutoff=0.6)
    return tuple(dict.fromkeys(parts[part] for part in near))


def select_checkpoints(run: RunRef, *, steps: str | None = None, last: int | None = None) -> RunRef:
    """Return the run with fewer checkpoints.

    Args:
        run: The run as found.
        steps: ``FIRST:LAST:STRIDE``, each part optional, both ends included; the stride
            counts checkpoints from the first one kept. One number is one step.
        last: Of those, only the last so many, at least 1.

    Returns:
        The run with the chosen checkpoints; of the incomplete ones, those between them.

    Raises:
        ConfigError: ``steps`` or ``last`` has another form.
        NothingMatchedError: No checkpoint is left.
    """
    first, final, stride = parse_steps(steps)
    if last is not None and last < 1:
        msg = f"--last {last}: is out of range, expected at least 1"
        raise ConfigError(msg)
    inside = [ref for ref in run.checkpoints if first <= ref.step <= final]
    kept = inside[::stride][-last if last is not None else 0 :]
    if not kept:
        found = [ref.step for ref in run.checkpoints]
        between = f"steps {min(found)} to {max(found)}" if found else "no steps"
        msg = (
            f"--steps {display_name(steps or '')}: leaves no checkpoint of "
            f"{display_name(run.path)}, which has {between} (choose among them)"
        )
        raise NothingMatchedError(msg)
    start = max(first, kept[0].step) if last is not None else first
    skipped = tuple(ref for ref in run.skipped if start <= ref.step <= final)
    return dataclasses.replace(run, checkpoints=tuple(kept), skipped=skipped)


def parse_steps(steps: str | None) -> tuple[int, int, int]:
    """Return first and last step and the stride that ``FIRST:LAST:STRIDE`` asks for.

    Raises:
        ConfigError: It is not of that form.
    """
    parts = (steps or "").split(":")
    numbers = [int(part) if part else None for part in parts if _STEP.fullmatch(part)]
    is_valid = len(numbers) == len(parts) <= 3 and steps != ""
    first, final, stride = (*numbers, None, None, None)[:3]
    if len(parts) == 1 and first is not None:
        final = first
    if not is_valid or stride == 0:
        msg = (
            f"--steps '{display_name(steps or '')}': is not FIRST:LAST:STRIDE, expected whole "
            "numbers and a stride of at least 1, for example 100:5000:2"
        )
        raise ConfigError(msg)
    return first or 0, _LARGEST_STEP if final is None else final, stride or 1
