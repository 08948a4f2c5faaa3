"""Every recipe against a re-writing of its formula in numpy: codes and scales, bit for bit."""

from itertools import combinations

import numpy as np
import pytest
import torch

from altgrad_inspect.formats import element_format
from altgrad_inspect.quantize.recipes import RECIPES
from altgrad_inspect.quantize.rules import mx
from tests.quantize.recipes.formulas import FORMULAS
from tests.quantize.recipes.hard_weights import Weights, cases, to_bf16
from tests.quantize.recipes.simulate import simulate

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def cases_for(name: str) -> dict[str, Weights]:
    granularity = RECIPES[name].quantizer.granularity
    return cases(granularity.kind, (granularity.block_rows or 1, granularity.block_cols or 96))


def test_every_recipe_has_a_formula_and_every_formula_a_recipe() -> None:
    assert set(FORMULAS) == set(RECIPES)


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_its_formula(name: str, dtype: str) -> None:
    for case, drawn in cases_for(name).items():
        weights = to_bf16(drawn) if dtype == "bfloat16" else drawn
        ordinals, scales = FORMULAS[name](weights, dtype)
        ours = simulate(RECIPES[name].quantizer, weights, dtype=DTYPES[dtype])
        np.testing.assert_array_equal(ours.ordinals, ordinals, err_msg=case)
        np.testing.assert_array_equal(
            ours.values.reshape(-1).view(np.int32),
            np.asarray(scales, dtype=np.float32).reshape(-1).view(np.int32),
            err_msg=case,
        )


SAME = {
    ("te-current", "te-delayed"),  # at the first checkpoint
    ("mxfp4-rceil", "mxfp4-rceil-mul"),
    ("mxfp8-rceil", "mxfp8-te"),
    ("mxfp8-e5m2-rceil", "mxfp8-e5m2-te"),
}
"""Recipes of different sources that come to the same."""


def test_the_weights_tell_all_recipes_apart_but_those_that_are_the_same() -> None:
    by_grid: dict[str, dict[str, bytes]] = {}
    for name, recipe in RECIPES.items():
        made = [
            simulate(recipe.quantizer, weights, dtype=dtype)
            for case, weights in cases_for(name).items()
            if case in {"coarse", "blocks", "mild", "rows", "zeros"} or case.startswith("tensor ")
            for dtype in (torch.float32, torch.bfloat16)
        ]
        data = b"".join(one.ordinals.tobytes() + one.values.tobytes() for one in made)
        grid = f"{recipe.quantizer.fmt.name} {recipe.quantizer.granularity}"
        by_grid.setdefault(grid, {})[name] = data
    same = {
        pair
        for found in by_grid.values()
        for pair in combinations(found, 2)
        if found[pair[0]] == found[pair[1]]
    }
    assert same == SAME


@pytest.mark.parametrize("element", ["e4m3", "e5m2", "e2m3", "e3m2", "e2m1"])
def test_multiplying_by_the_reciprocal_of_max_gives_the_byte_of_dividing(element: str) -> None:
    """Every mantissa of a binade, and every one of those in which the scale is subnormal."""
    mantissas = torch.arange(1 << 23, dtype=torch.int32)
    fmt = element_format(element)
    subnormal = [exponent << 23 for exponent in (1, 3, 9, 16)]
    for base, step in ((127 << 23, 1), *((one, 37) for one in subnormal)):
        amax = (mantissas[::step] + base).view(torch.float32).view(1, -1)
        assert torch.equal(mx._rceil(amax, fmt), mx._rceil_mul(amax, fmt))
