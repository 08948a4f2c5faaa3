"""What a compressed-tensors configuration says about the weights of a layer."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from altgrad_inspect.checkpoints.schemes.blocks import BLOCK_COLS, BLOCK_ROWS, WHOLE_GROUPS
from altgrad_inspect.checkpoints.schemes.scheme import SchemeContext
from altgrad_inspect.refs import Fact

METHODS: Final = ("compressed-tensors", "compressed_tensors")
"""What a configuration calls it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSettings:
    """How one of the ``config_groups`` quantizes weights; None for what it does not say.

    Attributes:
        kind: ``int`` or ``float``.
        bits: Width of a code.
        group_size: Columns that share a scale.
        block: Rows and columns that share a scale.
    """

    kind: str | None = None
    bits: int | None = None
    group_size: int | None = None
    block: tuple[int, int] | None = None

    @property
    def facts(self) -> dict[str, Fact]:
        """What `find_blocks` can use."""
        if self.block is not None:
            return {BLOCK_ROWS: self.block[0], BLOCK_COLS: self.block[1]}
        if self.group_size is not None:
            return {BLOCK_COLS: self.group_size, WHOLE_GROUPS: True}
        return {}


def settings_for(context: SchemeContext, path: str) -> tuple[WeightSettings, ...]:
    """Return the settings that may be those of the module ``path``, the likeliest first.

    Most targets are class names or regular expressions, and a checkpoint tells no classes and
    may bring any expression; so the caller takes the first that fits dtypes and shapes.
    """
    if context.method not in METHODS:
        return ()
    found = list(_groups(context))
    return tuple(one for _, one in sorted(found, key=lambda pair: path not in pair[0]))


def _groups(context: SchemeContext) -> Iterator[tuple[list[object], WeightSettings]]:
    groups = context.settings.get("config_groups")
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        if isinstance(weights, dict):
            targets = group.get("targets")
            block = weights.get("block_structure")
            yield (
                targets if isinstance(targets, list) else [],
                WeightSettings(
                    kind=kind if isinstance(kind := weights.get("type"), str) else None,
                    bits=_positive(weights.get("num_bits")),
                    group_size=_positive(weights.get("group_size")),
                    block=_block(block),
                ),
            )


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _block(value: object) -> tuple[int, int] | None:
    """``[128, 128]``; early versions wrote ``"128x128"``."""
    sizes = value.split("x") if isinstance(value, str) else value
    match sizes:
        case [(int() | str()) as rows, (int() | str()) as cols]:
            both = (str(rows), str(cols))
            if all(one.isdecimal() and len(one) < 10 and int(one) > 0 for one in both):
                return int(both[0]), int(both[1])
        case _:
            pass
    return None


def version_of(context: SchemeContext) -> tuple[int, int] | None:
    """Return the first two numbers of the version that wrote the configuration; None if unsaid."""
    if context.method not in METHODS:
        return None
    version = context.settings.get("version")
    parts = version.split(".")[:2] if isinstance(version, str) else ()
    if len(parts) != 2 or not all(part.isdecimal() and len(part) < 6 for part in parts):
        return None
    return int(parts[0]), int(parts[1])
