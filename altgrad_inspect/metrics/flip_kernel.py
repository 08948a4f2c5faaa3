"""The flip counts of one layer in one pass over memory, where numba is installed.

What `altgrad_inspect.metrics.flip_tally` does in some forty passes of torch over a tile, in
a few loops over strips that stay in the first-level cache. Counts are identical to the bit;
sums of reals differ in the order of the additions. Covered are all weights of `DTYPES` on the
CPU, on every format whose values and cells float32 holds; everything else takes the torch
path, which is the reference this is tested against.

numba is an extra (``pip install altgrad-inspect[fast]``). Compiling takes seconds once and is
kept on disk, so only large runs use it (`worth_compiling`).
"""

import math
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from altgrad_inspect.codebooks import CodebookFormat
from altgrad_inspect.formats import ElementFormat, IntFormat
from altgrad_inspect.metrics.flip_tally import FlipTally
from altgrad_inspect.quantize.grids import clip_limit, nan_ordinal
from altgrad_inspect.quantize.scales import Scales

MIN_WEIGHTS: Final = 150_000_000
"""Weights times checkpoints times quantizers from which the kernel pays for its start.

That takes half a second and 0.1 GB, and 4 s more the first time; counting one weight takes 8 ns
less. The choice is by size alone: the last digits of sums, unlike counts, depend on it."""

DTYPES: Final = (torch.float32, torch.bfloat16, torch.float16)
"""Dtypes of weights that the kernel reads."""

COUNTS: Final = (
    "num_updated",
    "num_flipped",
    "num_recoded",
    "num_up",
    "num_sign_flipped",
    "num_to_zero",
    "num_from_zero",
    "num_reverted",
    "num_saturated",
    "num_underflowed",
    "distance",
    "distance_max",
    "num_down",
    "num_nonfinite",
)
"""What the kernel adds into its array of counts, in this order; then the histogram's
cumulative bins: flips that moved more than 1, 2, 4, ... 128 codes."""

SUMS: Final = ("earlier_squares", "update_squares", "update_abs", "expected")
"""What the kernel adds into its array of sums, in this order."""

_NUM_EDGES: Final = 8
_NO_FLOATS: Final = np.empty(0, np.float32)
_NO_HALVES: Final = np.empty(0, np.int16)


class Grid(NamedTuple):
    """A format as the kernel needs it: numbers on the bits of a float32.

    Integers are a fixed-point format here, all of it below its one binade.

    Attributes:
        max_bits: The largest value.
        low_bits: The exponent below which spacings no longer shrink.
        shift: Mantissa bits that the format does not have.
        low_code: ``low_bits`` shifted by that.
        magic_step: From the exponent of a value to that of 2**23 of its spacings.
        cell_step: From which an exponent is taken to get one over the spacing there.
        clip_bits: Magnitudes above these are clipped.
        nan_code: The ordinal of NaN.
    """

    max_bits: np.int32
    low_bits: np.int32
    shift: np.int32
    low_code: np.int32
    magic_step: np.int32
    cell_step: np.int32
    clip_bits: np.int32
    nan_code: np.int32


def describe_grid(fmt: ElementFormat) -> Grid | None:
    """The numbers of ``fmt`` for the kernel, or None if it does not cover the format."""
    is_symmetric = fmt.lowest_ordinal == -fmt.code_of_max
    if isinstance(fmt, CodebookFormat) or not is_symmetric:
        return None
    if fmt.max > float(np.finfo(np.float32).max):
        return None
    highest = math.frexp(fmt.max)[1] - 1
    if isinstance(fmt, IntFormat):
        mantissa_bits = lowest = highest + 1
    else:
        mantissa_bits, lowest = fmt.mantissa_bits, 1 - fmt.bias
    spare_bits = 23 - mantissa_bits
    if lowest - mantissa_bits <= -127 or max(lowest, highest) + spare_bits > 127:
        return None
    limit, is_inclusive = clip_limit(fmt)
    low_bits = (lowest + 127) << 23
    return Grid(
        max_bits=_bits(fmt.max),
        low_bits=np.int32(low_bits),
        shift=np.int32(spare_bits),
        low_code=np.int32(low_bits >> spare_bits),
        magic_step=np.int32(spare_bits << 23),
        cell_step=np.uint32((254 + mantissa_bits) << 23).view(np.int32),
        clip_bits=_bits(limit) - np.int32(is_inclusive),
        nan_code=np.int32(nan_ordinal(fmt)),
    )


