"""Ties and codebooks on tensors: every value, every middle, and the float32 beside each."""

import math
from bisect import bisect_right
from fractions import Fraction
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from altgrad_inspect.codebooks import NF4, CodebookFormat
from altgrad_inspect.errors import FormatError
from altgrad_inspect.formats import (
    FORMATS,
    ElementFormat,
    ExponentFormat,
    IntFormat,
    element_format,
)
from altgrad_inspect.quantize.grids import (
    decode_ordinals,
    encode_ordinals,
    measure_ulps,
    nan_ordinal,
    ordinals_of_codes,
)
from altgrad_inspect.quantize.quantizer import Ties
from altgrad_inspect.quantize.recipes import RECIPES

SPLITS = [
    element_format(f"e{e}m{bits - 1 - e}") for bits in range(2, 9) for e in range(min(bits, 8))
]
NAMED = [
    fmt
    for fmt in FORMATS.values()
    if not isinstance(fmt, ExponentFormat | CodebookFormat) and fmt.bits <= 8
]
FULL = IntFormat(name="int4", bits=4, low=-8, high=7)
EVERY = list({fmt.name: fmt for fmt in (*NAMED, *SPLITS)}.values())
CODEBOOKS = [
    NF4,
    CodebookFormat(name="uneven", bits=3, values=(2.0, -0.0, 0.5, -1.0, 0.0, 0.3)),
    *(
        recipe.quantizer.fmt
        for recipe in RECIPES.values()
        if recipe.name.startswith("altgrad") and isinstance(recipe.quantizer.fmt, CodebookFormat)
    ),
]


def points_of(fmt: ElementFormat) -> NDArray[np.float32]:
    """Every value and middle of the positive half, with the float32 below and above, signed."""
    values = [fmt.value_of(ordinal) for ordinal in range(fmt.code_of_max + 1)]
    values = [value for value in values if value < 3e38]
    middles = [(low + high) / 2 for low, high in pairwise(values)]
    exact = np.array([*values, *middles, fmt.max * 1.5, fmt.max * 4]).astype(np.float32)
    with np.errstate(over="ignore"):
        around = [exact, *(np.nextafter(exact, np.float32(side)) for side in (-np.inf, np.inf))]
    found = np.unique(np.concatenate(around))
    return np.concatenate([found, -found, [np.float32(np.inf), np.float32(-np.inf)]])


def nearest(fmt: ElementFormat, value: float, ties: Ties) -> int:
    """By the exact distances to both neighbours."""
    limit = fmt.code_of_max if value >= 0 else -fmt.lowest_ordinal
    magnitudes = magnitudes_of(fmt)[: limit + 1]
    if abs(value) >= magnitudes[-1]:
        return -limit if value < 0 else limit
    low = bisect_right(magnitudes, abs(value)) - 1
    below, above = (abs(Fraction(abs(value)) - Fraction(one)) for one in magnitudes[low : low + 2])
    code = low + (below > above or (below == above and ties is Ties.AWAY))
    return -code if value < 0 else code


@cache
def magnitudes_of(fmt: ElementFormat) -> list[float]:
    """Values from zero on; the negative ones are the same, as far as there are any."""
    last = max(fmt.code_of_max, -fmt.lowest_ordinal)
    return [fmt.value_of(code) for code in range(last + 1)]


@pytest.mark.parametrize("ties", [Ties.ZERO, Ties.AWAY])
@pytest.mark.parametrize("fmt", [*EVERY, FULL], ids=lambda fmt: f"{fmt}{fmt.lowest_ordinal}")
def test_every_tie_goes_where_it_should(fmt: ElementFormat, ties: Ties) -> None:
    if math.isinf(float(np.float32(min(fmt.max, 1e39)))):
        pytest.skip("wider than float32")
    scaled = points_of(fmt)
    expected = [nearest(fmt, float(value), ties) for value in scaled]
    found = encode_ordinals(torch.from_numpy(scaled), fmt, ties=ties)
    np.testing.assert_array_equal(found, expected)


def test_a_format_whose_middles_float32_cannot_hold_is_refused() -> None:
    with pytest.raises(FormatError, match="too wide for ties other than to the even code"):
        encode_ordinals(torch.ones(1), element_format("e9m6"), ties=Ties.AWAY)


@pytest.mark.parametrize("fmt", CODEBOOKS, ids=str)
def test_a_tensor_is_encoded_as_the_scalar_definition_says(fmt: CodebookFormat) -> None:
    middles = np.array(fmt.midpoints, dtype=np.float32)
    exact = np.concatenate([np.array(fmt.sorted_values, dtype=np.float32), middles])
    scaled = np.concatenate(
        [exact, *(np.nextafter(exact, np.float32(side)) for side in (-np.inf, np.inf))]
    )
    scaled = np.concatenate([scaled, np.array([-1e30, 1e30, -np.inf, np.inf], dtype=np.float32)])
    expected = [fmt.ordinal(float(value)) for value in scaled]
    found = encode_ordinals(torch.from_numpy(scaled), fmt)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        decode_ordinals(found, fmt), [fmt.value_of(int(one)) for one in found]
    )
    assert encode_ordinals(torch.tensor([torch.nan]), fmt).item() == nan_ordinal(fmt)


@pytest.mark.parametrize("fmt", [NF4, CODEBOOKS[1]], ids=str)
def test_codes_and_cells_of_a_codebook_are_those_of_the_definition(fmt: CodebookFormat) -> None:
    codes = torch.arange(len(fmt.values), dtype=torch.uint8)
    ordinals = ordinals_of_codes(codes, fmt)
    assert ordinals.tolist() == [fmt.ordinal_of_code(int(code)) for code in codes]
    values = torch.tensor(fmt.values)
    widths = torch.tensor([fmt.ulp(value) for value in fmt.values])
    assert torch.equal(measure_ulps(values, fmt), widths)


def test_integers_with_bounds_saturate_at_them() -> None:
    scaled = torch.tensor([-99.0, -8.5, -7.5, -0.5, 0.5, 1.5, 7.5, torch.inf, -torch.inf])
    assert encode_ordinals(scaled, FULL).tolist() == [-8, -8, -8, 0, 0, 2, 7, 7, -8]
    assert ordinals_of_codes(torch.arange(16, dtype=torch.uint8), FULL).tolist() == [
        *range(8),
        *range(-8, 0),
    ]
