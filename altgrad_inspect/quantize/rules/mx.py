"""Microscaling (MX): blocks of 32 along the input with a power of two, in the ways it is done.

A scale is a byte b, an E8M0 number: 2**(b - 127), OCP Microscaling Formats (MX) v1.0, 2023.
Sources agree on that and on amax; they differ in which power of two it is to be, in how they
find it, and in what weights are multiplied by where b is 0.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import torch
from jaxtyping import Float, Float32, Int32
from torch import Tensor

from altgrad_inspect.formats import ElementFormat, FloatFormat
from altgrad_inspect.quantize.quantizer import Quantizer, ScaleRule
from altgrad_inspect.quantize.rules.arithmetic import (
    BIAS,
    MANTISSA_BITS,
    SMALLEST_NORMAL,
    ceil_log2,
    divide,
    exponent_field,
    floor_log2,
    mantissa_field,
    power_of_two,
)
from altgrad_inspect.quantize.rules.blocks import find_block_amax
from altgrad_inspect.quantize.scales import Scales, View

Amax = Float32[Tensor, "block_rows block_cols"]
Bytes = Int32[Tensor, "block_rows block_cols"]

_HALF_OF_SMALLEST_NORMAL: Final = 0x400000
"""Mantissa of 2**-127: a subnormal up to that has the byte 0."""


def _floor(amax: Amax, fmt: ElementFormat) -> Bytes:
    return exponent_field(amax) - _exponent_of_max(fmt)


def _ceil(amax: Amax, fmt: ElementFormat) -> Bytes:
    return _floor(amax, fmt) + (mantissa_field(amax) != 0).int()


def _even(amax: Amax, fmt: ElementFormat) -> Bytes:
    return _round_up_from(amax, fmt, _mantissa_bits(fmt))


def _even_of_ct(amax: Amax, fmt: ElementFormat) -> Bytes:
    mantissa_bits = 3 if fmt.bits == 6 else 1
    exponents = _round_up_from(amax, fmt, mantissa_bits) + _exponent_of_max(fmt)
    return torch.where(exponents == 0, 0, exponents - _exponent_of_max(fmt))


def _round_up_from(amax: Amax, fmt: ElementFormat, mantissa_bits: int) -> Bytes:
    """The byte of amax after adding half of the last of ``mantissa_bits``."""
    half = 1 << (MANTISSA_BITS - mantissa_bits - 1)
    return ((amax.view(torch.int32) + half) >> MANTISSA_BITS) - _exponent_of_max(fmt)


def _rceil(amax: Amax, fmt: ElementFormat) -> Bytes:
    return _to_e8m0_upwards(divide(amax, fmt.max))


def _rceil_mul(amax: Amax, fmt: ElementFormat) -> Bytes:
    return _to_e8m0_upwards(amax * torch.full_like(amax, 1 / fmt.max))


def _to_e8m0_upwards(scales: Amax) -> Bytes:
    """As ``cvt.rp.satfinite.ue8m0x2.f32`` does.

    TransformerEngine: common/util/ptx_arch_spec.cuh:float_to_e8m0.
    """
    exponent, mantissa = exponent_field(scales), mantissa_field(scales)
    stays = (mantissa == 0) | ((exponent == 0) & (mantissa <= _HALF_OF_SMALLEST_NORMAL))
    return exponent + (~stays).int()


def _rceil_log2(amax: Amax, fmt: ElementFormat) -> Bytes:
    scales = divide(amax, fmt.max)
    return torch.where(scales > 0, ceil_log2(scales) + BIAS, 0)


def _floor_log2(amax: Amax, fmt: ElementFormat) -> Bytes:
    magnitude = torch.where(amax == 0, SMALLEST_NORMAL, amax)
    return floor_log2(magnitude) + BIAS - _exponent_of_max(fmt)


def _exponent_of_max(fmt: ElementFormat) -> int:
    return math.frexp(fmt.max)[1] - 1


def _mantissa_bits(fmt: ElementFormat) -> int:
    return fmt.mantissa_bits if isinstance(fmt, FloatFormat) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Convention:
    """How a source goes from amax to the byte, and what weights are multiplied by at byte 0.

    Attributes:
        find_bytes: Before they are brought into the range of a byte.
        factor_of_0: 2**127 is the reciprocal of the scale.
    """

    find_bytes: Callable[[Amax, ElementFormat], Bytes]
    factor_of_0: float = 2.0**127


_CONVENTIONS: Final[Mapping[ScaleRule, _Convention]] = MappingProxyType(
    {
        ScaleRule.MX_FLOOR: _Convention(find_bytes=_floor, factor_of_0=2.0**126),
        ScaleRule.MX_EVEN: _Convention(find_bytes=_even, factor_of_0=2.0**126),
        ScaleRule.MX_CEIL: _Convention(find_bytes=_ceil, factor_of_0=2.0**126),
        ScaleRule.MX_RCEIL: _Convention(find_bytes=_rceil, factor_of_0=1.0),
        ScaleRule.MX_RCEIL_MUL: _Convention(find_bytes=_rceil_mul, factor_of_0=1.0),
        ScaleRule.MX_RCEIL_LOG2: _Convention(find_bytes=_rceil_log2, factor_of_0=1.0),
        ScaleRule.MX_MODELOPT: _Convention(find_bytes=_rceil_log2),
        ScaleRule.MX_CT: _Convention(find_bytes=_even_of_ct),
        ScaleRule.MX_FLOOR_LOG2: _Convention(find_bytes=_floor_log2),
    }
)


def fit_mx(weights: Float[Tensor, "rows cols"], quantizer: Quantizer, view: View) -> Scales:
    """A power of two for every block, found as the source of the rule does."""
    convention = _CONVENTIONS[quantizer.rule]
    amax = find_block_amax(weights, view)
    codes = convention.find_bytes(amax, quantizer.fmt).clamp_(0, 2 * BIAS)
    scales = power_of_two(codes - BIAS)
    if not bool((codes == 0).any()):
        return Scales(values=scales, view=view)
    factors = torch.where(codes == 0, convention.factor_of_0, power_of_two(BIAS - codes))
    return Scales(values=scales, view=view, multipliers=factors)
