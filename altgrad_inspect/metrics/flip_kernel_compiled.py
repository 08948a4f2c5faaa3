"""The loops of `altgrad_inspect.metrics.flip_kernel`, compiled on first use.

A strip of weights is measured at a time, so that all of it stays in the first-level cache.
The loops over weights are written for the compiler's vectorizer: short, no branches inside,
all arithmetic on 32-bit integers and floats. numba widens the result of every integer
operation to 64 bits, which halves the numbers in a vector; hence a cast around each. The
loops over codes compare many at a time and count bits (`flip_kernel_lanes`), which no
vectorizer does by itself. Importing this module imports numba.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: ANN001, ANN201, ANN202, PLR0917

import numpy as np

from altgrad_inspect.metrics.compiling import compiled
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

# Places in the array of counts: COUNTS of flip_kernel, then the histogram.
(
    _UPDATED,
    _FLIPPED,
    _RECODED,
    _UP,
    _SIGN_FLIPPED,
    _TO_ZERO,
    _FROM_ZERO,
    _REVERTED,
    _SATURATED,
    _UNDERFLOWED,
    _DISTANCE,
    _DISTANCE_MAX,
    _DOWN,
    _NONFINITE,
    _FARTHER,
) = range(15)


@compiled(forceinline=True)
def _exponent(bits, grid):
    """Exponent of the binade whose spacing rounds a magnitude, as it stands in float32."""
    return max(np.int32(bits & _EXPONENT_MASK), grid.low_bits)


@compiled(forceinline=True)
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


@compiled()
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


@compiled(error_model="numpy")
def _measure_weights(earlier, later, scale, grid, codes, counts, sums, n):
    """Codes of ``later`` at the earlier scales, the norms, and the flips to expect.

    One loop, although two would be as fast from the cache: the first to touch the weights
    waits for memory, unless it has enough to do meanwhile.
    """
    updated = nonzeros = largest = np.int32(0)
    squares = updates = sizes = 0.0
    expected = _ZERO
    for i in range(n):
        a, b, s = earlier[i], later[i], scale[i]
        scaled = b / s
        codes[i] = _encode(scaled, grid)
        largest = max(largest, np.int32(bits_of(scaled) & _SIGN_MASK))
        wide = np.float64(a)
        update = np.float64(b) - wide
        squares = add_in_any_order(squares, wide * wide)
        updates = add_in_any_order(updates, update * update)
        sizes = add_in_any_order(sizes, abs(update))
        binade = min(np.int32(bits_of(a / s) & _SIGN_MASK), grid.max_bits)
        cells_per_unit = float_of(np.int32(grid.cell_step - _exponent(binade, grid)))
        flips = np.float32(np.float32(abs(np.float32(b - a)) / s) * cells_per_unit)
        expected = add_in_any_order(expected, min(_ONE, flips))
        updated = np.int32(updated + np.int32(bits_of(a) != bits_of(b)))
        nonzeros = np.int32(nonzeros + np.int32(b != _ZERO))
    counts[_UPDATED] += updated
    counts[_UNDERFLOWED] += nonzeros  # less the codes that are not 0, in _count_codes
    sums[0] += squares
    sums[1] += updates
    sums[2] += sizes
    sums[3] += expected
    return largest, np.isfinite(squares + updates)


@compiled(error_model="numpy")
def _encode_own(earlier, later, scale, grid, own, before, n):
    """Codes of both at the later scales."""
    largest = np.int32(0)
    for i in range(n):
        scaled = later[i] / scale[i]
        own[i] = _encode(scaled, grid)
        largest = max(largest, np.int32(bits_of(scaled) & _SIGN_MASK))
        before[i] = _encode(earlier[i] / scale[i], grid)
    return largest


@compiled(error_model="numpy")
def _count_clipped(later, scale, grid, n):
    clipped = 0
    for i in range(n):
        magnitude = np.int32(bits_of(later[i] / scale[i]) & _SIGN_MASK)
        clipped += (magnitude > grid.clip_bits) & (magnitude <= _EXPONENT_MASK)
    return clipped


@compiled()
def _count_codes(code_from, code_to, own, before, has_before, counts, n):
    """Count what NaN takes part in; returns the number of flips."""
    flipped = recoded = reverted = nonzeros = 0
    for i in range(0, n, LANES):
        flips = differ(code_from, code_to, i)
        flipped += num_ones(flips)
        recoded += num_ones(differ(own, code_from, i))
        nonzeros += num_ones(nonzero(own, i))
        if has_before:
            reverted += num_ones(flips & ~differ(before, code_to, i))
    counts[_FLIPPED] += flipped
    counts[_RECODED] += recoded
    counts[_REVERTED] += reverted
    counts[_UNDERFLOWED] -= nonzeros
    return flipped


@compiled()
def _count_moves(code_from, code_to, flipped, counts, n):
    """Count where the flips went.

    No branch depends on single codes: where flips are is unpredictable, and a branch that is
    predicted wrongly takes longer than all of this for as many codes.
    """
    up = sign = to_zero = from_zero = distance = largest = 0
    for i in range(0, n, LANES):
        up += num_ones(above(code_to, code_from, i))
        nonzero_from, nonzero_to = nonzero(code_from, i), nonzero(code_to, i)
        to_zero += num_ones(nonzero_from & ~nonzero_to)
        from_zero += num_ones(nonzero_to & ~nonzero_from)
        turned = negative(code_from, i) ^ negative(code_to, i)
        sign += num_ones(turned & nonzero_from & nonzero_to)
        distance += sum_of_steps(code_from, code_to, i)
        largest = max(largest, largest_step(code_from, code_to, i))
    edge = 1
    for at in range(_FARTHER, counts.size):
        if edge >= largest:
            break
        for i in range(0, n, LANES):
            counts[at] += num_ones(farther(code_from, code_to, i, edge))
        edge += edge
    counts[_UP] += up
    counts[_DOWN] += flipped - up
    counts[_SIGN_FLIPPED] += sign
    counts[_TO_ZERO] += to_zero
    counts[_FROM_ZERO] += from_zero
    counts[_DISTANCE] += distance
    counts[_DISTANCE_MAX] = max(counts[_DISTANCE_MAX], largest)


@compiled()
def _copy(source, target, n):
    """Copy ``n`` codes; numba's own assignment of slices goes element by element."""
    for i in range(n):
        target[i] = source[i]


