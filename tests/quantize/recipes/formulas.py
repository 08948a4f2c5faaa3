"""Every recipe once more, in numpy, from the formula of its source and nothing of the package.

A formula takes float32 weights (``dtype`` says what they are stored in) and gives ordinals in
their shape and one scale a block: what an ordinal is multiplied by.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import numpy as np

from tests.quantize.recipes import altgrad_by_hand
from tests.quantize.recipes.grids_by_hand import (
    Floats,
    Ordinals,
    amax_of,
    largest,
    reduce_blocks,
    rounder,
    spread,
    to_e4m3,
)
from tests.quantize.recipes.hard_weights import to_bf16

Made = tuple[Ordinals, Floats]
Formula = Callable[[Floats, str], Made]
Shape = tuple[int, int] | None
"""Rows and columns of a block; None for all."""

F32 = np.float32
FLOAT32_MAX: Final = np.finfo(np.float32).max
BLOCK: Final = (128, 128)


def whole(weights: Floats, shape: Shape, cols: int | None = None) -> tuple[int, int]:
    high, wide = weights.shape
    return (high, wide) if shape is None else (shape[0], cols or shape[1] or wide)


def multiply(weights: Floats, factors: Floats, shape: tuple[int, int]) -> Floats:
    return weights * spread(factors, shape, weights.shape)


def divide(weights: Floats, scales: Floats, shape: tuple[int, int]) -> Floats:
    return weights / spread(scales, shape, weights.shape)


def narrow(values: Floats, dtype: str) -> Floats:
    return to_bf16(np.ascontiguousarray(values, dtype=F32)) if dtype == "bfloat16" else values


def exponent_of(values: Floats) -> Ordinals:
    """The field of the exponent, biased by 127."""
    return np.asarray(values.view(np.uint32) >> 23).astype(np.int64)


def has_mantissa(values: Floats) -> Ordinals:
    return np.asarray((values.view(np.uint32) & 0x7FFFFF) != 0).astype(np.int64)


def power(exponents: Ordinals) -> Floats:
    return np.ldexp(1.0, exponents).astype(F32)


def float32_log2(values: Floats) -> Floats:
    return np.log2(values.astype(np.float64)).astype(F32)


def torchao_float8(weights: Floats, dtype: str, *, shape: Shape, pow2: bool) -> Made:  # noqa: ARG001
    shape = whole(weights, shape)
    amax = np.maximum(amax_of(weights, shape).astype(np.float64), 1e-12)
    factors = (1 / amax * 448).astype(F32)
    if pow2:
        factors = power(np.floor(float32_log2(factors)).astype(int))
    return rounder("e4m3")(multiply(weights, factors, shape)), F32(1) / factors


def transformer_engine(weights: Floats, dtype: str, *, shape: Shape, pow2: bool) -> Made:
    in_bf16 = shape is not None and dtype == "bfloat16"
    top = F32(3.3895314e38) if in_bf16 else FLOAT32_MAX
    shape = whole(weights, shape)
    amax = amax_of(weights, shape)
    factors = F32(448) / amax
    factors[factors == np.inf] = top
    if pow2:
        factors = np.ldexp(1.0, np.frexp(factors)[1] - 1).astype(F32)
    factors[amax == 0] = 1
    return rounder("e4m3")(multiply(weights, factors, shape)), F32(1) / factors


def deepseek(weights: Floats, dtype: str, *, shape: tuple[int, int], ue8m0: bool) -> Made:  # noqa: ARG001
    scales = np.maximum(amax_of(weights, shape), F32(1e-4)) / F32(448)
    if ue8m0:
        scales = power(np.ceil(float32_log2(scales)).astype(int))
    return rounder("e4m3")(divide(weights, scales, shape)), scales


def deepgemm(
    weights: Floats,
    dtype: str,  # noqa: ARG001
    *,
    shape: tuple[int, int] = BLOCK,
    ue8m0: bool,
    element: str = "e4m3",
    ties: str = "even",
) -> Made:
    scales = np.maximum(amax_of(weights, shape), F32(1e-4)) / largest(element)
    if ue8m0:
        exponents = exponent_of(scales) + has_mantissa(scales)
        scales = power(np.clip(exponents, 1, 254) - 127)
    return rounder(element, ties)(multiply(weights, F32(1) / scales, shape)), scales


def transformers(weights: Floats, dtype: str, *, ue8m0: bool) -> Made:  # noqa: ARG001
    amax = amax_of(weights, BLOCK)
    safe = np.where(amax > 0, amax, F32(1))
    factors = np.minimum(F32(1) / safe * F32(448), FLOAT32_MAX)
    factors = np.where(amax > 0, factors, F32(1))
    inverse = F32(1) / factors
    if ue8m0:
        inverse = np.maximum(inverse, F32(2.0**-126))
        inverse = power(np.ceil(float32_log2(inverse)).astype(int))
        factors = F32(1) / inverse
    return rounder("e4m3")(multiply(weights, factors, BLOCK)), inverse


def in_weight_dtype(weights: Floats, dtype: str, *, shape: Shape, zero: str) -> Made:
    shape = whole(weights, shape)
    scales = narrow(amax_of(weights, shape) / F32(448), dtype)
    epsilon = {"float32": 2.0**-23, "bfloat16": 2.0**-7}[dtype]
    scales[scales == 0] = epsilon if zero == "epsilon" else 1
    return rounder("e4m3")(divide(weights, scales, shape)), scales


def mx(
    weights: Floats,
    dtype: str,  # noqa: ARG001
    *,
    element: str,
    mode: str,
    ties: str = "even",
) -> Made:
    shape = (1, 32)
    amax = amax_of(weights, shape)
    top = largest(element)
    emax = math.floor(math.log2(top))
    mantissa_bits = {"e4m3": 3, "e5m2": 2, "e2m3": 3, "e3m2": 2, "e2m1": 1}[element]
    if mode == "ct" and element != "e2m3":
        mantissa_bits = 1
    rounded = (amax.view(np.uint32) + np.uint32(1 << (22 - mantissa_bits))).view(F32)
    quotient = amax * (F32(1) / top) if mode == "mul" else amax / top
    with np.errstate(divide="ignore"):
        logarithm = np.ceil(float32_log2(quotient))
    exponent, low_bits = exponent_of(quotient), quotient.view(np.uint32) & 0x7FFFFF
    up = (low_bits > 0) & ~((exponent == 0) & (low_bits <= 0x400000))
    found: dict[str, Callable[[], Ordinals]] = {
        "floor": lambda: exponent_of(amax) - emax,
        "even": lambda: exponent_of(rounded) - emax,
        "ct": lambda: np.where(exponent_of(rounded) == 0, 0, exponent_of(rounded) - emax),
        "ceil": lambda: exponent_of(amax) + has_mantissa(amax) - emax,
        "exact": lambda: exponent + up,
        "mul": lambda: exponent + up,
        "log2": lambda: np.maximum(logarithm, -127).astype(int) + 127,
        "modelopt": lambda: np.maximum(logarithm, -127).astype(int) + 127,
    }
    codes = np.clip(found[mode](), 0, 254)
    of_zero = {"floor": 126, "even": 126, "ceil": 126, "ct": 127, "modelopt": 127}.get(mode, 0)
    factors = np.where(codes == 0, F32(2.0**of_zero), power(127 - codes))
    return rounder(element, ties)(multiply(weights, factors, shape)), power(codes - 127)


def microxcaling(weights: Floats, dtype: str, *, element: str) -> Made:  # noqa: ARG001
    shape = (1, 32)
    exponent_bits, mantissa_bits = int(element[1]), int(element[3]) + 2
    emax = 2 ** (exponent_bits - 1) - (1 if element == "e5m2" else 0)
    amax = amax_of(weights, shape)
    amax = amax + F32(2.0**-126) * (amax == 0).astype(F32)
    shared = np.maximum(np.floor(float32_log2(amax)) - emax, -127)
    scaled = divide(weights, power(shared.astype(int)), shape)
    own = np.floor(np.log2(np.abs(scaled).astype(np.float64) + (scaled == 0)))
    own = np.maximum(own, 2 - 2 ** (exponent_bits - 1))
    steps = np.floor(np.abs(scaled) / 2.0**own * 2.0 ** (mantissa_bits - 2) + 0.5)
    values = steps / 2.0 ** (mantissa_bits - 2) * 2.0**own
    values = np.minimum(values, largest(element))  # all of it on the grid
    ordinals = rounder(element)(values.astype(F32))
    return np.where(weights < 0, -ordinals, ordinals), power(shared.astype(int))


def nvfp4(
    weights: Floats, dtype: str, *, convention: str, shape: tuple[int, int] = (1, 16)
) -> Made:
    amax = amax_of(weights, shape)
    top = np.abs(weights).max()
    six, most = F32(6), F32(448)
    if convention == "torchao":
        outer = top / F32(2688) if top else F32(1)
        inner = to_e4m3(np.clip(amax / six / outer, F32(2.0**-6), most))
        return rounder("e2m1")(multiply(weights, F32(1) / outer / inner, shape)), inner * outer
    if convention == "modelopt":
        outer = top / F32(2688) if top else F32(1)
        inner = amax / (six * outer)
        inner[inner == 0] = 1
        scales = to_e4m3(np.clip(inner, F32(2.0**-9), most)) * outer
        return rounder("e2m1")(divide(weights, scales, shape)), scales
    if convention == "ct":
        smallest = np.maximum(np.array([top]), F32(2.0**-126))
        outer = narrow(narrow(F32(1) / smallest, dtype) * F32(2688), dtype)[0]
        outer = outer if np.isfinite(outer) else F32(1)
        inner = to_e4m3(np.clip(outer * narrow(amax / six, dtype), 0, most))
        inner[inner == 0] = 0.125
        scales = inner / outer
        return rounder("e2m1")(divide(weights, scales, shape)), scales
    outer = min(F32(2688) / top, FLOAT32_MAX) if top else FLOAT32_MAX
    inner = to_e4m3(np.clip(amax * (outer * (F32(1) / six)), 0, most))
    scales = inner * (F32(1) / outer)
    factors = np.minimum(F32(1) / scales, FLOAT32_MAX)
    return rounder("e2m1")(multiply(weights, factors, shape)), np.where(scales == 0, 1, scales)


def int4_torchao(weights: Floats, dtype: str) -> Made:
    shape = (1, 32)
    scales = np.maximum(narrow(amax_of(weights, shape) / F32(7.5), dtype), F32(2.0**-126))
    scaled = multiply(weights, F32(1) / scales, shape)
    return np.clip(np.rint(scaled), -8, 7).astype(int), scales


def int4_bf16(weights: Floats, dtype: str) -> Made:  # noqa: ARG001
    shape = (1, 128)
    low, high = (reduce_blocks(weights, shape, f) for f in (np.minimum, np.maximum))
    scales = np.maximum(high - low, F32(1e-6)) / F32(15)
    codes = np.rint(divide(weights - spread(low, shape, weights.shape), scales, shape))
    zeros = np.clip(np.rint(-low / scales), 0, 15)
    return (np.clip(codes, 0, 15) - spread(zeros, shape, weights.shape)).astype(int), scales


def int4_ct(weights: Floats, dtype: str) -> Made:
    shape = (1, 128)
    scales = narrow(amax_of(weights, shape) / F32(7.5), dtype)
    scales[scales == 0] = {"float32": 2.0**-23, "bfloat16": 2.0**-7}[dtype]
    return np.clip(np.rint(divide(weights, scales, shape)), -8, 7).astype(int), scales


def int4_ct_asym(weights: Floats, dtype: str) -> Made:
    shape = (1, 128)
    low = np.minimum(reduce_blocks(weights, shape, np.minimum), F32(0))
    high = np.maximum(reduce_blocks(weights, shape, np.maximum), F32(0))
    scales = narrow(narrow(high - low, dtype) / F32(15), dtype)
    with np.errstate(invalid="ignore"):
        zeros = np.nan_to_num(narrow(F32(-8) - narrow(low / scales, dtype), dtype))
    zeros = np.rint(np.clip(zeros, -8, 7)).astype(F32)
    scales[scales == 0] = {"float32": 2.0**-23, "bfloat16": 2.0**-7}[dtype]
    spread_zeros = spread(zeros, shape, weights.shape)
    codes = np.clip(np.rint(divide(weights, scales, shape) + spread_zeros), -8, 7)
    return (codes - spread_zeros).astype(int), scales


def bitnet(weights: Floats, dtype: str) -> Made:  # noqa: ARG001
    mean = math.fsum(np.abs(weights).ravel().tolist()) / weights.size
    factor = F32(1) / max(F32(mean), F32(1e-5))
    return np.clip(np.rint(weights * factor), -1, 1).astype(int), np.array([[F32(1) / factor]])


NF4_VALUES: Final = np.array(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ],
    dtype=F32,
)


def nf4(weights: Floats, dtype: str) -> Made:  # noqa: ARG001
    flat = weights.reshape(1, -1)
    amax = amax_of(flat, (1, 64))
    scaled = multiply(flat, F32(1) / np.maximum(amax, F32(1e-38)), (1, 64))
    middles = (NF4_VALUES[1:] + NF4_VALUES[:-1]) / F32(2)
    codes = (scaled[..., None] > middles).sum(-1) - 7
    return codes.reshape(weights.shape), np.where(amax == 0, F32(1), amax)


def _mx_formulas() -> Iterator[tuple[str, Formula]]:
    names = {
        "mxfp8": "e4m3",
        "mxfp8-e5m2": "e5m2",
        "mxfp6-e2m3": "e2m3",
        "mxfp6-e3m2": "e3m2",
        "mxfp4": "e2m1",
    }
    modes = {"": "floor", "-even": "even", "-ceil": "ceil", "-rceil": "exact"}
    modes |= {"-rceil-log2": "log2"}
    for name, element in names.items():
        for suffix, mode in modes.items():
            yield f"{name}{suffix}", partial(mx, element=element, mode=mode)
        yield f"{name}-microxcaling", partial(microxcaling, element=element)
    yield "mxfp8-te", partial(mx, element="e4m3", mode="mul")
    yield "mxfp8-e5m2-te", partial(mx, element="e5m2", mode="mul")
    yield "mxfp4-rceil-mul", partial(mx, element="e2m1", mode="mul")
    yield "mxfp8-ct", partial(mx, element="e4m3", mode="ct")
    yield "mxfp6-e2m3-ct", partial(mx, element="e2m3", mode="ct")
    yield "mxfp4-ct", partial(mx, element="e2m1", mode="ct")
    yield "mxfp8-modelopt", partial(mx, element="e4m3", mode="modelopt")
    yield "mxfp4-modelopt", partial(mx, element="e2m1", mode="modelopt", ties="zero")


FORMULAS: Final[dict[str, Formula]] = {
    "torchao-tensorwise": partial(torchao_float8, shape=None, pow2=False),
    "torchao-tensorwise-pow2": partial(torchao_float8, shape=None, pow2=True),
    "torchao-rowwise": partial(torchao_float8, shape=(1, 0), pow2=True),
    "torchao-rowwise-exact": partial(torchao_float8, shape=(1, 0), pow2=False),
    "te-current": partial(transformer_engine, shape=None, pow2=False),
    "te-current-pow2": partial(transformer_engine, shape=None, pow2=True),
    "te-block": partial(transformer_engine, shape=BLOCK, pow2=True),
    "te-block-exact": partial(transformer_engine, shape=BLOCK, pow2=False),
    "te-block-1x128": partial(transformer_engine, shape=(1, 128), pow2=True),
    "te-delayed": partial(transformer_engine, shape=None, pow2=False),  # the first checkpoint
    "deepseek": partial(deepseek, shape=BLOCK, ue8m0=False),
    "deepseek-ue8m0": partial(deepseek, shape=BLOCK, ue8m0=True),
    "deepseek-1x128": partial(deepseek, shape=(1, 128), ue8m0=False),
    "deepgemm": partial(deepgemm, ue8m0=False),
    "deepgemm-ue8m0": partial(deepgemm, ue8m0=True),
    "deepgemm-fp4": partial(deepgemm, ue8m0=True, shape=(1, 32), element="e2m1", ties="zero"),
    "transformers-fp8": partial(transformers, ue8m0=False),
    "transformers-fp8-ue8m0": partial(transformers, ue8m0=True),
    "torchao-float8-tensor": partial(in_weight_dtype, shape=None, zero="one"),
    "torchao-float8-row": partial(in_weight_dtype, shape=(1, 0), zero="one"),
    "ct-fp8": partial(in_weight_dtype, shape=None, zero="epsilon"),
    "ct-fp8-channel": partial(in_weight_dtype, shape=(1, 0), zero="epsilon"),
    "ct-fp8-block": partial(in_weight_dtype, shape=BLOCK, zero="epsilon"),
    **dict(_mx_formulas()),
    "nvfp4-torchao": partial(nvfp4, convention="torchao"),
    "nvfp4-modelopt": partial(nvfp4, convention="modelopt"),
    "nvfp4-ct": partial(nvfp4, convention="ct"),
    "nvfp4-te": partial(nvfp4, convention="te", shape=(16, 16)),
    "nvfp4-te-1x16": partial(nvfp4, convention="te"),
    "int4-torchao": int4_torchao,
    "int4-bf16": int4_bf16,
    "int4-ct": int4_ct,
    "int4-ct-asym": int4_ct_asym,
    "bitnet": bitnet,
    "nf4": nf4,
    "altgrad": partial(altgrad_by_hand.quantize, exponent_bits=4),
    **{
        f"altgrad-e{e}m{7 - e}": partial(altgrad_by_hand.quantize, exponent_bits=e)
        for e in range(8)
        if e != 4
    },
}
"""Recipe -> formula."""
