"""altgrad's quantizer step by step: what its vectorised code does, in numpy."""

import math

import numpy as np

from tests.quantize.recipes.grids_by_hand import Floats, Ordinals

F32 = np.float32
BIASES = {0: 0, 1: 0, 2: 1, 3: 3, 4: 7, 5: 15, 6: 31, 7: 63}
TOPS = {bits: 2**bits - (2 if bits == 5 else 1) for bits in range(8)}
"""The largest exponent of a number, by exponent bits; E5M2 keeps one for infinity."""


def quantize(weights: Floats, dtype: str, *, exponent_bits: int) -> tuple[Ordinals, Floats]:  # noqa: ARG001
    """Ordinals, and one scale."""
    largest = find_largest(exponent_bits)
    amax = float(np.abs(weights).max())
    scale = F32(1e-10 if amax < 1e-10 else max(amax * 1.01 / largest, 1e-10))
    return encode(weights / scale, exponent_bits), np.array([[scale]])


def find_largest(exponent_bits: int) -> float:
    if exponent_bits == 0:
        return 127 / 128
    steps = 2.0 ** (7 - exponent_bits)
    return math.ldexp(2 - 1 / steps, TOPS[exponent_bits] - BIASES[exponent_bits])


def encode(scaled: Floats, exponent_bits: int) -> Ordinals:
    """Ordinals of weights over their scale."""
    largest = find_largest(exponent_bits)
    if exponent_bits == 0:
        return np.asarray(np.rint(np.clip(scaled, -largest, largest) * 128)).astype(int)
    magnitude = np.minimum(np.abs(scaled), F32(largest)).astype(np.float64)
    codes = _encode(magnitude, 7 - exponent_bits, BIASES[exponent_bits], TOPS[exponent_bits])
    return np.asarray(np.where(scaled < 0, -codes, codes))


def _encode(magnitude: Floats, mantissa_bits: int, bias: int, top_exponent: int) -> Ordinals:
    """Code of a magnitude: the subnormals are clamped, the mantissa is rounded by itself."""
    steps = 2**mantissa_bits
    smallest_normal = 2.0 ** (1 - bias)
    below = np.clip(np.rint(magnitude / smallest_normal * steps), 0, steps - 1)
    safe = np.maximum(magnitude, smallest_normal)
    exponent = np.clip(np.frexp(safe)[1] - 1 + bias, 1, top_exponent)
    mantissa = np.rint((safe / 2.0 ** (exponent - bias) - 1) * steps)
    is_over = mantissa > steps - 1
    exponent, mantissa = exponent + is_over, np.where(is_over, 0, mantissa)
    is_beyond = exponent > top_exponent
    exponent = np.where(is_beyond, top_exponent, exponent)
    mantissa = np.where(is_beyond, steps - 1, mantissa)
    normal = exponent * steps + mantissa
    return np.asarray(np.where(magnitude < smallest_normal, below, normal)).astype(int)
