"""Layer names without the parts that training wrappers put into them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from altgrad_inspect.display import display_name

WRAPPERS: Final = frozenset(
    {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
)
"""Parts that DataParallel, torch.compile, FSDP and activation checkpointing add to a path."""


def normalise_name(stored_name: str) -> str:
    """Return the name without wrapper parts; its last part always stays."""
    *path, last = stored_name.split(".")
    return ".".join([*(part for part in path if part not in WRAPPERS), last])


def normalise_names(stored_names: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Normalise the names of one checkpoint so that they stay distinct.

    Args:
        stored_names: Names as they stand in the files, all different.

    Returns:
        Stored name to name, in the given order; and those stored names that were kept
        because they would have become equal.
    """
    short = {stored: normalise_name(stored) for stored in stored_names}
    count = Counter(short.values())
    kept = tuple(stored for stored in stored_names if count[short[stored]] > 1)
    return {**short, **{stored: stored for stored in kept}}, kept


def note_kept_names(path: Path, kept: Sequence[str]) -> list[str]:
    """Say of each layer of the checkpoint at ``path`` that keeps its stored name why it does."""
    return [
        f"{display_name(str(path))}: layer '{display_name(stored, limit=80)}' keeps its stored "
        "name, because another layer has the same one without wrapper parts"
        for stored in kept
    ]