@compiled()
def _fill(target, start, stop, value):
    for i in range(np.uint64(start), np.uint64(stop)):  # signed ones could count from the end
        target[i] = value


@compiled()
def _mark_nan(earlier, later, code_to, own, own_before, grid, counts, n):
    """Give NaN its code, and count the later weights that are not finite."""
    for i in range(n):
        if np.isnan(earlier[i]):
            own_before[i] = grid.nan_code
        if not np.isfinite(later[i]):
            counts[_NONFINITE] += 1
        if np.isnan(later[i]):
            code_to[i] = own[i] = grid.nan_code


@compiled()
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


@compiled()
def _count_padded(code_from, code_to, own, before, has_before, grid, counts, n):
    """Count a strip with NaN, or one that does not fill its lanes: on copies that end in zeros."""
    num_codes = -(-n // LANES) * LANES
    copies = np.zeros((4, num_codes), code_from.dtype)
    _copy(code_from, copies[0], n)
    _copy(code_to, copies[1], n)
    _copy(own, copies[2], n)
    _copy(before, copies[3], n)
    flipped = _count_codes(
        copies[0], copies[1], copies[2], copies[3], has_before, counts, num_codes
    )
    for i in range(n):  # a flip to or from NaN has no direction
        if copies[0, i] == grid.nan_code or copies[1, i] == grid.nan_code:
            flipped -= copies[0, i] != copies[1, i]
            copies[0, i] = copies[1, i] = 0
    _count_moves(copies[0], copies[1], flipped, counts, num_codes)


@compiled(cache=True)
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
    scratch = np.empty((3, STRIP), codes[0].dtype)
    code_to, own, own_before = scratch[0], scratch[1], scratch[2]
    wide = np.empty(STRIP, np.float32), np.empty(STRIP, np.float32)
    divisors = np.empty(STRIP, np.float32), np.empty(STRIP, np.float32)
    filled = np.zeros(2, np.float32)
    num_weights = codes[0].size
    for start in range(0, num_weights, STRIP):
        n = min(STRIP, num_weights - start)
        stop = start + n
        code_from, before = codes[0][start:stop], codes[1][start:stop]
        if halves[0].size:
            _widen(halves[0][start:stop], is_bfloat16, wide[0], n)
            _widen(halves[1][start:stop], is_bfloat16, wide[1], n)
            earlier, later = wide
        else:
            earlier, later = weights[0][start:stop], weights[1][start:stop]
        is_changed = _fill_scales(start, n, layout, scales, divisors, filled)
        largest, is_finite = _measure_weights(
            earlier, later, divisors[0], grid, code_to, counts, sums, n
        )
        new = code_to
        if is_changed:
            largest = _encode_own(earlier, later, divisors[1], grid, own, own_before, n)
            new = own
        if largest > grid.clip_bits:
            counts[_SATURATED] += _count_clipped(later, divisors[1], grid, n)
        if not is_finite:
            _mark_nan(earlier, later, code_to, own, own_before, grid, counts, n)
        if n % LANES == 0 and is_finite:
            flipped = _count_codes(code_from, code_to, new, before, has_before, counts, n)
            if flipped:
                _count_moves(code_from, code_to, flipped, counts, n)
        else:
            _count_padded(code_from, code_to, new, before, has_before, grid, counts, n)
        _copy(own_before if is_changed else code_from, before, n)
        _copy(new, code_from, n)
