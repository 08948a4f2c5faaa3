"""The loops of `altgrad_inspect.metrics.flip_kernel`, compiled on first use.

A strip of weights is measured at a time, so that all of it stays in the first-level cache.
The loops over weights are written for the compiler's vectorizer: short, no branches inside,
all arithmetic on 32-bit integers and floats. numba widens the result of every integer
operation to 64 bits, which halves the numbers in a vector; hence a cast around each. The
loops over codes compare many at a time and count bits (`flip_kernel_lanes`), which no
vectorizer does by itself. Importing this module imports numba.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: ANN001, ANN202, ANN003, PLR0917

from inspect import unwrap

import numpy as np
from numba import njit

from altgrad_inspect.metrics.flip_kernel_lanes import (
    LANES,
    above,
    add_in_any_order,
    bits_of,
    differ,
    farther,
    float_of,
    largest_step,
    negative,
    nonzero,
    num_ones,
    shift_right,
    sum_of_steps,
)

STRIP = 1024  # weights; a multiple of LANES
_SIGN_MASK = np.int32(0x7FFFFFFF)
_EXPONENT_MASK = np.int32(0x7F800000)
_ONE = np.float32(1)
_ZERO = np.float32(0)


def _compiled(**options):
    """Compile without the wrappers that a type checker may have put around a function."""
    return lambda function: njit(nogil=True, **options)(unwrap(function))


@_compiled(forceinline=True)
def _exponent(bits, grid):
    """Exponent of the binade whose spacing rounds a magnitude, as it stands in float32."""
    return max(np.int32(bits & _EXPONENT_MASK), grid.low_bits)


@_compiled(forceinline=True)
def _encode(scaled, grid):
    """Ordinal of a scaled weight, which is no NaN.

    The sum of a magnitude and 2**23 of its spacings has that spacing as its own, so the adder
    rounds. Adding the codes below the binade as well, in the same units, makes the mantissa
    of the sum the code itself, and the tie goes to the even code.
    """
    bits = bits_of(scaled)
    magnitude = min(np.int32(bits & _SIGN_MASK), grid.max_bits)
    exponent = _exponent(magnitude, grid)
    magic = np.int32(exponent + grid.magic_step)
    codes_below = np.int32(shift_right(exponent, grid.shift) - grid.low_code)
    rounded = float_of(magnitude) + float_of(np.int32(magic + codes_below))
    code = np.int32(bits_of(rounded) - magic)
    return np.int32(-code) if bits < 0 else code


@_compiled()
def _widen(halves, is_bfloat16, weights, n):
    """Float32 of 16-bit floats given by their bits."""
    if is_bfloat16:
        for i in range(n):
            weights[i] = float_of(np.int32(np.int32(halves[i]) << np.int32(16)))
        return
    rescale = np.float32(2.0**112)
    for i in range(n):
        half = np.int32(halves[i])
        magnitude = np.int32(half & np.int32(0x7FFF))
        wide = np.int32(magnitude << np.int32(13))
        is_special = magnitude >= np.int32(0x7C00)
        bits = bits_of(np.float32(float_of(wide) * rescale))
        bits = np.int32(wide | _EXPONENT_MASK) if is_special else bits
        weights[i] = float_of(np.int32(bits | np.int32(half & np.int32(-0x80000000))))


@_compiled(fastmath={"reassoc", "nsz", "contract"})
def _add_norms(earlier, later, norms, n):
    """Sums of squares and magnitudes of one strip; not finite if a weight is not."""
    squares = updates = sizes = 0.0
    for i in range(n):
        a = np.float64(earlier[i])
        update = np.float64(later[i]) - a
        squares += a * a
        updates += update * update
        sizes += abs(update)
    norms[0] = squares
    norms[1] = updates
    norms[2] = sizes


@_compiled(error_model="numpy")
def _encode_later(earlier, later, scale, grid, codes, counts, n):
    """Codes of ``later`` at the earlier scales, and the flips to expect."""
    updated = nonzeros = largest = np.int32(0)
    expected = np.float32(0)
    for i in range(n):
        a, b, s = earlier[i], later[i], scale[i]
        scaled = b / s
        codes[i] = _encode(scaled, grid)
        largest = max(largest, np.int32(bits_of(scaled) & _SIGN_MASK))
        binade = min(np.int32(bits_of(a / s) & _SIGN_MASK), grid.max_bits)
        cells_per_unit = float_of(np.int32(grid.cell_step - _exponent(binade, grid)))
        flips = np.float32(np.float32(abs(np.float32(b - a)) / s) * cells_per_unit)
        expected = add_in_any_order(expected, min(_ONE, flips))
        updated = np.int32(updated + np.int32(bits_of(a) != bits_of(b)))
        nonzeros = np.int32(nonzeros + np.int32(b != _ZERO))
    counts[0] += updated
    counts[9] += nonzeros
    return largest, np.float64(expected)


@_compiled(error_model="numpy")
def _encode_own(earlier, later, scale, grid, own, before, n):
    """Codes of both at the later scales."""
    largest = np.int32(0)
    for i in range(n):
        scaled = later[i] / scale[i]
        own[i] = _encode(scaled, grid)
        largest = max(largest, np.int32(bits_of(scaled) & _SIGN_MASK))
        before[i] = _encode(earlier[i] / scale[i], grid)
    return largest


@_compiled(error_model="numpy")
def _count_clipped(later, scale, grid, n):
    clipped = 0
    for i in range(n):
        magnitude = np.int32(bits_of(later[i] / scale[i]) & _SIGN_MASK)
        clipped += (magnitude > grid.clip_bits) & (magnitude <= _EXPONENT_MASK)
    return clipped


@_compiled()
def _count_codes(code_from, code_to, own, before, has_before, counts, n):
    """Count what NaN takes part in; returns the number of flips."""
    flipped = recoded = reverted = zeros = 0
    for i in range(0, n, LANES):
        flips = differ(code_from, code_to, i)
        flipped += num_ones(flips)
        recoded += num_ones(differ(own, code_from, i))
        zeros -= num_ones(nonzero(own, i))
        if has_before and flips != 0:
            reverted += num_ones(flips & ~differ(before, code_to, i))
    counts[1] += flipped
    counts[2] += recoded
    counts[7] += reverted
    counts[9] += zeros
    return flipped


@_compiled()
def _count_moves(code_from, code_to, counts, n):
    """Count where the flips went."""
    up = down = sign = to_zero = from_zero = distance = 0
    largest = counts[11]
    for i in range(0, n, LANES):
        flips = differ(code_from, code_to, i)
        if flips == 0:
            continue
        ups = num_ones(above(code_to, code_from, i))
        up += ups
        down += num_ones(flips) - ups
        nonzero_from, nonzero_to = nonzero(code_from, i), nonzero(code_to, i)
        to_zero += num_ones(nonzero_from & ~nonzero_to)
        from_zero += num_ones(nonzero_to & ~nonzero_from)
        turned = negative(code_from, i) ^ negative(code_to, i)
        sign += num_ones(turned & nonzero_from & nonzero_to)
        distance += sum_of_steps(code_from, code_to, i)
        edge = 1
        for at in range(14, 22):
            far = farther(code_from, code_to, i, edge)
            if far == 0:
                break
            counts[at] += num_ones(far)
            edge += edge
        if farther(code_from, code_to, i, largest) != 0:
            largest = largest_step(code_from, code_to, i)
    counts[3] += up
    counts[12] += down
    counts[4] += sign
    counts[5] += to_zero
    counts[6] += from_zero
    counts[10] += distance
    counts[11] = largest


@_compiled()
def _copy(source, target, n):
    """Copy ``n`` codes; numba's own assignment of slices goes element by element."""
    for i in range(n):
        target[i] = source[i]