def _bits(value: float) -> np.int32:
    return np.float32(value).view(np.int32)


def worth_compiling(num_weights: int) -> bool:
    """Whether a run of so many weights, transitions and quantizers should use the kernel."""
    return num_weights >= MIN_WEIGHTS and find_spec("numba") is not None


class FlipKernel:
    """The compiled kernel for one format, with its sums so far.

    Attributes:
        counts: `COUNTS` and the cumulative histogram, int64.
        sums: `SUMS`, float64; not finite if a weight is not.
    """

    def __init__(self, grid: Grid) -> None:
        self.counts: NDArray[np.int64] = np.zeros(len(COUNTS) + _NUM_EDGES, np.int64)
        self.sums: NDArray[np.float64] = np.zeros(len(SUMS))
        self._grid = grid
        self._run: Any = import_module("altgrad_inspect.metrics.flip_kernel_compiled").run

    def add(
        self,
        weights: tuple[Tensor, Tensor],
        scales: tuple[Scales, Scales],
        codes: tuple[Tensor, Tensor],
        *,
        has_before: bool,
    ) -> None:
        """Count one layer, and replace its codes.

        Args:
            weights: Earlier and later, the 2-D view of the layer, of a dtype in `DTYPES`.
            scales: Earlier and later.
            codes: Contiguous. In: ordinals of earlier at the earlier scales, and of the
                checkpoint before at the same. Out: of later at the later scales, and of
                earlier at the same.
            has_before: Whether the second code tensor holds anything yet.
        """
        num_rows, num_cols = weights[0].shape
        view = scales[0].view
        flat = [weight.reshape(-1).contiguous() for weight in weights]
        floats, halves = (_NO_FLOATS, _NO_FLOATS), (_NO_HALVES, _NO_HALVES)
        if flat[0].dtype is torch.float32:
            floats = flat[0].numpy(), flat[1].numpy()
        else:
            halves = flat[0].view(torch.int16).numpy(), flat[1].view(torch.int16).numpy()
        self._run(
            floats,
            halves,
            flat[0].dtype is torch.bfloat16,
            (num_cols, view.block_cols, scales[0].row_blocks(slice(0, num_rows)).numpy()),
            (scales[0].values.numpy(), scales[1].values.numpy()),
            (codes[0].reshape(-1).numpy(), codes[1].reshape(-1).numpy()),
            has_before,
            self._grid,
            self.counts,
            self.sums,
        )

    def add_to(self, tally: FlipTally, num_weights: int) -> None:
        """Hand the sums over.

        Args:
            tally: Takes them.
            num_weights: How many weights they are of.
        """
        counts = dict(zip(COUNTS, map(int, self.counts), strict=False))
        more_than = [counts["num_up"] + counts["num_down"], *map(int, self.counts[len(COUNTS) :])]
        for index, (lower, upper) in enumerate(pairwise([*more_than, 0])):
            tally.histogram[index] += lower - upper
        tally.distance_max = max(tally.distance_max, counts.pop("distance_max"))
        tally.counts.update(counts)
        tally.counts["num_weights"] += num_weights
        tally.all_finite &= bool(np.isfinite(self.sums).all())
        for name, value in zip(SUMS, map(float, self.sums), strict=True):
            tally.sums[name] = tally.sums.get(name, 0.0) + value
