"""The same note about many checkpoints, said once."""

from collections.abc import Iterable
from typing import Final

_PLACE: Final = "\0"
_FEWEST: Final = 3


def fold_repeats(notes: Iterable[tuple[str, str]]) -> list[str]:
    """Say once what is to be said of three or more checkpoints.

    Args:
        notes: Of each note the path of its checkpoint as it stands in it, and the note.

    Returns:
        The notes in their order; of those that differ in nothing but the path the first, and
        of how many more it is true.
    """
    groups: dict[str, list[str]] = {}
    for path, note in notes:
        groups.setdefault(note.replace(path, _PLACE) if path else note, []).append(note)
    folded: list[str] = []
    for group in groups.values():
        if len(set(group)) == 1:
            folded.append(group[0])  # it does not speak of one checkpoint
        elif len(group) < _FEWEST:
            folded += group
        else:
            folded.append(f"{group[0]} (and {len(group) - 1} more checkpoints likewise)")
    return folded
