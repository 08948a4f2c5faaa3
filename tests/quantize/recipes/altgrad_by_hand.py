"""altgrad's quantizer step by step: what its vectorised code does, in numpy."""

import numpy as np

from tests.quantize.recipes.grids_by_hand import Floats, Ordinals

F32 = np.float32


def quantize(weights: Floats, dtype: str, *, exponent_bits: int) -> tuple[Ordinals, Floats]:  # noqa: ARG001
    """Ordinals, and one scale."""
    mantissa_bits = 7 - exponent_bits
    bias = {0: 0, 1: 0, 2: 1, 3: 3, 4: 7, 5: 15, 6: 31, 7: 63}[exponent_bits]
    top_exponent = 2**exponent_bits - (2 if exponent_bits == 5 else 1)
    steps = 2.0**mantissa_bits
    largest = 127 / 128 if exponent_bits == 0 else 2.0 ** (top_exponent - bias) * (2 - 1 / steps)
    amax = float(np.abs(weights).max())
    scale = F32(1e-10 if amax < 1e-10 else max(amax * 1.01 / largest, 1e-10))
    scaled = weights / scale
    if exponent_bits == 0:
        codes = np.rint(np.clip(scaled, -largest, largest) * 128).astype(int)
        return codes, np.array([[scale]])
    magnitude = np.minimum(np.abs(scaled), F32(largest)).astype(np.float64)
    codes = _encode(magnitude, mantissa_bits, bias, top_exponent)
    return np.where(scaled < 0, -codes, codes), np.array([[scale]])


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
