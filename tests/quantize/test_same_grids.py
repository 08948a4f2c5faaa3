"""Quantizers called the same give every weight the same code, and others do not."""

from itertools import combinations, pairwise

import pytest
import torch

from altgrad_inspect.formats import FORMATS, ExponentFormat
from altgrad_inspect.metrics.flips import FlipMeter
from altgrad_inspect.quantize.same_grids import find_ratio, group_same_grids, is_same_grid
from altgrad_inspect.quantize.spec import parse_quantizer
from altgrad_inspect.records import FlipCounts

ELEMENTS = [name for name, fmt in FORMATS.items() if not isinstance(fmt, ExponentFormat)]


def same(one: str, other: str) -> bool:
    return is_same_grid(parse_quantizer(one), parse_quantizer(other))


def test_the_known_families_are_found_and_nothing_else() -> None:
    splits = [f"e{e}m{7 - e}" for e in range(8)]
    named = [parse_quantizer(name) for name in (*splits, "int8", "e2m1", "int4", "e0m3", "e1m2")]
    groups = [[one.fmt.name for one in group] for group in group_same_grids(named)]
    assert groups == [
        ["e0m7", "e1m6", "int8"],
        ["e2m5"],
        ["e3m4"],
        ["float8_e4m3fn"],
        ["float8_e5m2"],
        ["e6m1"],
        ["e7m0"],
        ["float4_e2m1fn"],
        ["int4", "e0m3", "e1m2"],
    ]


@pytest.mark.parametrize(("one", "other"), list(combinations(ELEMENTS, 2)))
def test_the_ratio_is_what_the_values_say(one: str, other: str) -> None:
    a, b = parse_quantizer(one).fmt, parse_quantizer(other).fmt
    ordinals = range(a.code_of_max + 1) if a.code_of_max == b.code_of_max else ()
    shapes = [[fmt.value_of(ordinal) / fmt.max for ordinal in ordinals] for fmt in (a, b)]
    is_same = bool(ordinals) and shapes[0] == shapes[1]
    assert (find_ratio(a, b) is not None) is is_same


def test_the_scale_decides_whether_a_factor_cancels() -> None:
    assert same("e0m7:channel", "e1m6:channel")
    assert same("e0m7:tensor:pow2", "int8:tensor:pow2")
    assert not same("e0m7:tensor:none", "e1m6:tensor:none")
    assert same("e0m7:tensor:4.0", "e1m6:tensor:none")
    assert not same("e0m7:tensor:0.25", "e1m6:tensor:none")
    assert not same("e0m7:tensor:amax", "e1m6:tensor:pow2")
    assert not same("e0m7:tensor:amax", "e1m6:channel:amax")
    assert not same("e0m7:tensor:amax", "e1m6:tensor:1.0")


def test_a_quantizer_is_the_same_as_itself_also_where_it_is_never_scaled() -> None:
    assert same("bf16", "bf16")
    assert same("e5m2:group=8:none", "e5m2:group=8:none")


def measure(spec: str, weights: list[torch.Tensor]) -> list[FlipCounts]:
    meter = FlipMeter(parse_quantizer(spec), tuple(weights[0].shape))
    meter.start(weights[0])
    return [meter.advance(*pair) for pair in pairwise(weights)]


@pytest.mark.parametrize("granularity", ["tensor:amax", "channel:pow2", "group=5:amax"])
def test_the_same_grids_count_the_same_flips_to_the_last_bit(granularity: str) -> None:
    generator = torch.Generator().manual_seed(0)
    ties = torch.arange(-254, 256, 2).float().reshape(15, 17) / 2  # every midpoint, once scaled
    weights = [ties, *(ties + torch.randn(15, 17, generator=generator) for _ in range(3))]
    reference = measure(f"e0m7:{granularity}", weights)
    for other in ("e1m6", "int8"):
        found = measure(f"{other}:{granularity}", weights)
        assert found == reference
    assert measure(f"e2m5:{granularity}", weights) != reference