@_compiled()
def _fill(target, start, stop, value):
    for i in range(start, stop):
        target[i] = value


@_compiled()
def _mark_nan(earlier, later, codes, grid, counts, n):
    """Give NaN its code, and count the later weights that are not finite."""
    code_to, own, own_before = codes
    for i in range(n):
        if np.isnan(earlier[i]):
            own_before[i] = grid.nan_code
        if not np.isfinite(later[i]):
            counts[13] += 1
        if np.isnan(later[i]):
            code_to[i] = own[i] = grid.nan_code


@_compiled()
def _fill_scales(start, n, layout, scales, divisors, filled):
    """Write the scale of every weight of a strip, unless they already stand there.

    Returns:
        Whether a weight has another scale than it had.
    """
    cols, block_cols, row_blocks = layout
    scales_from, scales_to = scales
    divisor_from, divisor_to = divisors
    row = start // cols
    col = start - row * cols
    block = col // block_cols
    is_changed = False
    at = 0
    while at < n:
        one, other = scales_from[row_blocks[row], block], scales_to[row_blocks[row], block]
        stop = min(cols, (block + 1) * block_cols)
        end = min(n, at + stop - col)
        is_changed |= one != other
        if end - at == n:
            if one == filled[0] and other == filled[1]:
                return is_changed
            end = divisor_from.size
            filled[0], filled[1] = one, other
        else:
            filled[0] = np.float32(0)  # no scale is
        _fill(divisor_from, at, end, one)
        _fill(divisor_to, at, end, other)
        at = end
        col = stop
        block += 1
        if col == cols:
            row, col, block = row + 1, 0, 0
    return is_changed


