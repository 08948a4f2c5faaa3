"""Recipes against the libraries that define them, where those are installed.

What the libraries gave is kept in ``tests/data/recipes``, one file a library, so that the gate
compares with it without them. To write those files again, for the libraries that are there:

    python -m tests.oracles.test_recipe_libraries
"""

import json
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from altgrad_inspect.quantize.recipes import RECIPES
from tests.oracles.recipe_libraries import LIBRARIES
from tests.quantize.recipes.digests import Outcome, digest, leave_out, list_cases
from tests.quantize.recipes.hard_weights import Weights
from tests.quantize.recipes.simulate import simulate

DATA = Path(__file__).parents[1] / "data" / "recipes"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
DISTRIBUTIONS = {"compressed_tensors": "compressed-tensors", "modelopt": "nvidia-modelopt"}
REFERENCES = {path.stem: json.loads(path.read_text()) for path in sorted(DATA.glob("*.json"))}


def run_library(name: str, weights: Weights, dtype: str) -> tuple[Outcome, str]:
    """Ordinals and scales of the library, and whether weights are multiplied by those."""
    _, function = LIBRARIES[name]
    ordinals, scales, kind = function(torch.from_numpy(weights.copy()).to(DTYPES[dtype]))
    return (ordinals.numpy(), scales.float().numpy()), kind


def run_on_library(name: str, weights: Weights, dtype: str) -> Outcome:
    return run_library(name, weights, dtype)[0]


def run_ours(name: str, weights: Weights, dtype: str, kind: str) -> Outcome:
    ours = simulate(RECIPES[name].quantizer, weights, dtype=DTYPES[dtype])
    return ours.ordinals, ours.values if kind == "values" else ours.multipliers


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_recipe_gives_the_codes_and_scales_of_its_library(name: str) -> None:
    library, _ = LIBRARIES[name]
    pytest.importorskip(library)
    for case, dtype, weights in list_cases(name):
        theirs, kind = run_library(name, weights, dtype)
        expected = leave_out(name, weights, theirs)
        found = leave_out(name, weights, run_ours(name, weights, dtype, kind))
        np.testing.assert_array_equal(found[0], expected[0], err_msg=case)
        bits = tuple(outcome[1].view(np.int32) for outcome in (found, expected))
        np.testing.assert_array_equal(bits[0], bits[1], err_msg=case)


def test_the_kept_references_are_of_every_recipe_with_a_library() -> None:
    kept = {name: stem for stem, reference in REFERENCES.items() for name in reference["recipes"]}
    assert kept == {name: library for name, (library, _) in LIBRARIES.items()}


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_recipe_gives_what_the_library_gave_when_the_reference_was_written(name: str) -> None:
    kept = REFERENCES[LIBRARIES[name][0]]["recipes"][name]
    kind = kept["scales are"]
    found = digest(name, lambda weights, dtype: run_ours(name, weights, dtype, kind))
    assert found == kept["digests"]


def write_references() -> None:
    """Write the file of every library that is installed."""
    for library in sorted({library for library, _ in LIBRARIES.values()}):
        if find_spec(library) is None:
            continue
        recipes = {}
        for name in (one for one, (owner, _) in LIBRARIES.items() if owner == library):
            _, _, weights = next(list_cases(name))
            recipes[name] = {
                "scales are": run_library(name, weights, "float32")[1],
                "digests": digest(name, partial(run_on_library, name)),
            }
        document = {
            "library": DISTRIBUTIONS.get(library, library),
            "version": version(DISTRIBUTIONS.get(library, library)),
            "torch": torch.__version__.partition("+")[0],
            "recipes": recipes,
        }
        (DATA / f"{library}.json").write_text(f"{json.dumps(document, indent=1)}\n")


if __name__ == "__main__":
    write_references()
