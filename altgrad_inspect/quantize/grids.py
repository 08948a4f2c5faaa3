"""Rounding tensors onto a format: values to ordinals and back, exactly.

An *ordinal* is a code as a signed integer in the order of the values (see
``altgrad_inspect.formats``), so that comparing, subtracting and testing for zero mean
what they say. NaN has the one ordinal `nan_ordinal`, outside of every format's range, in
formats without a NaN too: a weight that is no number gets no plausible code.

The scalar definition is ``FloatFormat.ordinal``; the tests hold every code and every
midpoint of every format of up to 16 bits against it.
"""

import math
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from altgrad_inspect.codebooks import CodebookFormat
from altgrad_inspect.errors import FormatError
from altgrad_inspect.formats import ElementFormat, FloatFormat, IntFormat, element_format
from altgrad_inspect.quantize.quantizer import Ties

_NATIVE_CASTS = {
    torch.float8_e4m3fn: "float8_e4m3fn",
    torch.float8_e5m2: "float8_e5m2",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
}
_FLOAT32_MAX = torch.finfo(torch.float32).max
_BELOW_FLOAT32 = -200
"""An exponent below that of every float32 but zero."""


class _Adder(NamedTuple):
    """A float dtype that rounds for us, and how it stands in its bits."""

    dtype: torch.dtype
    bits_dtype: torch.dtype
    mantissa_bits: int
    bias: int
    exponent_mask: int


_FLOAT32 = _Adder(torch.float32, torch.int32, 23, 127, 0x7F800000)
_FLOAT64 = _Adder(torch.float64, torch.int64, 52, 1023, 0x7FF0000000000000)


def ordinal_dtype(fmt: ElementFormat) -> torch.dtype:
    """The integer dtype that holds the ordinals of ``fmt``: int8 up to 127, else int16."""
    return torch.int8 if max(-fmt.lowest_ordinal, fmt.code_of_max) <= 127 else torch.int16


def nan_ordinal(fmt: ElementFormat) -> int:
    """The ordinal that stands for NaN: the one integer that no value uses."""
    return torch.iinfo(ordinal_dtype(fmt)).min


def encode_ordinals(
    scaled: Float[Tensor, "*shape"],
    fmt: ElementFormat,
    *,
    may_hold_nan: bool = True,
    ties: Ties = Ties.EVEN,
) -> Integer[Tensor, "*shape"]:
    """Round ``scaled`` (weights over their scale) onto ``fmt``.

    Nearest, saturating at the largest value; infinities saturate.

    Args:
        scaled: float32, any shape and device.
        fmt: The format.
        may_hold_nan: False if the caller knows that there is no NaN, which saves a pass.
        ties: Where the middle between two values goes; a codebook has a rule of its own.

    Returns:
        Ordinals in [lowest_ordinal, code_of_max], or `nan_ordinal`; int8 or int16.
    """
    if isinstance(fmt, CodebookFormat):
        midpoints = torch.tensor(fmt.midpoints, dtype=torch.float32, device=scaled.device)
        places = torch.bucketize(scaled.contiguous(), midpoints, out_int32=True)
        ordinals = places.add_(fmt.lowest_ordinal).to(ordinal_dtype(fmt))
    elif ties is not Ties.EVEN:
        ordinals = _round_by_midpoints(scaled, fmt, ties)
    elif isinstance(fmt, IntFormat):
        ordinals = _round_to_integers(scaled, fmt)
    elif native := _native_cast(fmt):
        ordinals = _cast(scaled, fmt, *native)
    else:
        ordinals = _round_by_adding(scaled, fmt)
    if may_hold_nan:
        ordinals.masked_fill_(torch.isnan(scaled), nan_ordinal(fmt))
    return ordinals


def _round_to_integers(
    scaled: Float[Tensor, "*shape"], fmt: IntFormat
) -> Integer[Tensor, "*shape"]:
    low, high = float(fmt.lowest_ordinal), fmt.max
    rounded = torch.nan_to_num(scaled, nan=0.0, posinf=high, neginf=low).round_()
    return rounded.clamp_(low, high).to(ordinal_dtype(fmt))


def _round_by_midpoints(
    scaled: Float[Tensor, "*shape"], fmt: FloatFormat | IntFormat, ties: Ties
) -> Integer[Tensor, "*shape"]:
    """Round with ties away from zero or towards it, by search among the midpoints."""
    midpoints = _midpoints(fmt).to(scaled.device)
    # float32 holds every midpoint of formats that reach no further, so comparing is exact.
    magnitude = scaled.abs().contiguous()
    places = torch.bucketize(magnitude, midpoints, out_int32=True, right=ties is Ties.AWAY)
    below = places.clamp(max=-fmt.lowest_ordinal).neg_()
    ordinals = torch.where(scaled < 0, below, places.clamp_(max=fmt.code_of_max))
    return ordinals.to(ordinal_dtype(fmt))


