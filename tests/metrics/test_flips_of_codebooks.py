"""Stored codes of a codebook: flips go by the order of the values, not by that of the codes."""

import numpy as np
import torch

from altgrad_inspect.codebooks import CodebookFormat
from altgrad_inspect.metrics.flips import FlipMeter
from altgrad_inspect.quantize.coded import CodedWeights
from altgrad_inspect.quantize.grids import ordinals_of_codes
from altgrad_inspect.quantize.quantizer import TENSOR, Quantizer, ScaleRule
from altgrad_inspect.quantize.scales import Scales, View

VALUES = (0.0, 0.25, -1.0, 1.0, -0.3, 0.6, -0.05, 0.1)  # in no order
FLOATS = np.array(VALUES, dtype=np.float32)
BOOK = CodebookFormat(name="book", bits=3, values=VALUES)
RANKS = {code: rank for rank, code in enumerate(np.argsort(VALUES).tolist())}
ROWS, COLS, BLOCK = 6, 32, 8
VIEW = View(num_matrices=1, rows=ROWS, cols=COLS, block_rows=1, block_cols=BLOCK)


def coded(codes: np.ndarray, scale: np.ndarray) -> CodedWeights:
    ordinals = ordinals_of_codes(torch.from_numpy(codes.astype(np.uint8)), BOOK)
    return CodedWeights(
        fmt=BOOK, ordinals=ordinals, scales=Scales(values=torch.from_numpy(scale), view=VIEW)
    )


def weights(codes: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The value of the code times the scale of its block."""
    product: np.ndarray = FLOATS[codes] * np.repeat(scale, BLOCK, axis=1)
    return product


def nearest(scaled: float) -> int:
    """The code of the nearest value; of two as near, of the smaller one."""
    return min(range(len(VALUES)), key=lambda code: (abs(VALUES[code] - scaled), VALUES[code]))


def test_flips_are_counted_by_value() -> None:
    draw = np.random.default_rng(0)
    before, after = draw.integers(0, len(VALUES), (2, ROWS, COLS))
    scale = draw.uniform(0.5, 2.0, (ROWS, COLS // BLOCK)).astype(np.float32)
    later_scale = scale.copy()
    later_scale[::2] *= np.float32(1.37)
    meter = FlipMeter(Quantizer(fmt=BOOK, granularity=TENSOR, rule=ScaleRule.NONE), (ROWS, COLS))
    first, second = coded(before, scale), coded(after, later_scale)
    assert np.array_equal(first.decode().numpy(), weights(before, scale))
    meter.start(first.decode(), first)
    counts = meter.advance(first.decode(), second.decode(), second)
    at_earlier = after.copy()
    per_weight = np.repeat(scale, BLOCK, axis=1)
    values = weights(after, later_scale)
    for row, col in np.ndindex(ROWS, COLS):
        if row % 2 == 0:
            at_earlier[row, col] = nearest(float(values[row, col] / per_weight[row, col]))
    rank = np.vectorize(RANKS.__getitem__)
    steps = rank(at_earlier) - rank(before)
    assert counts.num_flipped == np.count_nonzero(steps)
    assert counts.num_up == np.count_nonzero(steps > 0)
    assert counts.num_down == np.count_nonzero(steps < 0)
    assert counts.code_step_max == np.abs(steps).max()
    assert counts.code_step_mean == np.abs(steps[steps != 0]).mean()
    assert counts.num_recoded == np.count_nonzero(before != after)
    assert counts.num_scales_changed == ROWS // 2 * COLS // BLOCK
    signs = np.sign(FLOATS)
    assert counts.num_sign_flipped == np.count_nonzero(signs[at_earlier] * signs[before] < 0)
    assert counts.num_to_zero == np.count_nonzero((at_earlier == 0) & (before != 0))


def test_two_codes_of_one_value_are_one() -> None:
    """FP4 of bitsandbytes has a zero of either sign."""
    signed = CodebookFormat(name="signed", bits=2, values=(0.0, 1.0, -0.0, -1.0))
    plus, minus = (
        ordinals_of_codes(torch.tensor([code], dtype=torch.uint8), signed) for code in (0, 2)
    )
    assert torch.equal(plus, minus)
