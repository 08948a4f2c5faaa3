"""Digests of what was made of the hard weights: how a library's results are kept in the gate."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from altgrad_inspect.quantize.recipes import RECIPES
from tests.quantize.recipes.grids_by_hand import amax_of
from tests.quantize.recipes.hard_weights import Weights, cases, to_bf16

Outcome = tuple[NDArray[np.int16], NDArray[np.float32]]
"""Ordinals in the shape of the weights; scales, one a block."""

SKIPS_ZEROS = {"torchao-float8-tensor", "torchao-float8-row", "nf4"}
"""Blocks of zeros are left out: the source divides by their scale, which is zero."""

SKIPS_TINY = {"transformers-fp8", "torchao-float8-tensor", "torchao-float8-row"}
"""Blocks are left out that are so small that the factor of the source overflows, or its scale
becomes zero."""

KNOWS_MEAN_TO_LAST_PLACE = {"bitnet"}
"""The scale depends on the order of a float32 sum; codes are compared, scales are not."""

Case = tuple[str, str, Weights]
"""Its name, dtype and weights."""


def list_cases(name: str) -> Iterator[Case]:
    """Yield what a recipe is tried on; ragged matrices only where there are no blocks."""
    granularity = RECIPES[name].quantizer.granularity
    size = (granularity.block_rows or 1, granularity.block_cols or 96)
    for case, weights in cases(granularity.kind, size).items():
        if case == "ragged" and granularity.kind in {"block", "group"}:
            continue  # most libraries refuse it
        yield case, "float32", weights
        yield case, "bfloat16", to_bf16(weights)


def leave_out(name: str, weights: Weights, outcome: Outcome) -> Outcome:
    """Return ordinals and scales without the blocks in which the recipe is not its source."""
    ordinals, scales = outcome
    granularity = RECIPES[name].quantizer.granularity
    is_flat = granularity.kind == "flat"
    weights = weights.reshape(1, -1) if is_flat else weights
    is_tensor = granularity.kind == "tensor"
    rows = weights.shape[0] if is_tensor else granularity.block_rows or weights.shape[0]
    shape = (rows, granularity.block_cols or weights.shape[1])
    amax = amax_of(weights, shape)
    keep = np.ones(amax.shape, dtype=bool)
    if name in SKIPS_ZEROS:
        keep &= amax > 0
    if name in SKIPS_TINY:
        keep &= (amax == 0) | (amax > 2.0**-119)
    kept = np.asarray(scales, dtype=np.float32).reshape(keep.shape)[keep]
    if name in KNOWS_MEAN_TO_LAST_PLACE:
        kept = kept[:0]
    weight_kept = np.repeat(np.repeat(keep, shape[0], 0), shape[1], 1)
    weight_kept = weight_kept[: weights.shape[0], : weights.shape[1]].reshape(ordinals.shape)
    return ordinals[weight_kept].astype(np.int16), kept


def digest(name: str, run: Callable[[Weights, str], Outcome]) -> dict[str, str]:
    """Return case and dtype -> SHA-256 of ordinals and scales, 16 digits of it.

    Cases whose names begin with the same word are one.
    """
    found: dict[str, Any] = {}
    for case, dtype, weights in list_cases(name):
        ordinals, scales = leave_out(name, weights, run(weights, dtype))
        data = ordinals.astype("<i2").tobytes() + scales.astype("<f4").tobytes()
        found.setdefault(f"{case.split()[0]}, {dtype}", hashlib.sha256()).update(data)
    return {key: value.hexdigest()[:16] for key, value in found.items()}
