"""Buffers that are let go and taken again: never one in use, never a large one too many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altgrad_inspect.engine.plan import READ_AHEAD_BYTES
from altgrad_inspect.engine.slots import Slots

SMALL, LARGE = 1 << 10, READ_AHEAD_BYTES + 1


@given(
    layers=st.lists(st.tuples(st.sampled_from((SMALL, LARGE)), st.integers(1, 6)), max_size=8),
    keeps_first=st.booleans(),
)
def test_no_more_buffers_become_large_than_large_layers_need(
    layers: list[tuple[int, int]], *, keeps_first: bool
) -> None:
    num_needed = 3 if keeps_first else 2
    slots = Slots(num_needed + 1)
    sizes = dict.fromkeys(range(slots.count), 0)
    visits = [(size, index, index + 1 == count) for size, count in layers for index in range(count)]
    held: dict[int, int] = {}
    early: int | None = None
    for number, (size, index, is_last) in enumerate(visits):
        slot = slots.take(size) if early is None else early
        assert slot not in held.values()
        held[index] = slot
        sizes[slot] = max(sizes[slot], size)
        early = None
        if number + 1 < len(visits) and visits[number + 1][0] == SMALL:
            early = slots.take(SMALL)
            assert early not in held.values()
        kept = set() if is_last else {index} | ({0} if keeps_first else set())
        slots.keep(kept, index, slot)
        held = {one: taken for one, taken in held.items() if one in kept}
    assert sum(size == LARGE for size in sizes.values()) <= num_needed


def test_there_is_no_slot_where_all_are_in_use() -> None:
    slots = Slots(1)
    slots.take(SMALL)
    with pytest.raises(ValueError, match="empty"):
        slots.take(SMALL)
