"""The generator itself: what it calls healthy, and that faults do what they say."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from tests.planted.generator import (
    CONTINUED,
    FINE_TUNING,
    PACES,
    PRE_TRAINING,
    Course,
    Pace,
    move_layer,
)
from tests.planted.plants import (
    FAULTS,
    Effect,
    alternate_zero,
    decay_tail,
    freeze,
    grow_outlier,
    grow_top,
    oscillate,
    poison,
    rescale,
    stall,
    zero,
)
from tests.planted.recorder import LayerRecorder
from tests.planted.sweep import record_healthy, record_layer

NAME = "encoder.layer.3.attention.self.value.weight"


def find_spectrum(weights: Tensor) -> Tensor:
    values: Tensor = torch.linalg.svdvals(weights.double())
    return values


@pytest.fixture
def start(layers: Mapping[str, Tensor]) -> Tensor:
    return layers[NAME]


def test_there_are_at_least_thirty_layers_in_groups_of_six(layers: Mapping[str, Tensor]) -> None:
    assert len(layers) == 38
    assert sum(".layer.5." in name for name in layers) == 6
    assert {tuple(one.shape) for one in layers.values()} == {(96, 160)}


def test_the_same_course_gives_the_same_bits_and_another_seed_others(start: Tensor) -> None:
    def last(seed: int) -> Tensor:
        course = Course(num_checkpoints=6, even=False, pace=CONTINUED, seed=seed)
        return dict(move_layer(course, start, 4))[course.steps[-1]]

    assert torch.equal(last(1), last(1))
    assert not torch.equal(last(1), last(2))


def test_uneven_steps_are_uneven_and_all_start_at_zero() -> None:
    even = Course(num_checkpoints=5, even=True, pace=CONTINUED)
    uneven = Course(num_checkpoints=20, even=False, pace=CONTINUED)
    assert even.steps == (0, 100, 200, 300, 400)
    gaps = {b - a for a, b in zip(uneven.steps, uneven.steps[1:], strict=False)}
    assert gaps == {25, 50, 100, 200, 400}


@pytest.mark.parametrize("pace", PACES, ids=lambda pace: pace.name)
def test_updates_have_the_size_of_the_pace_and_follow_the_schedule(
    pace: Pace, start: Tensor
) -> None:
    course = Course(num_checkpoints=24, even=True, pace=pace, floor=0.0)
    rows = record_layer(course, NAME, start, 1, lambda _, before, update: before + update)
    sizes = [row.counts.relative_update for row in rows.flips if row.counts]
    known = [size for size in sizes if size is not None]
    assert 0.4 * pace.relative_update < max(known) < 2.0 * pace.relative_update
    assert known[-1] < 0.05 * max(known)


def test_what_is_called_healthy_keeps_its_codes_moving_and_most_of_its_rank(
    layers: Mapping[str, Tensor],
) -> None:
    some = dict(list(layers.items())[::6])
    rows = record_healthy(Course(num_checkpoints=20, even=True, pace=PRE_TRAINING), some)
    for one in rows.values():
        ranks = [row.spectrum.stable_rank for row in one.ranks if row.spectrum]
        excess = [row.counts.flip_excess for row in one.flips if row.counts]
        assert ranks[-1] > 0.6 * ranks[0]
        assert all(0.9 < ratio < 1.1 for ratio in excess if ratio is not None)


def apply(effect: Effect, start: Tensor, ages: int) -> list[Tensor]:
    states = [start]
    for age in range(ages):
        states.append(effect(age, states[-1], torch.full_like(start, 1e-5)))
    return states[1:]


def test_a_stall_leaves_its_share_of_the_update(start: Tensor) -> None:
    assert torch.equal(apply(stall(0.5), start, 1)[0], start + 0.5e-5)
    assert torch.equal(apply(freeze(1.0), start, 1)[0], start)
    assert not apply(zero(1.0), start, 1)[0].any()


def test_the_top_grows_alone_and_the_tail_decays_alone(start: Tensor) -> None:
    before = find_spectrum(start + 1e-5)
    top = find_spectrum(apply(grow_top(0.3), start, 1)[0])
    tail = find_spectrum(apply(decay_tail(0.3), start, 1)[0])
    torch.testing.assert_close(top[0], 1.3 * before[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(top[1:], before[1:], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(tail[0], before[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(tail, before * (before / before[0]) ** 0.3, rtol=1e-3, atol=1e-6)


def test_an_outlier_grows_by_the_largest_weight_there_was(start: Tensor) -> None:
    first, second = apply(grow_outlier(2.0), start, 2)
    largest = float(start.abs().max())
    assert float(second[3, 5] - first[3, 5]) == pytest.approx(2 * largest, rel=1e-5)
    assert int((second != first + 1e-5).sum()) == 1


def test_what_oscillates_flips_and_flips_back(start: Tensor) -> None:
    recorder = LayerRecorder(NAME)
    for step, weights in enumerate(apply(oscillate(0.5), start, 6)):
        recorder.see(step, weights)
    for row in recorder.rows.flips[1:]:
        assert row.counts is not None
        assert (row.counts.num_reverted or 0) > 0.95 * row.counts.num_flipped
        assert (row.counts.flip_fraction or 0) > 0.4


def test_alternating_zeros_change_bits_and_no_value(start: Tensor) -> None:
    first, second = apply(alternate_zero(1.0), start, 2)
    assert torch.equal(first, second)
    assert not torch.equal(first.view(torch.int32), second.view(torch.int32))


def test_a_layer_is_rescaled_once_and_one_weight_is_poisoned(start: Tensor) -> None:
    first, second = apply(rescale(4.0), start, 2)
    assert torch.equal(first, (start + 1e-5) * 4.0)
    assert torch.equal(second, first + 1e-5)
    assert int(apply(poison(1.0), start, 1)[0].isnan().sum()) == 1


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_changes_nothing_before_its_cause(
    fault: object, layers: Mapping[str, Tensor]
) -> None:
    one = next(known for known in FAULTS if known is fault)
    course = Course(num_checkpoints=5, even=True, pace=FINE_TUNING)
    start = layers[NAME]
    sound = [weights for _, weights in move_layer(course, start, 1)]
    faulty = [w for _, w in move_layer(course, start, 1, one.plant(one.strengths[-1], 3))]
    same = [torch.equal(a, b) for a, b in zip(sound, faulty, strict=True)]
    expected = [True, False] if one.name == "frozen from the start" else [False, False]
    assert same[:2] == (expected if one.from_start else [True, True])
    assert not any(same[3:])