@cache
def _midpoints(fmt: FloatFormat | IntFormat) -> Float[Tensor, " midpoints"]:
    """Middles between neighbouring magnitudes from zero on, float32, exact.

    Raises:
        FormatError: float32 cannot hold them.
    """
    last = max(fmt.code_of_max, -fmt.lowest_ordinal)
    values = torch.tensor([fmt.value_of(i) for i in range(last + 1)], dtype=torch.float64)
    middles = (values[1:] + values[:-1]) / 2
    if not torch.equal(middles.float().double(), middles):
        msg = f"{fmt.name}: too wide for ties other than to the even code (use another format)"
        raise FormatError(msg)
    return middles.float()


@cache
def _native_cast(fmt: FloatFormat) -> tuple[torch.dtype, int] | None:
    """The dtype that rounds as ``fmt`` does, and the exponent of the factor before; None if none.

    A format of as many mantissa bits and fewer exponents is the lower end of a native one, code
    for code, once its smallest normal values are made to agree.
    """
    for dtype, name in _NATIVE_CASTS.items():
        native = element_format(name)
        if not isinstance(native, FloatFormat):
            continue
        exponent = fmt.bias - native.bias
        if (
            fmt.mantissa_bits == native.mantissa_bits
            and fmt.code_of_max <= native.code_of_max
            and fmt.exponent_bits > 0
            # The subnormals of bfloat16 are subnormals of float32, too, and lose bits.
            and (exponent == 0 or (exponent < 0 and dtype is not torch.bfloat16))
        ):
            return dtype, exponent
    return None


def _cast(
    scaled: Float[Tensor, "*shape"], fmt: FloatFormat, dtype: torch.dtype, exponent: int
) -> Integer[Tensor, "*shape"]:
    # Clamped first, so that the result never depends on the cast's own overflow rule.
    clamped = scaled.clamp(-fmt.max, fmt.max)
    if exponent:
        clamped.mul_(2.0**exponent)
    codes = clamped.to(dtype).view(ordinal_dtype(fmt))
    most = torch.iinfo(codes.dtype)
    sign = codes >> (most.bits - 1)  # -1 or 0
    return codes.bitwise_and_(most.max).bitwise_xor_(sign).sub_(sign)


def _round_by_adding(
    scaled: Float[Tensor, "*shape"], fmt: FloatFormat
) -> Integer[Tensor, "*shape"]:
    """Let the adder of float32 round, or that of float64 where the format reaches too far.

    The sum of a magnitude and 2**t of its spacings, with t mantissa bits in the adder, has that
    spacing as its own. Adding the codes below the binade as well, in the same units, makes the
    mantissa of the sum the code itself, and the tie goes to the even code. Below the smallest
    normal value the spacing stays as it is.
    """
    magnitude = scaled.abs().clamp_(max=min(fmt.max, _FLOAT32_MAX))
    adder = _FLOAT32 if _fits_float32(fmt) else _FLOAT64
    magnitude = magnitude.to(adder.dtype)
    shift = adder.mantissa_bits - fmt.mantissa_bits
    lowest = max(1 - fmt.bias, _BELOW_FLOAT32)
    magic = magnitude.view(adder.bits_dtype) & adder.exponent_mask
    magic.clamp_(min=(lowest + adder.bias) << adder.mantissa_bits)
    codes_below = (magic >> shift).sub_((adder.bias + 1 - fmt.bias) << fmt.mantissa_bits)
    magic.add_(shift << adder.mantissa_bits)
    rounded = codes_below.add_(magic).view(adder.dtype).add_(magnitude)
    codes = rounded.view(adder.bits_dtype).sub_(magic)
    if lowest == _BELOW_FLOAT32:  # then zero is no neighbour of the smallest binade looked at
        codes = torch.where(magnitude == 0, 0, codes)
    if fmt.max > _FLOAT32_MAX:  # then the clamp let infinities through
        codes = torch.where(torch.isinf(scaled), fmt.code_of_max, codes)
    sign = scaled.view(torch.int32) >> 31  # -1 or 0
    return codes.bitwise_xor_(sign).sub_(sign).to(ordinal_dtype(fmt))


def _fits_float32(fmt: FloatFormat) -> bool:
    """Whether float32 holds 2**23 of the largest spacings, and the smallest one."""
    lowest = 1 - fmt.bias
    highest = max(lowest, _exponent_of_max(fmt))
    most = highest + _FLOAT32.mantissa_bits - fmt.mantissa_bits
    return lowest - fmt.mantissa_bits > -_FLOAT32.bias and most <= _FLOAT32.bias


def decode_ordinals(
    ordinals: Integer[Tensor, "*shape"], fmt: ElementFormat
) -> Float[Tensor, "*shape"]:
    """Return the values at ``ordinals`` in float64, exactly; `nan_ordinal` gives NaN."""
    table = _values(fmt).to(ordinals.device)
    return table[ordinals.long() - nan_ordinal(fmt)]


@cache
def _values(fmt: ElementFormat) -> Float[Tensor, " codes"]:
    """Every value of ``fmt`` in float64, the one at `nan_ordinal` first."""
    lowest = nan_ordinal(fmt)
    values = torch.full((1 - 2 * lowest,), torch.nan, dtype=torch.float64)
    for ordinal in range(fmt.lowest_ordinal, fmt.code_of_max + 1):
        values[ordinal - lowest] = fmt.value_of(ordinal)
    return values


