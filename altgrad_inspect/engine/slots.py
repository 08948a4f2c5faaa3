"""Which of a worker's buffers holds which checkpoint, and which one is next."""

from collections.abc import Set as AbstractSet

from altgrad_inspect.engine.plan import READ_AHEAD_BYTES


class Slots:
    """Buffers that are numbered, filled and let go again.

    They only ever grow. So that there is not one large buffer more than large layers need,
    what may not be read ahead goes into the largest free one, and the rest into the smallest.

    Args:
        count: How many there are.

    Attributes:
        count: How many there are.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._sizes = [0] * count
        self._free = set(range(count))
        self._held: dict[int, int] = {}

    def take(self, num_bytes: int) -> int:
        """Return a free slot for so many bytes; there must be one."""
        pick = min if num_bytes <= READ_AHEAD_BYTES else max
        slot = pick(sorted(self._free), key=self._sizes.__getitem__)
        self._free.remove(slot)
        self._sizes[slot] = max(self._sizes[slot], num_bytes)
        return slot

    def keep(self, indices: AbstractSet[int], index: int, slot: int) -> None:
        """Note what ``slot`` holds, then free all that hold none of the checkpoints named.

        Args:
            indices: Checkpoints that are still needed.
            index: The checkpoint in ``slot``.
            slot: As taken.
        """
        self._held[index] = slot
        for done in [one for one in self._held if one not in indices]:
            self._free.add(self._held.pop(done))
