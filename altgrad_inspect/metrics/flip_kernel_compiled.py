"""The loops of `altgrad_inspect.metrics.flip_kernel`, compiled on first use.

Written for the compiler's vectorizer: short loops over strips, no branches inside, all
arithmetic on 32-bit integers and floats, one kind of work a loop. numba widens the result of
every integer operation to 64 bits, which halves the numbers in a vector; hence a cast around
each. Importing this module imports numba.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: ANN001, ANN202, PLR0917

from inspect import unwrap

import numpy as np
from numba import njit

STRIP = 2048
_SIGN_MASK = np.int32(0x7FFFFFFF)
_EXPONENT_MASK = np.int32(0x7F800000)


def _compiled(**options):  # noqa: ANN003
    """Compile without the wrappers that a type checker may have put around a function."""
    return lambda function: njit(cache=True, nogil=True, **options)(unwrap(function))


@_compiled()
def _all_finite(bits, n):
    count = np.int32(0)
    for i in range(n):
        is_special = np.int32(bits[i] & _EXPONENT_MASK) == _EXPONENT_MASK
        count = np.int32(count + np.int32(is_special))
    return count == 0


@_compiled()
def _divide(weights, scale, scaled, n):
    for i in range(n):
        scaled[i] = weights[i] / scale


@_compiled(error_model="numpy")
def _encode(scaled, shifted, grid, codes, n):
    """Ordinals of ``scaled``; see ``_round_in_float32`` in ``quantize.grids``."""
    if grid.is_integer:
        for i in range(n):
            rounded = np.rint(min(max(scaled[i], -grid.max_value), grid.max_value))
            codes[i] = np.int32(rounded)
        return
    for i in range(n):
        shifted[i] = min(abs(scaled[i]), grid.max_value) + grid.magic
    bits, shifted_bits = scaled.view(np.int32), shifted.view(np.int32)
    half = np.int32((1 << (grid.shift - 1)) - 1)
    for i in range(n):
        magnitude = np.int32(min(np.int32(bits[i] & _SIGN_MASK), grid.max_bits))
        rebiased = np.int32(magnitude - grid.offset)
        odd = np.int32(np.int32(rebiased >> grid.shift) & np.int32(1))
        normal = np.int32(np.int32(rebiased + odd + half) >> grid.shift)
        subnormal = np.int32(shifted_bits[i] - grid.magic_bits)
        code = subnormal if magnitude < grid.normal_bits else normal
        codes[i] = np.int32(-code) if bits[i] < 0 else code


@_compiled()
def _count_codes(code_from, code_to, own_to, before, has_before, counts, n):
    flipped = recoded = up = sign = to_zero = from_zero = reverted = np.int32(0)
    distance = largest = np.int32(0)
    d1 = d2 = d4 = d8 = d16 = d32 = d64 = d128 = np.int32(0)
    for i in range(n):
        a, b = np.int32(code_from[i]), np.int32(code_to[i])
        step = np.int32(abs(np.int32(b - a)))
        flipped = np.int32(flipped + np.int32(a != b))
        recoded = np.int32(recoded + np.int32(np.int32(own_to[i]) != a))
        up = np.int32(up + np.int32(b > a))
        sign = np.int32(sign + np.int32(((a ^ b) < 0) & (a != 0) & (b != 0)))
        to_zero = np.int32(to_zero + np.int32((b == 0) & (a != 0)))
        from_zero = np.int32(from_zero + np.int32((a == 0) & (b != 0)))
        distance = np.int32(distance + np.int32(step))
        largest = max(largest, step)
        d1 = np.int32(d1 + np.int32(step > 1))
        d2 = np.int32(d2 + np.int32(step > 2))
        d4 = np.int32(d4 + np.int32(step > 4))
        d8 = np.int32(d8 + np.int32(step > 8))
        d16 = np.int32(d16 + np.int32(step > 16))
        d32 = np.int32(d32 + np.int32(step > 32))
        d64 = np.int32(d64 + np.int32(step > 64))
        d128 = np.int32(d128 + np.int32(step > 128))
    if has_before:
        for i in range(n):
            is_back = (code_to[i] == before[i]) & (code_to[i] != code_from[i])
            reverted = np.int32(reverted + np.int32(is_back))
    counts[1] += flipped
    counts[2] += recoded
    counts[3] += up
    counts[4] += sign
    counts[5] += to_zero
    counts[6] += from_zero
    counts[7] += reverted
    counts[10] += distance
    counts[11] = max(counts[11], largest)
    counts[12] += d1
    counts[13] += d2
    counts[14] += d4
    counts[15] += d8
    counts[16] += d16
    counts[17] += d32
    counts[18] += d64
    counts[19] += d128


@_compiled()
def _count_values(earlier_bits, later_bits, own_scaled, own_to, grid, counts, n):
    scaled_bits = own_scaled.view(np.int32)
    updated = saturated = underflowed = np.int32(0)
    for i in range(n):
        updated = np.int32(updated + np.int32(earlier_bits[i] != later_bits[i]))
        saturated = np.int32(
            saturated + np.int32(np.int32(scaled_bits[i] & _SIGN_MASK) > grid.clip_bits)
        )
        underflowed = np.int32(
            underflowed + np.int32((np.int32(later_bits[i] & _SIGN_MASK) != 0) & (own_to[i] == 0))
        )
    counts[0] += updated
    counts[8] += saturated
    counts[9] += underflowed


@_compiled(fastmath={"reassoc", "contract"})
def _add_norms(earlier, later, sums, n):
    squares = updates = sizes = 0.0
    for i in range(n):
        a = np.float64(earlier[i])
        update = np.float64(later[i]) - a
        squares += a * a
        updates += update * update
        sizes += abs(update)
    sums[0] += squares
    sums[1] += updates
    sums[2] += sizes


@_compiled(fastmath={"reassoc"}, error_model="numpy")
def _add_expected(earlier, later, scaled, cells, scale, grid, sums, n):
    bits, cell_bits = scaled.view(np.int32), cells.view(np.int32)
    if grid.is_integer:
        for i in range(n):
            cells[i] = np.float32(1)
    else:
        for i in range(n):
            exponent = np.int32(bits[i] & _EXPONENT_MASK)
            exponent = np.int32(min(max(exponent, grid.ulp_low_bits), grid.ulp_high_bits))
            cell_bits[i] = np.int32(exponent - grid.ulp_shift)
    expected = 0.0
    for i in range(n):
        step = np.float32(abs(np.float64(later[i]) - np.float64(earlier[i])))
        expected += min(np.float32(1), step / (cells[i] * scale))
    sums[3] += expected


@_compiled()
def _measure_strip(weights, scales, codes, has_before, grid, scratch, counts, sums):
    """Count one strip of weights that share a scale."""
    a, b = weights
    scale_from, scale_to = scales
    code_from, before = codes
    scaled, other, code_to, own_to = scratch
    n = a.size
    _divide(b, scale_from, scaled, n)
    _encode(scaled, other, grid, code_to, n)
    if scale_from != scale_to:
        _divide(b, scale_to, scaled, n)
        _encode(scaled, other, grid, own_to, n)
    else:
        own_to[:n] = code_to[:n]
    _count_values(a.view(np.int32), b.view(np.int32), scaled, own_to, grid, counts, n)
    _count_codes(code_from, code_to, own_to, before, has_before, counts, n)
    _add_norms(a, b, sums, n)
    if scale_from != scale_to:
        _divide(a, scale_to, scaled, n)
        _encode(scaled, other, grid, before, n)
    else:
        before[:] = code_from
    _divide(a, scale_from, scaled, n)
    _add_expected(a, b, scaled, other, scale_from, grid, sums, n)
    code_from[:] = own_to[:n]


@_compiled()
def run(
    earlier,
    later,
    col_start,
    block_cols,
    row_blocks,
    scales_from,
    scales_to,
    codes,
    before,
    has_before,
    grid,
    counts,
    sums,
) -> bool:
    """Count one tile, (rows, cols); False, nothing changed, if a weight is not finite."""
    num_rows, num_cols = earlier.shape
    for row in range(num_rows):
        for weights in (earlier[row], later[row]):
            if not _all_finite(weights.view(np.int32), num_cols):
                return False
    scratch = (
        np.empty(STRIP, np.float32),
        np.empty(STRIP, np.float32),
        np.empty(STRIP, codes.dtype),
        np.empty(STRIP, codes.dtype),
    )
    for row in range(num_rows):
        block_row = row_blocks[row]
        start = 0
        while start < num_cols:
            block = (col_start + start) // block_cols
            stop = min(start + STRIP, num_cols, (block + 1) * block_cols - col_start)
            _measure_strip(
                (earlier[row, start:stop], later[row, start:stop]),
                (scales_from[block_row, block], scales_to[block_row, block]),
                (codes[row, start:stop], before[row, start:stop]),
                has_before,
                grid,
                scratch,
                counts,
                sums,
            )
            start = stop
    return True
