"""Stretches: how long a fault lasted, when some of the rows say nothing."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A fault that lasted, as indices into the signs it was found in.

    Attributes:
        faults: The faulty ones, in order; never empty.
        detected: Where there were enough of them to say so.
        recovered: Where the first fine one after them is; None if it has not come.
    """

    faults: tuple[int, ...]
    detected: int
    recovered: int | None

    @property
    def onset(self) -> int:
        """Where it began."""
        return self.faults[0]


def find_last_stretch(signs: Sequence[bool | None], *, min_length: int) -> Stretch | None:
    """Return the last unbroken stretch of at least ``min_length`` faults, if there is one.

    Args:
        signs: In order: True for a fault, False for none, None for what says neither. A None
            does not break a stretch and does not make it longer.
        min_length: At least 1.
    """
    found: Stretch | None = None
    faults: list[int] = []
    for index, sign in enumerate([*signs, False]):
        if sign:
            faults.append(index)
        elif sign is False:
            if len(faults) >= min_length:
                found = Stretch(
                    faults=tuple(faults),
                    detected=faults[min_length - 1],
                    recovered=index if index < len(signs) else None,
                )
            faults = []
    return found
