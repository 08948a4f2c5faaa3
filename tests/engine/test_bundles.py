"""How layers are put together: every layer once, small ones together, in whatever order."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altgrad_inspect.engine.bundles import (
    MOST_LAYERS,
    MOST_VISITS,
    SMALL_LAYER_BYTES,
    BundleQueue,
    Course,
    cut_bundles,
)
from altgrad_inspect.engine.plan import LayerUnit
from altgrad_inspect.refs import FileRef, LayerRef


def make_unit(
    name: str, *, num_bytes: int, num_checkpoints: int = 3, first: int = 0, offset: int = 0
) -> LayerUnit:
    refs = [
        LayerRef(
            name=name,
            stored_name=name,
            dtype="U8",
            shape=(num_bytes,),
            num_bytes=num_bytes,
            file=FileRef(path=Path(f"step_{index}"), size_bytes=1, mtime_ns=0, inode=index),
            offset=offset,
        )
        for index in range(num_checkpoints)
    ]
    return LayerUnit(
        layer=name,
        steps=tuple(range(num_checkpoints)),
        refs=tuple(None if index < first else ref for index, ref in enumerate(refs)),
    )


SIZES = (0, 1, SMALL_LAYER_BYTES, SMALL_LAYER_BYTES + 1, 1 << 24)


@given(
    kinds=st.lists(
        st.tuples(st.sampled_from(SIZES), st.integers(0, 2)), max_size=2 * MOST_LAYERS + 9
    ),
    num_checkpoints=st.sampled_from((3, 8, 9, 40)),
)
def test_every_layer_is_in_one_bundle_and_bundles_keep_their_limits(
    kinds: list[tuple[int, int]], num_checkpoints: int
) -> None:
    units = [
        make_unit(
            f"layer{index}",
            num_bytes=size,
            num_checkpoints=num_checkpoints,
            first=first,
            offset=7919 * index % 101,
        )
        for index, (size, first) in enumerate(kinds)
    ]
    bundles = cut_bundles(units, {unit.layer: 1.0 for unit in units})
    inside = [unit for bundle in bundles for unit in bundle.units]
    assert sorted(inside, key=lambda unit: unit.layer) == sorted(units, key=lambda unit: unit.layer)
    for bundle in bundles:
        sizes = [ref.num_bytes for unit in bundle.units for _, ref in unit.present]
        firsts = {unit.refs.index(unit.present[0][1]) for unit in bundle.units}
        assert firsts == {bundle.first_index}
        assert bundle.is_small is (max(sizes) <= SMALL_LAYER_BYTES)
        assert len(bundle.units) == 1 or bundle.is_small
        assert len(bundle.units) <= MOST_LAYERS
        assert len(bundle.units) == 1 or len(bundle.units) * bundle.num_checkpoints <= MOST_VISITS
        assert bundle.seconds == len(bundle.units)


def test_small_neighbours_in_the_file_share_a_bundle() -> None:
    units = [make_unit(f"{index}", num_bytes=8, offset=8 * (index ^ 1)) for index in range(130)]
    bundles = cut_bundles(units, {unit.layer: 1.0 for unit in units})
    assert [len(bundle.units) for bundle in bundles] == [64, 64, 2]
    for bundle in bundles:
        offsets = [unit.present[0][1].offset for unit in bundle.units]
        assert offsets == list(range(offsets[0], offsets[0] + 8 * len(offsets), 8))


def test_a_long_run_has_no_bundles_so_that_its_work_can_be_shared_out() -> None:
    units = [
        make_unit(f"{index}", num_bytes=8, num_checkpoints=MOST_VISITS + 1) for index in range(3)
    ]
    assert len(cut_bundles(units, {unit.layer: 1.0 for unit in units})) == 3


def test_what_takes_longest_comes_first() -> None:
    units = [make_unit(name, num_bytes=1 << 20) for name in "abcd"]
    bundles = cut_bundles(units, {"a": 1.0, "b": 5.0, "c": 3.0, "d": 5.0})
    assert [bundle.units[0].layer for bundle in bundles] == ["b", "d", "c", "a"]


def test_a_course_visits_every_checkpoint_of_every_bundle_in_order() -> None:
    units = [make_unit(name, num_bytes=1 << 20) for name in "ab"]
    course = Course(BundleQueue(cut_bundles(units, {"a": 2.0, "b": 1.0}), num_workers=1))
    visits = []
    while (visit := course.next()) is not None:
        visits.append((visit.bundle.units[0].layer, visit.index, visit.is_last))
    assert visits == [(name, index, index == 2) for name in "ab" for index in range(3)]
    assert course.next() is None


@pytest.mark.parametrize(("num_workers", "is_taken"), [(1, True), (2, False), (3, False)])
def test_the_last_bundles_are_left_to_whoever_is_free_first(
    num_workers: int, *, is_taken: bool
) -> None:
    units = [make_unit(name, num_bytes=1 << 20, num_checkpoints=1) for name in "abc"]
    seconds = {unit.layer: 1.0 for unit in units}
    course = Course(BundleQueue(cut_bundles(units, seconds), num_workers=num_workers))
    assert course.next() is not None
    assert (course.early() is not None) is is_taken
    assert course.next() is not None


def test_the_next_checkpoint_is_certain_whoever_else_waits() -> None:
    units = [make_unit("a", num_bytes=1 << 20)]
    course = Course(BundleQueue(cut_bundles(units, {"a": 1.0}), num_workers=9))
    assert course.next() is not None
    following = course.early()
    assert following is not None
    assert following.index == 1
