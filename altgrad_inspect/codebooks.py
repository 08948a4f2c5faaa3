"""Codebooks: number formats that are a list of values, such as NF4.

The ordinal of a code is its place in the order of the values, counted from the value zero,
so that neighbours differ by 1 and the sign of an ordinal is the sign of its value. Scalar and
exact, as everything in ``altgrad_inspect.formats``.
"""

import math
import struct
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Final

from altgrad_inspect.errors import FormatError


@dataclass(frozen=True, kw_only=True)
class CodebookFormat:
    """A format whose values are listed: code k has the value ``values[k]``.

    Rounding goes to the nearest value, and from the middle between two to the smaller one,
    as NF4 does (Dettmers et al. 2023, arXiv:2305.14314; bitsandbytes: csrc/kernels.cu).

    Attributes:
        name: A name of its own.
        bits: Width of a code.
        values: The value of every code, in the order of the codes; finite, one of them zero.
            A value may stand twice (a zero of either sign).
        source: Where the format is defined.
        thresholds: Where rounding changes over from one value to the next, ascending, if that
            is not in the middle: what is above one goes to the upper value.
    """

    name: str
    bits: int
    values: tuple[float, ...]
    source: str = field(default="", compare=False)
    thresholds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.values) > 1 << self.bits or 0.0 not in self.values or self.max <= 0:
            msg = (
                f"{self.name}: {len(self.values)} values, expected at most {1 << self.bits}, one "
                "of them zero and one above"
            )
            raise FormatError(msg)
        num_gaps = len(self.sorted_values) - 1
        if self.thresholds is not None and len(self.thresholds) != num_gaps:
            msg = f"{self.name}: {len(self.thresholds)} thresholds, expected {num_gaps}"
            raise FormatError(msg)

    def __str__(self) -> str:
        return self.name

    @cached_property
    def sorted_values(self) -> tuple[float, ...]:
        """Every value once, ascending."""
        return tuple(sorted({value + 0.0 for value in self.values}))

    @cached_property
    def _zero(self) -> int:
        return self.sorted_values.index(0.0)

    @cached_property
    def midpoints(self) -> tuple[float, ...]:
        """Where rounding changes over from one value to the next, as float32 has it."""
        middles = ((low + high) / 2 for low, high in pairwise(self.sorted_values))
        return tuple(
            map(_round_to_float32, middles if self.thresholds is None else self.thresholds)
        )

    @property
    def lowest_ordinal(self) -> int:
        """The ordinal of the smallest value."""
        return -self._zero

    @property
    def code_of_max(self) -> int:
        """The ordinal of the largest value."""
        return len(self.sorted_values) - 1 - self._zero

    @property
    def max(self) -> float:
        """The largest value."""
        return max(self.values)

    @property
    def smallest(self) -> float:
        """The smallest value above zero."""
        return min(value for value in self.values if value > 0)

    @property
    def has_nan(self) -> bool:
        """No code of a codebook is NaN."""
        return False

    def ulp(self, value: float) -> float:
        """Width of the cell that rounds to the value nearest to ``value``.

        The first and the last cell are taken to be as wide as the gap beside them.
        """
        values, index = self.sorted_values, bisect_left(self.midpoints, value)
        low = values[max(index - 1, 0)]
        high = values[min(index + 1, len(values) - 1)]
        is_end = index in {0, len(values) - 1}
        return high - low if is_end else (high - low) / 2

    def value_of(self, ordinal: int) -> float:
        """Return the value at ``ordinal``, in [lowest_ordinal, code_of_max]."""
        return self.sorted_values[ordinal + self._zero]

    def decode(self, code: int) -> float:
        """Return the value of ``code``.

        Raises:
            FormatError: There is no such code.
        """
        if not 0 <= code < len(self.values):
            msg = f"{self.name}: code {code} is not one of {len(self.values)}"
            raise FormatError(msg)
        return self.values[code]

    def ordinal_of_code(self, code: int) -> int:
        """Return the ordinal of ``code``; both zeros have the ordinal 0."""
        return self.sorted_values.index(self.decode(code) + 0.0) - self._zero

    def ordinal(self, value: float) -> int | None:
        """Round to the nearest value, from the middle to the smaller one; None for NaN."""
        if math.isnan(value):
            return None
        return bisect_left(self.midpoints, value) - self._zero

    def round(self, value: float) -> float:
        """Round to the nearest value, from the middle to the smaller one; NaN stays NaN."""
        ordinal = self.ordinal(value)
        return math.nan if ordinal is None else self.value_of(ordinal)


def _round_to_float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])


NF4: Final = CodebookFormat(
    name="nf4",
    bits=4,
    values=(
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ),
    source="Dettmers et al. 2023, arXiv:2305.14314, appendix E",
)
"""NormalFloat4: quantiles of a normal distribution, over the largest weight of 64."""
