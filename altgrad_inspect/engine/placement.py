"""Where the checkpoints of a layer are compared, if a GPU has no room for one of them.

A layer that does not fit while it is read stays on the CPU. What is compared with it is moved
there, for that comparison only: the next one is on the GPU again if both of its checkpoints are.
Nothing else decides this; who compares gets sightings that are together.
"""

from dataclasses import replace
from typing import Final

from altgrad_inspect.engine.sighting import Sighting, first_line

ON_CPU: Final = "computed on the CPU: out of GPU memory"
"""Reason of a row that is all right, but was not computed where it was asked for."""


def place_together(
    current: Sighting, *others: Sighting | None
) -> tuple[Sighting, list[Sighting | None]]:
    """Return sightings of one layer that can be compared: on the CPU if one of them is there.

    Args:
        current: Of one checkpoint.
        others: Of earlier ones; None where there is none.

    Returns:
        ``current`` and the others, in order: they themselves where nothing had to move. A moved
        one has the note `ON_CPU`, and is the same object each time.
    """
    if not any(one is not None and one.note for one in (current, *others)):
        return current, list(others)
    return move_to_cpu(current), [one if one is None else move_to_cpu(one) for one in others]


def move_to_cpu(sighting: Sighting) -> Sighting:
    """Return the same on the CPU, with the note `ON_CPU`; what has no weights as it is.

    The copy is made once and lives as long as the sighting. One that cannot be made leaves a
    sighting that has a problem instead of weights.
    """
    if sighting.note or sighting.weights is None:
        return sighting
    if sighting.moved is None:
        coded = sighting.coded
        try:
            sighting.moved = replace(
                sighting,
                weights=sighting.weights.cpu(),
                coded=None if coded is None else coded.cpu(),
                note=ON_CPU,
            )
        except (MemoryError, RuntimeError) as error:
            sighting.moved = replace(sighting, weights=None, coded=None, problem=first_line(error))
    return sighting.moved
