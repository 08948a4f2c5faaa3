"""The flip counts of one tile in one pass over memory, where numba is installed.

What `altgrad_inspect.metrics.flip_tally` does in some forty passes of torch over a tile, in
a few loops over strips that stay in the first-level cache. Counts are identical to the bit;
sums of reals differ in the order of the additions. Covered are float formats of up to 8
exponent bits and integers, on finite float32 (or narrower) weights on the CPU; everything
else takes the torch path, which is the reference this is tested against.

numba is an extra (``pip install altgrad-inspect[fast]``). Compiling takes seconds once and is
kept on disk, so only large runs use it (`worth_compiling`).
"""

from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from altgrad_inspect.codebooks import CodebookFormat
from altgrad_inspect.formats import ElementFormat, IntFormat
from altgrad_inspect.metrics.flip_tally import FlipTally
from altgrad_inspect.quantize.grids import clip_limit
from altgrad_inspect.quantize.scales import Scales

MIN_WEIGHTS: Final = 200_000_000
"""Weights times transitions times quantizers from which compiling pays for itself."""

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
)
"""What the kernel adds into its array of counts, in this order; then the histogram's
cumulative bins: flips that moved more than 1, 2, 4, ... 128 codes."""

SUMS: Final = ("earlier_squares", "update_squares", "update_abs", "expected")
"""What the kernel adds into its array of sums, in this order."""

_NUM_EDGES: Final = 8


class Grid(NamedTuple):
    """A format as the kernel needs it; all fields are plain numbers."""

    is_integer: bool
    shift: np.int32 = np.int32(1)
    offset: np.int32 = np.int32(0)
    magic: np.float32 = np.float32(0)
    magic_bits: np.int32 = np.int32(0)
    max_value: np.float32 = np.float32(0)
    max_bits: np.int32 = np.int32(0)
    normal_bits: np.int32 = np.int32(0)
    ulp_low_bits: np.int32 = np.int32(0)
    ulp_high_bits: np.int32 = np.int32(0)
    ulp_shift: np.int32 = np.int32(0)
    clip_bits: np.int32 = np.int32(0)


def describe_grid(fmt: ElementFormat) -> Grid | None:
    """The numbers of ``fmt`` for the kernel, or None if it does not cover the format."""
    if isinstance(fmt, CodebookFormat) or fmt.lowest_ordinal != -fmt.code_of_max:
        return None
    limit, is_inclusive = clip_limit(fmt)
    # Magnitudes whose bits are above these are clipped.
    clip_bits = _bits(limit) - np.int32(is_inclusive)
    if isinstance(fmt, IntFormat):
        return Grid(is_integer=True, max_value=np.float32(fmt.max), clip_bits=clip_bits)
    lowest = 1 - fmt.bias
    is_wide = fmt.exponent_bits > 8 or fmt.max > float(np.finfo(np.float32).max)
    if is_wide or lowest - fmt.mantissa_bits <= -127:
        return None
    highest = max(lowest, int(np.frexp(fmt.max)[1]) - 1)
    magic = 2.0 ** (24 - fmt.bias - fmt.mantissa_bits)
    infinity = np.int32(0x7F800000)
    return Grid(
        is_integer=False,
        shift=np.int32(23 - fmt.mantissa_bits),
        offset=np.int32((127 - fmt.bias) << 23),
        magic=np.float32(magic),
        magic_bits=_bits(magic),
        max_value=np.float32(fmt.max),
        max_bits=_bits(fmt.max),
        # A fixed-point format has no normal values: everything lies below infinity.
        normal_bits=np.int32((lowest + 127) << 23) if fmt.exponent_bits else infinity,
        ulp_low_bits=np.int32((lowest + 127) << 23),
        ulp_high_bits=np.int32((highest + 127) << 23),
        ulp_shift=np.int32(fmt.mantissa_bits << 23),
        clip_bits=clip_bits,
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
        sums: `SUMS`, float64.
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
        at: tuple[slice, slice],
        *,
        has_before: bool,
    ) -> bool:
        """Count one tile, and replace its codes.

        Args:
            weights: Earlier and later, the tile itself, of a dtype that float32 holds.
            scales: Earlier and later, of the layer.
            codes: The tile of both code tensors. In: ordinals of earlier at the earlier
                scales, and of the checkpoint before at the same. Out: of later at the
                later scales, and of earlier at the same.
            at: Rows and columns of the tile in the layer's 2-D view.
            has_before: Whether the second code tensor holds anything yet.

        Returns:
            False, with nothing changed, if a weight is NaN or infinite.
        """
        rows, cols = at
        earlier, later = (weight.float().numpy() for weight in weights)
        return bool(
            self._run(
                earlier,
                later,
                cols.start,
                scales[0].view.block_cols,
                scales[0].row_blocks(rows).numpy(),
                scales[0].values.numpy(),
                scales[1].values.numpy(),
                codes[0].numpy(),
                codes[1].numpy(),
                has_before,
                self._grid,
                self.counts,
                self.sums,
            )
        )

    def add_to(self, tally: FlipTally, num_weights: int) -> None:
        """Hand the sums over.

        Args:
            tally: Takes them.
            num_weights: How many weights they are of.
        """
        counts = dict(zip(COUNTS, map(int, self.counts), strict=False))
        more_than = [counts["num_flipped"], *map(int, self.counts[len(COUNTS) :])]
        for index, (lower, upper) in enumerate(pairwise([*more_than, 0])):
            tally.histogram[index] += lower - upper
        tally.distance_max = max(tally.distance_max, counts.pop("distance_max"))
        tally.counts.update(counts)
        tally.counts["num_weights"] += num_weights
        tally.counts["num_down"] += counts["num_flipped"] - counts["num_up"]
        for name, value in zip(SUMS, map(float, self.sums), strict=True):
            tally.sums[name] = tally.sums.get(name, 0.0) + value
