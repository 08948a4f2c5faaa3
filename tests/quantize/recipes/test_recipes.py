"""Every recipe against a re-writing of its formula in numpy: codes and scales, bit for bit."""

import numpy as np
import pytest
import torch

from altgrad_inspect.quantize.recipes import RECIPES
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
