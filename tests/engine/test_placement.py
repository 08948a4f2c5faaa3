"""Sightings, and the meter that keeps codes of them, meet on the CPU if one of them is there."""

from itertools import pairwise
from typing import Any

import torch

from altgrad_inspect.engine.placement import ON_CPU, move_to_cpu, place_together
from altgrad_inspect.engine.sighting import Sighting
from altgrad_inspect.engine.steady_meter import SteadyMeter
from altgrad_inspect.metrics.flips import FlipMeter
from altgrad_inspect.quantize.spec import parse_quantizer
from tests.engine.second_device import SECOND, is_second, second_device


def see(step: int, **fields: Any) -> Sighting:
    return Sighting(step=step, **fields)


def test_sightings_stay_where_they_are_if_all_are_there() -> None:
    with second_device():
        first, second = (see(step, weights=torch.ones(2, device=SECOND)) for step in range(2))
    found, (other, nothing) = place_together(second, first, None)
    assert (found, other, nothing) == (second, first, None)
    assert first.moved is second.moved is None


def test_what_is_on_the_cpu_has_the_others_come_there_once() -> None:
    with second_device():
        first = see(0, weights=torch.ones(2, device=SECOND))
    unread = see(1, problem="no such file")
    stays = see(2, weights=torch.ones(2), note=ON_CPU)
    found, (moved, same, other) = place_together(stays, first, first, unread)
    assert found is stays
    assert moved is same is move_to_cpu(first)
    assert moved is not None
    assert (moved.step, moved.note, is_second(moved.weights)) == (0, ON_CPU, False)
    assert other is unread
    assert is_second(first.weights)
    assert first.note is None
    found, (other,) = place_together(first, stays)
    assert (found, other) == (moved, stays)


def test_a_meter_goes_where_its_weights_come_from_and_forgets_nothing() -> None:
    """Back and forth, so that some weights return to the code they had before."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(20, 30, generator=generator)
    other = start + 0.1 * torch.randn(20, 30, generator=generator)
    weights = [start, other, start, other, start]
    quantizer = parse_quantizer("e4m3:channel")
    plain = FlipMeter(quantizer, (20, 30))
    plain.start(weights[0])
    expected = [plain.advance(*pair) for pair in pairwise(weights)]
    assert expected[1].num_reverted
    with second_device() as device:
        held = [weight.to(device) for weight in weights]
        meter = SteadyMeter(quantizer, (20, 30))
        meter.start(held[0])
        found, notes = [meter.advance(held[0], held[1])], [meter.note]
        found.append(meter.advance(weights[1], weights[2]))
        notes.append(meter.note)
        found += [meter.advance(*pair) for pair in pairwise(held[2:])]
    assert notes == [None, ON_CPU]
    assert found == expected