def ordinals_of_codes(
    codes: UInt8[Tensor, "*shape"], fmt: ElementFormat
) -> Integer[Tensor, "*shape"]:
    """Return the ordinals of codes as they are stored, one to a byte.

    Args:
        codes: uint8; below 2**bits.
        fmt: A format of at most 8 bits; NaN and infinite codes get `nan_ordinal`.
    """
    return _ordinals_by_code(fmt).to(codes.device)[codes.int()]


@cache
def _ordinals_by_code(fmt: ElementFormat) -> Integer[Tensor, " codes"]:
    num_codes = len(fmt.values) if isinstance(fmt, CodebookFormat) else 1 << fmt.bits
    if isinstance(fmt, CodebookFormat):
        ordinals = [fmt.ordinal_of_code(code) for code in range(num_codes)]
    elif isinstance(fmt, IntFormat):
        ordinals = [int(fmt.decode(code)) for code in range(num_codes)]
    else:
        values = [fmt.decode(code) for code in range(num_codes)]
        known = [fmt.ordinal(value) if math.isfinite(value) else None for value in values]
        ordinals = [nan_ordinal(fmt) if one is None else one for one in known]
    return torch.tensor(ordinals, dtype=ordinal_dtype(fmt))


def measure_ulps(scaled: Float[Tensor, "*shape"], fmt: ElementFormat) -> Float[Tensor, "*shape"]:
    """Distance between neighbouring values of ``fmt`` at ``scaled``, in units of the scale.

    2**(exponent - M) with the subnormals' spacing as the floor and that of the largest
    value as the ceiling, also for infinities and NaN; 1 for integers.

    Args:
        scaled: float32, any shape and device.
        fmt: The format.

    Returns:
        float32 where that holds every spacing of the format, else float64; all exact.
    """
    if isinstance(fmt, IntFormat):
        return torch.ones_like(scaled)
    if isinstance(fmt, CodebookFormat):
        widths = [fmt.ulp(value) for value in fmt.sorted_values]
        midpoints = torch.tensor(fmt.midpoints, dtype=torch.float32, device=scaled.device)
        places = torch.bucketize(scaled.contiguous(), midpoints)
        return torch.tensor(widths, dtype=torch.float32, device=scaled.device)[places]
    lowest = 1 - fmt.bias
    highest = max(lowest, _exponent_of_max(fmt))
    if lowest - fmt.mantissa_bits > -_FLOAT32.bias:
        exponents = scaled.view(torch.int32) & 0x7F800000
        exponents.clamp_(_float32_exponent(lowest), _float32_exponent(highest))
        exponents -= fmt.mantissa_bits << _FLOAT32.mantissa_bits
        return exponents.view(torch.float32)
    magnitude = torch.nan_to_num(scaled.abs().double(), nan=0.0, posinf=_FLOAT32_MAX)
    exponents = torch.frexp(magnitude).exponent - 1
    lowest = max(lowest, -1000)  # float32 values never come near it
    exponents = torch.where(magnitude == 0, lowest, exponents).clamp_(lowest, highest)
    return torch.ldexp(torch.ones_like(magnitude), exponents - fmt.mantissa_bits)


def _exponent_of_max(fmt: FloatFormat) -> int:
    """Exponent of the largest value, no larger than that of the largest float32."""
    return math.frexp(min(fmt.max, _FLOAT32_MAX))[1] - 1


def _float32_exponent(exponent: int) -> int:
    """``exponent`` as it stands in the bits of a float32."""
    return (exponent + _FLOAT32.bias) << _FLOAT32.mantissa_bits


@cache
def clip_limit(fmt: ElementFormat) -> tuple[float, bool]:
    """Above which magnitude a value is clipped, and whether the limit itself is.

    A value is clipped if rounding onto an endless continuation of ``fmt`` would leave its
    range: one that exceeds the largest value by a rounding error is merely rounded.
    """
    if fmt.max > _FLOAT32_MAX:
        return math.inf, True
    return fmt.max + fmt.ulp(fmt.max) / 2, fmt.code_of_max % 2 == 1


def count_clipped(scaled: Float[Tensor, "*shape"], fmt: ElementFormat) -> int:
    """Count what `clip_limit` calls clipped; infinities are, NaN is not."""
    if fmt.lowest_ordinal != -fmt.code_of_max:
        lowest = fmt.value_of(fmt.lowest_ordinal)
        above = scaled > fmt.max + fmt.ulp(fmt.max) / 2
        return int(torch.count_nonzero(above | (scaled < lowest - fmt.ulp(lowest) / 2)))
    limit, inclusive = clip_limit(fmt)
    if scaled.numel() == 0 or max(map(abs, torch.stack(torch.aminmax(scaled)).tolist())) < limit:
        return 0  # as nearly always; NaN spreads through aminmax and is below nothing
    magnitude = scaled.abs()
    return int(torch.count_nonzero(magnitude >= limit if inclusive else magnitude > limit))