@_compiled()
def _count_strip(codes_from, before, codes, has_before, has_special, grid, scratch, counts):
    """Compare the codes of one strip; copies that end in zeros where it is no multiple of lanes."""
    n = codes_from.size
    code_to, own = codes
    if n % LANES == 0 and not has_special:
        if _count_codes(codes_from, code_to, own, before, has_before, counts, n):
            _count_moves(codes_from, code_to, counts, n)
        return
    padded_from, padded_to, padded_own, padded_before = scratch
    num_codes = -(-n // LANES) * LANES
    for padded in scratch:
        _fill(padded, n, num_codes, 0)
    _copy(codes_from, padded_from, n)
    _copy(code_to, padded_to, n)
    _copy(own, padded_own, n)
    _copy(before, padded_before, n)
    _count_codes(padded_from, padded_to, padded_own, padded_before, has_before, counts, num_codes)
    for i in range(n):  # a flip to or from NaN has no direction
        if padded_from[i] == grid.nan_code or padded_to[i] == grid.nan_code:
            padded_from[i] = padded_to[i] = 0
    _count_moves(padded_from, padded_to, counts, num_codes)


@_compiled()
def _measure_strip(weights, codes, has_before, divisors, is_changed, grid, scratch, counts, sums):
    """Count one strip and replace its codes."""
    earlier, later = weights
    code_from, before = codes
    code_to, own, own_before, norms, padded = scratch
    n = earlier.size
    _add_norms(earlier, later, norms, n)
    largest, expected = _encode_later(earlier, later, divisors[0], grid, code_to, counts, n)
    if is_changed:
        largest = _encode_own(earlier, later, divisors[1], grid, own, own_before, n)
    if largest > grid.clip_bits:
        counts[8] += _count_clipped(later, divisors[1], grid, n)
    has_special = not np.isfinite(norms[0] + norms[1])
    if has_special:
        _mark_nan(earlier, later, (code_to, own, own_before), grid, counts, n)
    for i in range(3):
        sums[i] += norms[i]
    sums[3] += expected
    if is_changed:
        both = (code_to, own)
        _count_strip(code_from, before, both, has_before, has_special, grid, padded, counts)
        _copy(own_before, before, n)
        _copy(own, code_from, n)
    else:
        both = (code_to, code_to)
        _count_strip(code_from, before, both, has_before, has_special, grid, padded, counts)
        _copy(code_from, before, n)
        _copy(code_to, code_from, n)


@_compiled(cache=True)
def run(weights, halves, is_bfloat16, layout, scales, codes, has_before, grid, counts, sums):
    """Count one layer; everything but the scales as 1-D arrays.

    Args:
        weights: Earlier and later as float32; empty if they are of 16 bits.
        halves: The bits of 16-bit floats, earlier and later, as int16; else empty.
        is_bfloat16: Which 16-bit floats.
        layout: Columns, columns that share a scale, the row of scales of every row.
        scales: Earlier and later, 2-D.
        codes: Replaced; see `FlipKernel.add`.
        has_before: Whether the second array of codes holds anything yet.
        grid: A `Grid`.
        counts: Added to; see `COUNTS`.
        sums: Added to; see `SUMS`.
    """
    code_from, before = codes
    scratch_codes = np.empty((7, STRIP), code_from.dtype)
    scratch = (
        scratch_codes[0],
        scratch_codes[1],
        scratch_codes[2],
        np.empty(3),
        (scratch_codes[3], scratch_codes[4], scratch_codes[5], scratch_codes[6]),
    )
    wide = np.empty(STRIP, np.float32), np.empty(STRIP, np.float32)
    divisors = np.empty(STRIP, np.float32), np.empty(STRIP, np.float32)
    filled = np.zeros(2, np.float32)
    for start in range(0, code_from.size, STRIP):
        n = min(STRIP, code_from.size - start)
        stop = start + n
        is_changed = _fill_scales(start, n, layout, scales, divisors, filled)
        if halves[0].size:
            _widen(halves[0][start:stop], is_bfloat16, wide[0], n)
            _widen(halves[1][start:stop], is_bfloat16, wide[1], n)
            pair = wide[0][:n], wide[1][:n]
        else:
            pair = weights[0][start:stop], weights[1][start:stop]
        _measure_strip(
            pair,
            (code_from[start:stop], before[start:stop]),
            has_before,
            divisors,
            is_changed,
            grid,
            scratch,
            counts,
            sums,
        )
