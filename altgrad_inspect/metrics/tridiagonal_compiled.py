"""The reduction of a symmetric matrix to tridiagonal form, compiled on first use.

Householder's reflections, column after column (Golub & Van Loan 2013, algorithm 8.3.1): A becomes
Q^T A Q with diagonal d and off-diagonal e, and the same eigenvalues. With the reflection
1 - tau * u * u^T of the column at hand, A is updated by - v * w^T - w * v^T with v = u. Each
step must read all of A for A * u, and the speed is that of the cache which A comes from.
So updates wait: a step multiplies by A as it was and corrects the product; when `NUM_PENDING`
updates have come together, one pass applies them all and multiplies on the way (the idea of
Dongarra, Hammarling & Sorensen 1989, J. Comput. Appl. Math. 27, 215-227). Only the upper
triangle is kept, in rows. Importing this module imports numba.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: ANN001, ANN201, ANN202, PLR0917

import numpy as np
from numba import types

from altgrad_inspect.metrics.compiling import compiled
from altgrad_inspect.metrics.vector_code import (
    HAS_WIDE_REGISTERS,
    INT64,
    LANES,
    VectorCode,
    intrinsic,
)

NUM_PENDING = 2
ROWS_UPDATED = 4 if HAS_WIDE_REGISTERS else 2
ROWS_MULTIPLIED = 8 if HAS_WIDE_REGISTERS else 4
NEGLIGIBLE_SQUARES = 1e-280
"""Sums of squares below have lost digits; what they are of is nothing beside the largest."""

_FAST = {"reassoc", "contract", "nsz"}


class _Rows:
    """The innermost loops, over a few rows at once.

    Args:
        code: Where instructions go.
        matrix: Pointer to the matrix, and numbers in a row.
        first: Index of the first row.
        num_rows: How many.
        vectors: Pointers to v and w, of as many rows as updates are pending, and to u and y.
        num_pending: How many of the updates to apply.
    """

    def __init__(self, code, matrix, first, num_rows, vectors, num_pending) -> None:
        builder = code.builder
        start, self.stride = matrix
        v, w, self.u, self.y = vectors
        rows = [builder.add(first, INT64(index)) for index in range(num_rows)]
        offsets = [builder.mul(INT64(index), self.stride) for index in range(num_pending)]
        self.code = code
        self.pending = [(code.at(v, offset), code.at(w, offset)) for offset in offsets]
        self.pointers = [code.at(start, builder.mul(row, self.stride)) for row in rows]
        self.factors = [self._entry(self.u, row) for row in rows]
        self.updates = [
            [(self._entry(a, row), self._entry(b, row)) for a, b in self.pending] for row in rows
        ]
        self.sums = [code.variable() for _ in rows]
        self.targets = [code.at(self.y, row) for row in rows]

    def _entry(self, vector, index):
        return self.code.broadcast(self.code.builder.load(self.code.at(vector, index)))

    def run(self, start, stop, *, has_mirror) -> None:
        """Go over columns; with a mirror image, entries also add to the y of their column."""
        code, builder = self.code, self.code.builder
        with code.loop(start, stop) as (position, _):
            along = [
                tuple(builder.fneg(code.load(code.at(one, position))) for one in pair)
                for pair in self.pending
            ]
            right = code.load(code.at(self.u, position))
            below = code.load(code.at(self.y, position)) if has_mirror else None
            for pointer, factor, update, total in zip(
                self.pointers, self.factors, self.updates, self.sums, strict=True
            ):
                place = code.at(pointer, position)
                entries = code.load(place)
                for (v_row, w_row), (v_column, w_column) in zip(update, along, strict=True):
                    entries = code.multiply_add(v_row, w_column, entries)
                    entries = code.multiply_add(w_row, v_column, entries)
                if update:
                    code.store(entries, place)
                builder.store(code.multiply_add(entries, right, builder.load(total)), total)
                if has_mirror:
                    below = code.multiply_add(entries, factor, below)
            if has_mirror:
                code.store(below, code.at(self.y, position))

    def add_sums(self) -> None:
        """Add the sums of the rows to their y."""
        code, builder = self.code, self.code.builder
        for target, total in zip(self.targets, self.sums, strict=True):
            sum_of_row = code.sum_lanes(builder.load(total))
            builder.store(builder.fadd(builder.load(target), sum_of_row), target)


def _pass_over_rows(num_rows, num_pending):
    """Make the function that multiplies ``num_rows`` rows by u, having updated them before.

    A row and its mirror image below the diagonal are used together: A[i, j] adds to y[i] and
    to y[j]. On the diagonal there is a square of LANES that is kept whole.
    """

    @intrinsic
    def multiply(_context, matrix, row, start, v, w, u, y):
        def generate(context, builder, signature, values):
            code = VectorCode(context, builder)
            arrays = [code.array(signature.args[index], values[index]) for index in (0, 3, 4, 5, 6)]
            vectors = [pointer for pointer, _ in arrays[1:]]
            rows = _Rows(code, arrays[0], values[1], num_rows, vectors, num_pending)
            end = builder.add(values[2], INT64(LANES))
            rows.run(values[2], end, has_mirror=False)
            rows.run(end, rows.stride, has_mirror=True)
            rows.add_sums()
            return context.get_dummy_value()

        return types.void(matrix, row, start, v, w, u, y), generate

    return multiply


_multiply = _pass_over_rows(ROWS_MULTIPLIED, 0)
_update_and_multiply = _pass_over_rows(ROWS_UPDATED, NUM_PENDING)


@compiled(fastmath=_FAST)
def _dot(x, y, start, stop):
    total = 0.0
    for j in range(np.uint64(start), np.uint64(stop)):  # signed ones could count from the end
        total += x[j] * y[j]
    return total


@compiled(fastmath=_FAST)
def _subtract_both(target, a, x, b, y, start, stop):
    for j in range(np.uint64(start), np.uint64(stop)):
        target[j] -= a * x[j] + b * y[j]


@compiled()
def _reflect(x, start, stop):
    """Turn x[start:stop] into the u of its reflection, with u[start] = 1; all 0 for none.

    Returns:
        beta, the multiple of the first unit vector that x becomes, and tau.
    """
    first = x[start]
    squares = _dot(x, x, start + 1, stop)
    if squares < NEGLIGIBLE_SQUARES:
        x[start:stop] = 0.0
        return first, 0.0
    beta = -np.copysign(np.sqrt(first * first + squares), first)
    for j in range(np.uint64(start + 1), np.uint64(stop)):
        x[j] /= first - beta
    x[start] = 1.0
    return beta, (beta - first) / beta


@compiled()
def _update_all(matrix, start, v, w, u, y):
    """Apply the pending updates to the rows from ``start`` on; y becomes their product with u."""
    for top in range(start, matrix.shape[0], LANES):
        for row in range(top, top + LANES, ROWS_UPDATED):
            _update_and_multiply(matrix, row, top, v, w, u, y)


@compiled()
def _multiply_all(matrix, start, num_pending, v, w, u, y):
    """Leave the updates pending; y becomes the product with u all the same."""
    for top in range(start, matrix.shape[0], LANES):
        for row in range(top, top + LANES, ROWS_MULTIPLIED):
            _multiply(matrix, row, top, v, w, u, y)
    for i in range(num_pending):
        along_v, along_w = _dot(v[i], u, start, u.size), _dot(w[i], u, start, u.size)
        _subtract_both(y, along_w, v[i], along_v, w[i], start, u.size)


@compiled()
def _complete(matrix):
    """Fill the squares on the diagonal, which are kept whole, from the upper triangle."""
    for row in range(matrix.shape[0]):
        for column in range(row // LANES * LANES, row):
            matrix[row, column] = matrix[column, row]


@compiled(cache=True)
def reduce(matrix, n, diagonal, off_diagonal):
    """Reduce a symmetric matrix whose largest number is of the order of 1, give or take 1e100.

    Args:
        matrix: (m, m), contiguous, m at least n and a multiple of LANES: the n by n matrix, of
            which the upper triangle is read, and zeros around it. Overwritten.
        n: At least 1.
        diagonal: n numbers, filled.
        off_diagonal: n numbers, of which n - 1 are filled.
    """
    m = matrix.shape[0]
    _complete(matrix)
    v, w = np.zeros((NUM_PENDING, m)), np.zeros((NUM_PENDING, m))
    u, y = np.zeros(m), np.empty(m)
    num_pending = 0
    for k in range(n):
        u[k:n] = matrix[k, k:n]
        for i in range(num_pending):
            _subtract_both(u, v[i, k], w[i], w[i, k], v[i], k, n)
        diagonal[k] = u[k]
        if k == n - 1:
            break
        u[k] = 0.0  # what is done stays out of every product, whatever becomes of it
        off_diagonal[k], tau = _reflect(u, k + 1, n)
        start = (k + 1) // LANES * LANES
        y[start:] = 0.0
        if num_pending == NUM_PENDING:
            _update_all(matrix, start, v, w, u, y)
            num_pending = 0
        else:
            _multiply_all(matrix, start, num_pending, v, w, u, y)
        half = 0.5 * tau * _dot(y, u, k + 1, n)
        for j in range(k + 1, n):
            v[num_pending, j] = u[j]
            w[num_pending, j] = tau * (y[j] - half * u[j])
        num_pending += 1
