"""Bounds on rounding errors: closed forms, and perturbations that must stay inside."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from altgrad_inspect.metrics.certificate import (
    certain_count,
    effective_rank_error,
    eigensolver_error,
    gram_value_errors,
    stable_rank_error,
    summation_error,
    svd_value_errors,
)

U = 2.0**-53


def effective_rank(values: torch.Tensor) -> float:
    shares = values / values.sum()
    return math.exp(float(torch.special.entr(shares).sum()))


def test_the_eigensolver_errs_by_sixteen_roots_of_the_columns() -> None:
    assert eigensolver_error(3.0, num_columns=25) == 16 * 5 * U * 3.0


def test_each_addition_may_round_the_squared_norm_once() -> None:
    assert summation_error(7.0, num_additions=513) == 513 * U * 7.0


def test_a_gram_value_is_uncertain_by_the_smaller_of_two_bounds() -> None:
    values = torch.tensor([1.0, 1e-3, 1e-9, 0.0], dtype=torch.float64)
    errors = gram_value_errors(values, 1e-12)
    assert errors.tolist() == pytest.approx([1e-12, 1e-9, 1e-6, 1e-6], rel=1e-12)


@given(
    eigenvalues=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    error=st.floats(1e-15, 1e-3),
    sign=st.sampled_from([-1, 1]),
)
@settings(max_examples=50)
def test_a_root_moves_no_further_than_its_bound(
    eigenvalues: list[float], error: float, sign: int
) -> None:
    true = torch.tensor(eigenvalues, dtype=torch.float64)
    found = (true + sign * error).clamp(min=0).sqrt()
    moved = (found - true.sqrt()).abs()
    assert bool((moved <= gram_value_errors(found, error) * (1 + 1e-9) + 1e-15).all())


def test_svd_values_are_uncertain_by_their_dimensions_times_the_largest() -> None:
    values = torch.tensor([5.0, 1.0], dtype=torch.float64)
    errors = svd_value_errors(values, num_rows=30, num_columns=2)
    assert errors.tolist() == [64 * U * 5.0] * 2


@given(
    values=st.lists(st.floats(1e-6, 1), min_size=2, max_size=8),
    relative=st.lists(st.floats(-1, 1), min_size=8, max_size=8),
    size=st.floats(1e-9, 0.3),
)
@settings(max_examples=100)
def test_no_perturbation_moves_the_effective_rank_beyond_its_bound(
    values: list[float], relative: list[float], size: float
) -> None:
    found = torch.tensor(values, dtype=torch.float64)
    errors = size * torch.tensor(relative[: len(values)], dtype=torch.float64)
    true = (found + errors).clamp(min=0)
    if float(true.sum()) == 0:
        return
    actual = effective_rank(true)
    bound = effective_rank_error(found, errors.abs())
    assert abs(effective_rank(found) - actual) / actual <= bound


def test_the_bound_is_reached_where_one_value_loses_to_all_others() -> None:
    """The entropy inequality is sharp for (1, 0, ..., 0) against an even spread of T."""
    n, spread = 9, 1e-3
    found = torch.zeros(n, dtype=torch.float64)
    found[0] = 1.0
    true = torch.full((n,), spread / (n - 1), dtype=torch.float64)
    true[0] = 1 - spread
    # Their distance in total variation is half of the summed errors, as the sums agree.
    bound = effective_rank_error(found, (true - found).abs() / 2)
    assert effective_rank(true) / effective_rank(found) - 1 == pytest.approx(bound, rel=1e-9)


def test_hopeless_errors_leave_the_whole_range() -> None:
    values = torch.ones(5, dtype=torch.float64)
    assert effective_rank_error(values, 10 * values) == pytest.approx(4.0)


def test_beyond_the_largest_distance_that_two_spectra_have_nothing_is_known() -> None:
    """The entropy inequality ends at T = 1 - 1/n; its formula falls again after that."""
    values = torch.tensor([1.0, 1.0], dtype=torch.float64)
    assert effective_rank_error(values, 0.95 * values) == pytest.approx(1.0)


def test_one_value_has_no_error() -> None:
    one = torch.ones(1, dtype=torch.float64)
    assert effective_rank_error(one, one) == 0.0


def test_exact_values_leave_only_the_rounding_of_the_entropy() -> None:
    values = torch.tensor([2.0, 1.0], dtype=torch.float64)
    assert 0 < effective_rank_error(values, torch.zeros(2, dtype=torch.float64)) < 1e-14


def test_the_stable_rank_takes_the_error_of_the_largest_value_twice() -> None:
    bound = stable_rank_error(1e-3, value_error=0.02, largest=2.0)
    assert bound == pytest.approx(1e-3 + 0.02 + 1e-4)


@pytest.mark.parametrize(("threshold", "count"), [(0.5, 2), (1.5, 1), (4.0, 0), (0.05, 3)])
def test_values_away_from_the_threshold_are_counted(threshold: float, count: int) -> None:
    values = torch.tensor([3.0, 1.0, 0.1], dtype=torch.float64)
    assert certain_count(values, 1e-3 * torch.ones_like(values), threshold) == count


@pytest.mark.parametrize("threshold", [0.9995, 1.0, 1.0005])
def test_a_value_within_its_error_of_the_threshold_is_not_counted(threshold: float) -> None:
    values = torch.tensor([3.0, 1.0, 0.1], dtype=torch.float64)
    assert certain_count(values, 1e-3 * torch.ones_like(values), threshold) is None
