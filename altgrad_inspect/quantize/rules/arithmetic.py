"""The float32 arithmetic that rules share: exact on every device.

Sources take logarithms in float32, whose result near a power of two is off by one for large
exponents: log2(2**9 - 2**-15) is 9. Taken in float64 and then rounded, they are that same
number on any device (compared with torch's own around every power of two).
"""

import torch
from jaxtyping import Float, Float32, Int32
from torch import Tensor

MANTISSA_BITS = 23
MANTISSA_MASK = 0x7FFFFF
BIAS = 127
FLOAT32_MAX = torch.finfo(torch.float32).max
SMALLEST_NORMAL = 2.0**-126
SMALLEST = 2.0**-149


def divide(values: Float32[Tensor, "*shape"], divisor: float) -> Float32[Tensor, "*shape"]:
    """``values / divisor``, rounded once; a GPU would multiply by 1 / divisor instead."""
    return values / torch.full_like(values, divisor)


def divide_by(dividend: float, values: Float32[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
    """``dividend / values``, rounded once."""
    return torch.full_like(values, dividend) / values


def multiply_reciprocal(factor: float, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """What torch makes of ``factor / values``, a number over a tensor: rounded twice."""
    return torch.reciprocal(values) * factor


def round_to(values: Float32[Tensor, "*shape"], dtype: torch.dtype) -> Float32[Tensor, "*shape"]:
    """Round to what ``dtype`` holds if that is narrower than float32."""
    is_narrower = torch.finfo(dtype).bits < 32
    return values.to(dtype).float() if is_narrower else values


def floor_log2(values: Float32[Tensor, "*shape"]) -> Int32[Tensor, "*shape"]:
    """floor(fl32(log2(values))) for values above 0."""
    return torch.log2(values.double()).float().floor().int()


def ceil_log2(values: Float32[Tensor, "*shape"]) -> Int32[Tensor, "*shape"]:
    """ceil(fl32(log2(values))) for values above 0."""
    return torch.log2(values.double()).float().ceil().int()


def exponent_field(values: Float32[Tensor, "*shape"]) -> Int32[Tensor, "*shape"]:
    """The exponent as it stands in the bits of values of at least 0; 0 if they are subnormal."""
    return values.view(torch.int32) >> MANTISSA_BITS


def mantissa_field(values: Float32[Tensor, "*shape"]) -> Int32[Tensor, "*shape"]:
    """The mantissa as it stands in the bits."""
    return values.view(torch.int32) & MANTISSA_MASK


def power_of_two(exponents: Int32[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
    """2**exponents, exactly, for exponents from -149 to 127."""
    normal = (exponents + BIAS).clamp(min=1) << MANTISSA_BITS
    subnormal = torch.ones_like(exponents) << (exponents + 149).clamp(0, MANTISSA_BITS - 1)
    return torch.where(exponents >= 1 - BIAS, normal, subnormal).view(torch.float32)
