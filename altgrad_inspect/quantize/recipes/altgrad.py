"""altgrad's own quantizer, so that results made with it can be matched; no other tool's.

Its formats differ from those of the same names: E4M3 has no NaN and reaches 480, and a value
that would round up from the subnormals to the smallest normal number does not.
"""

import struct
from typing import Final

from altgrad_inspect.codebooks import CodebookFormat
from altgrad_inspect.formats import ElementFormat, FloatFormat, Specials, element_format
from altgrad_inspect.quantize.quantizer import TENSOR, ScaleRule
from altgrad_inspect.quantize.recipes.recipe import Recipe, named

_SOURCE: Final = "altgrad: altgrad/quantization/scaling.py:compute_scale, ops.py:quantize"
_BIASES: Final = {1: 0, 2: 1, 3: 3, 4: 7, 5: 15, 6: 31, 7: 63}
"""Exponent bits -> bias."""

_HAS_INFINITY: Final = 5
"""The one number of exponent bits whose top exponent is kept for infinity."""


def _build_format(exponent_bits: int) -> ElementFormat:
    """The grid of E<exponent_bits>M<the rest of 7> with the thresholds of that code."""
    mantissa_bits = 7 - exponent_bits
    if exponent_bits == 0:
        return element_format("e0m7")  # fixed point: rounded as everywhere
    grid = FloatFormat(
        name=f"e{exponent_bits}m{mantissa_bits}",
        exponent_bits=exponent_bits,
        mantissa_bits=mantissa_bits,
        bias=_BIASES[exponent_bits],
        specials=Specials.IEEE if exponent_bits == _HAS_INFINITY else Specials.NONE,
    )
    positive = [grid.value_of(code) for code in range(grid.code_of_max + 1)]
    upwards = [_find_threshold(grid, code) for code in range(grid.code_of_max)]
    return CodebookFormat(
        name=f"altgrad_{grid.name}",
        bits=8,
        values=(*(-value for value in reversed(positive[1:])), *positive),
        source=_SOURCE,
        thresholds=(*(-_next_above(one) for one in reversed(upwards)), *upwards),
    )


def _find_threshold(grid: FloatFormat, code: int) -> float:
    """The largest float32 that is rounded to ``code`` and not to the one above it.

    The middle, and with an odd mantissa what lies just below: ties go to the even mantissa.
    Below the smallest normal number everything stays below.
    """
    low, high = grid.value_of(code), grid.value_of(code + 1)
    if code + 1 == 1 << grid.mantissa_bits:
        return _next_below(high)
    mantissa = code % (1 << grid.mantissa_bits)
    middle = (low + high) / 2
    return _next_below(middle) if mantissa % 2 else middle


def _next_below(value: float) -> float:
    """The float32 just below ``value``, above 0."""
    return _step(value, -1)


def _next_above(value: float) -> float:
    """The float32 just above ``value``, above 0."""
    return _step(value, 1)


def _step(value: float, places: int) -> float:
    (bits,) = struct.unpack("i", struct.pack("f", value))
    return float(struct.unpack("f", struct.pack("i", bits + places))[0])


def _recipe(exponent_bits: int, name: str) -> Recipe:
    fmt = _build_format(exponent_bits)
    return Recipe(
        quantizer=named(name, fmt, TENSOR, ScaleRule.ALTGRAD),
        summary=f"s = max(1.01*amax/{fmt.max:g}, 1e-10), code of w/s on a grid of its own: nothing "
        "rounds up out of the subnormals; approximate: the source takes the largest amax of 16 "
        "steps",
        source=_SOURCE,
        is_approximate=True,
    )


ALTGRAD: Final = (
    _recipe(4, "altgrad"),
    *(_recipe(e, f"altgrad-e{e}m{7 - e}") for e in range(8) if e != 4),
)
