"""The eigenvalues of a tridiagonal matrix, compiled on first use.

QR steps without square roots: the method of Pal, Walker and Kahan (Parlett 1998, The Symmetric
Eigenvalue Problem, section 8.15), on the squares of the off-diagonal. A step is a chain of
numbers each of which waits for the one before, so its speed is the latency of that chain.
Here it is written with one division in the chain: with r = p + b and
num = p * (d - shift) - b * gamma, the next gamma is num / r and the next p is num**2 / (r * p),
which in the usual form go through two. Importing this module imports numba.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: ANN001, ANN201, ANN202

import math

import numpy as np

from altgrad_inspect.metrics.compiling import compiled

MAX_STEPS_A_VALUE = 40
"""Two are usual, and more than ten have not been seen."""

NEGLIGIBLE = 2.0**-52
"""Off-diagonals up to this share of the largest entry are 0. Where eigenvalues coincide, what
rounding leaves there goes no further down: at 2**-54 one such matrix in five does not converge."""


@compiled(error_model="numpy")
def _choose_shift(before_last, last, square):
    """The eigenvalue of the last 2 by 2 block that is nearer to its last entry (Wilkinson)."""
    root = np.sqrt(square)
    half = (before_last - last) / (2.0 * root)
    return last - root / (half + np.copysign(np.hypot(half, 1.0), half))


@compiled(error_model="numpy")
def _step(diagonal, squares, first, last, shift):
    """One QR step on the block from ``first`` to ``last``.

    Args:
        diagonal: Of the whole matrix.
        squares: squares[i] couples i - 1 and i.
        first: Index of the first entry of the block; squares[first] becomes 0.
        last: Index of its last one.
        shift: Near an eigenvalue.
    """
    one = np.uint64(1)
    gamma = diagonal[first] - shift
    p = gamma * gamma
    sine, cosine = 0.0, 1.0
    for i in range(np.uint64(first), np.uint64(last)):  # signed ones could count from the end
        b, below = squares[i + one], diagonal[i + one]
        r = p + b
        squares[i] = sine * r
        num = p * (below - shift) - b * gamma
        inverse = 1.0 / r
        previous, gamma = gamma, num * inverse
        diagonal[i] = previous + (below - gamma)
        sine = b * inverse
        if p != 0.0:
            cosine, p = p * inverse, num * num / (r * p)
        else:
            cosine, p = 0.0, cosine * b
    squares[last] = sine * p
    diagonal[last] = shift + gamma


@compiled(error_model="numpy")
def _find_scaled(diagonal, squares):
    """The same where the largest number is between 1/2 and 1: fourth powers are taken of them.

    Args:
        diagonal: As above.
        squares: squares[i] of the off-diagonal couples i - 1 and i.
    """
    n = diagonal.size
    negligible = NEGLIGIBLE**2
    last, num_steps = n - 1, 0
    while last > 0:
        first = last
        while first > 0 and squares[first] > negligible:
            first -= 1
        if first == last:
            last, num_steps = last - 1, 0
            continue
        if num_steps == MAX_STEPS_A_VALUE:
            return False
        shift = _choose_shift(diagonal[last - 1], diagonal[last], squares[last])
        _step(diagonal, squares, first, last, shift)
        num_steps += 1
    return True


@compiled(cache=True)
def find(diagonal, off_diagonal):
    """Replace the diagonal by the eigenvalues, in no order.

    Args:
        diagonal: n numbers.
        off_diagonal: At least n - 1 numbers.

    Returns:
        Whether all were found.
    """
    n = diagonal.size
    largest = np.abs(diagonal).max()
    if n > 1:
        largest = max(largest, np.abs(off_diagonal[: n - 1]).max())
    exponent = math.frexp(largest)[1]
    for i in range(n):
        diagonal[i] = math.ldexp(diagonal[i], -exponent)
    squares = np.zeros(n)
    for i in range(1, n):
        squares[i] = math.ldexp(off_diagonal[i - 1], -exponent) ** 2
    found = _find_scaled(diagonal, squares)
    for i in range(n):
        diagonal[i] = math.ldexp(diagonal[i], exponent)
    return found
