"""Whether a series declines at all, and how fast: tests that no outlier and no shape can fool.

- Mann-Kendall: S = sum over pairs i < j of sign(x_j - x_i) (Mann 1945; Kendall 1975). One-sided
  for a decline: the probability of an S this low if the order of the values were random.
  Exact up to `EXACT_VALUES` values without ties, else the normal approximation with
  continuity correction and the variance corrected for ties,
  (n(n-1)(2n+5) - sum over ties of t(t-1)(2t+5)) / 18.
- Theil-Sen: the median of the slopes of all pairs (Theil 1950; Sen 1968), over true distances,
  so uneven steps are no problem.
- Benjamini-Hochberg (1995): of many tests, those of which at most a given share is false.

Mann-Kendall takes the values as independent. Those of one run are not: a random walk looks like
a trend in one direction or the other more often than the level says. So a p-value here is a
sieve and never enough by itself.
"""

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np

EXACT_VALUES: Final = 10


def measure_decline_p(values: Sequence[float]) -> float:
    """Return the one-sided Mann-Kendall p-value of a decline, in (0, 1]; 1 below two values.

    Args:
        values: Finite numbers in order.
    """
    array = np.asarray(values, dtype=np.float64)
    num_values = len(array)
    rows, cols = np.triu_indices(num_values, k=1)
    score = int(np.sign(array[cols] - array[rows]).sum())
    ties = [count for count in Counter(array.tolist()).values() if count > 1]
    if not ties and num_values <= EXACT_VALUES:
        return _find_exact_p(num_values, score)
    variance = (_tie_term(num_values) - sum(_tie_term(count) for count in ties)) / 18
    if variance <= 0:
        return 1.0
    z = (score + 1) / math.sqrt(variance)
    return min(1.0, 0.5 * math.erfc(-z / math.sqrt(2)))


def _tie_term(count: int) -> int:
    return count * (count - 1) * (2 * count + 5)


def _find_exact_p(num_values: int, score: int) -> float:
    """Return the share of all orders whose S is at most ``score``."""
    num_pairs = num_values * (num_values - 1) // 2
    num_inversions = (num_pairs - score) // 2
    counts = _count_inversions(num_values)
    return sum(counts[num_inversions:]) / math.factorial(num_values)


@cache
def _count_inversions(num_values: int) -> tuple[int, ...]:
    """Return how many orders of n distinct values have 0, 1, 2, ... inversions."""
    counts = [1]
    for size in range(2, num_values + 1):
        longer = [0] * (len(counts) + size - 1)
        for inversions, count in enumerate(counts):
            for added in range(size):
                longer[inversions + added] += count
        counts = longer
    return tuple(counts)


def estimate_theil_sen_slope(steps: Sequence[int], values: Sequence[float]) -> float:
    """Return the median slope of all pairs, in values a step.

    Args:
        steps: Strictly increasing, at least two.
        values: As many finite numbers.
    """
    rows, cols = np.triu_indices(len(steps), k=1)
    x, y = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    return float(np.median((y[cols] - y[rows]) / (x[cols] - x[rows])))


def estimate_decline_fraction(steps: Sequence[int], logs: Sequence[float]) -> float:
    """Return the part of itself that a metric lost over the run, by its Theil-Sen slope.

    Args:
        steps: Strictly increasing, at least two.
        logs: Natural logarithms of the metric, as many.

    Returns:
        1 - exp(slope * (last step - first step)), below 1; negative for a rise.
    """
    slope = estimate_theil_sen_slope(steps, logs)
    return -math.expm1(slope * (steps[-1] - steps[0]))


def find_discoveries(p_values: Sequence[float], level: float) -> list[bool]:
    """Return which tests are discoveries, by Benjamini and Hochberg (1995).

    Args:
        p_values: One a test, any order.
        level: The share of false ones among the discoveries to expect at most, in (0, 1).

    Returns:
        One a test, in the order given.
    """
    ordered = sorted(p_values)
    passing = [p for place, p in enumerate(ordered, start=1) if p <= level * place / len(ordered)]
    return [bool(passing) and p <= passing[-1] for p in p_values]
