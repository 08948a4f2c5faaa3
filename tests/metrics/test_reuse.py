"""Ranks that hold without measuring: of exact multiples, and within a proven bound."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from altgrad_inspect.metrics.reuse import (
    bound_entropy_change,
    bound_stable_rank_change,
    carry_ranks,
    find_power_of_two,
    measure_drift,
    rescale_ranks,
)
from altgrad_inspect.metrics.spectrum import measure_spectrum
from altgrad_inspect.metrics.spectrum_estimate import keep_stable_rank
from altgrad_inspect.records import Spectrum, StableRank


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def measured(matrix: torch.Tensor) -> Spectrum:
    spectrum = measure_spectrum(matrix, keep_singular_values=True)
    assert isinstance(spectrum, Spectrum)
    return spectrum


def entropy(values: NDArray[np.float64]) -> float:
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def gaussian(rows: int, cols: int, *, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))


every_dtype = pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64]
)


@every_dtype
@pytest.mark.parametrize("factor", [2.0, 0.5, -1.0, -0.25, 64.0])
def test_a_power_of_two_is_found_and_gives_the_numbers_a_measurement_gives(
    factor: float, dtype: torch.dtype
) -> None:
    earlier = gaussian(40, 30).to(dtype)
    earlier[3] = 0
    later = earlier * factor
    assert find_power_of_two(earlier, later) == factor
    assert rescale_ranks(measured(earlier), factor) == measured(later)
    stable = rescale_ranks(keep_stable_rank(measured(earlier)), factor)
    assert stable == keep_stable_rank(measured(later))


@pytest.mark.parametrize("factor", [1.0, 3.0, 1.5, 0.0, math.nan, math.inf])
def test_no_other_multiple_is_taken_for_one(factor: float) -> None:
    earlier = gaussian(20, 20)
    assert find_power_of_two(earlier, earlier * factor) is None


@pytest.mark.parametrize("place", range(0, 400, 37))
def test_one_weight_that_differs_is_enough(place: int) -> None:
    earlier = gaussian(20, 20)
    later = earlier * 2
    later.view(-1)[place] *= 1 + 2**-23
    assert find_power_of_two(earlier, later) is None


def test_weights_that_lost_bits_on_the_way_are_no_multiple() -> None:
    earlier = gaussian(20, 20) * 2e-38
    shrunk = earlier * 2.0**-20  # subnormal now: the last bits are gone
    assert find_power_of_two(earlier, shrunk) is None
    assert find_power_of_two(shrunk, earlier) is None


def test_zeros_and_empty_matrices_are_no_multiples() -> None:
    assert find_power_of_two(torch.zeros(5, 5), torch.zeros(5, 5)) is None
    assert find_power_of_two(torch.zeros(0, 5), torch.zeros(0, 5)) is None
    assert find_power_of_two(torch.zeros(5, 5), torch.ones(5, 5)) is None


def test_a_norm_beyond_float64_is_measured_anew() -> None:
    spectrum = measured(gaussian(5, 5).double())
    assert rescale_ranks(replace(spectrum, nuclear_norm=1e308), 4.0) is None
    assert rescale_ranks(replace(keep_stable_rank(spectrum), frobenius_norm=1e308), 4.0) is None


@every_dtype
def test_the_drift_is_the_norm_of_the_difference_and_never_below_it(dtype: torch.dtype) -> None:
    earlier, later = gaussian(700, 500).to(dtype), gaussian(700, 500, seed=1).to(dtype)
    exact = float(np.linalg.norm(later.double().numpy() - earlier.double().numpy()))
    drift = measure_drift(earlier, later)
    assert exact <= drift <= exact * (1 + 2e-6)
    assert measure_drift(earlier, earlier) == 0


def test_the_drift_of_tiny_and_of_broken_matrices() -> None:
    tiny = torch.full((3, 3), 1e-200, dtype=torch.float64)
    assert measure_drift(torch.zeros_like(tiny), tiny) == pytest.approx(3e-200, rel=1e-5)
    for broken in (math.nan, math.inf):
        later = torch.ones(3, 3)
        later[1, 1] = broken
        assert measure_drift(torch.ones(3, 3), later) == math.inf


SHAPES_OF_SPECTRA: Final[dict[str, Callable[[int], NDArray[np.float64]]]] = {
    "flat": np.ones,
    "gaussian-like": lambda count: np.sqrt(np.linspace(1, 1e-6, count)),
    "i^-1": lambda count: 1 / np.arange(1.0, count + 1),
    "i^-4": lambda count: np.arange(1.0, count + 1) ** -4,
    "geometric": lambda count: np.logspace(0, -12, count),
    "half zero": lambda count: np.r_[np.ones(count - count // 2), np.zeros(count // 2)],
    "rank 1": lambda count: np.r_[1.0, np.zeros(count - 1)],
}


@pytest.mark.parametrize("name", SHAPES_OF_SPECTRA)
@given(
    count=st.integers(2, 60),
    size=st.floats(-7, 0.5),
    seed=st.integers(0, 2**31),
    direction=st.sampled_from(["random", "gradient", "against", "one", "tail", "scaled"]),
)
@settings(max_examples=60, deadline=None)
def test_no_change_of_the_values_moves_the_entropy_by_more_than_the_bound(
    name: str, count: int, size: float, seed: int, direction: str
) -> None:
    values = SHAPES_OF_SPECTRA[name](count)
    rng = np.random.default_rng(seed)
    shares = np.maximum(values / values.sum(), 1e-300)
    slope = np.log(shares) + entropy(values)
    change = {
        "random": rng.standard_normal(count),
        "gradient": slope,
        "against": -slope,
        "one": np.eye(count)[rng.integers(count)],
        "tail": np.where(values < np.median(values) + 1e-12, 1.0, 0.0),
        "scaled": values,
    }[direction]
    norm = np.linalg.norm(change)
    drift = 10**size * float(np.linalg.norm(values))
    moved = np.maximum(values + change * (drift / norm if norm > 0 else 0), 0.0)
    if moved.sum() == 0:
        return
    bound = bound_entropy_change(torch.from_numpy(values), drift)
    assert abs(entropy(moved) - entropy(values)) <= bound + 1e-12


@given(seed=st.integers(0, 2**31), size=st.floats(-6, -0.5), kind=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_a_carried_rank_is_never_further_off_than_its_error_says(
    seed: int, size: float, kind: int
) -> None:
    rng = np.random.default_rng(seed)
    rows, cols = (int(rng.integers(2, 40)) for _ in range(2))
    earlier = rng.standard_normal((rows, cols)) * np.logspace(0, -kind, cols)
    noise = rng.standard_normal((rows, cols))
    if kind % 2:  # the worst direction for the largest value
        left, _, right = np.linalg.svd(earlier)
        noise = np.outer(left[:, 0], right[0])
    later = earlier + noise * (10**size * np.linalg.norm(earlier) / np.linalg.norm(noise))
    first, last = torch.from_numpy(earlier), torch.from_numpy(later)
    drift = measure_drift(first, last)
    spectrum = measured(first)
    carried = carry_ranks(spectrum, drift, tolerance=0.9, shape=(rows, cols))
    if carried is None:
        return
    assert isinstance(carried, Spectrum)
    truth = measured(last)
    assert carried.method == "carried"
    assert carried.stable_rank == spectrum.stable_rank
    assert abs(truth.stable_rank / carried.stable_rank - 1) <= carried.stable_rank_error + 1e-12
    assert abs(carried.stable_rank / truth.stable_rank - 1) <= carried.stable_rank_error + 1e-12
    change = abs(truth.effective_rank / carried.effective_rank - 1)
    assert change <= carried.effective_rank_error + 1e-12
    assert carried.numerical_rank is None
    assert carried.singular_values is None


def test_the_bound_is_sharp_enough_to_be_of_use() -> None:
    """A thousandth of the norm, spread evenly, as late fine-tuning moves a layer."""
    spectrum = measured(gaussian(256, 256))
    assert spectrum.singular_values is not None
    values = torch.tensor(spectrum.singular_values, dtype=torch.float64)
    drift = 1e-4 * spectrum.frobenius_norm
    assert bound_entropy_change(values, drift) < 2e-4
    assert bound_stable_rank_change(spectrum, drift) < 3e-3


def test_a_larger_drift_or_a_smaller_tolerance_is_not_carried() -> None:
    spectrum = measured(gaussian(64, 64))
    drift = 1e-5 * spectrum.frobenius_norm
    shape = (64, 64)
    assert carry_ranks(spectrum, drift, tolerance=1e-2, shape=shape) is not None
    assert carry_ranks(spectrum, drift, tolerance=1e-5, shape=shape) is None
    assert carry_ranks(spectrum, 1e3 * drift, tolerance=1e-2, shape=shape) is None
    for broken in (math.inf, math.nan):
        assert carry_ranks(spectrum, broken, tolerance=0.9, shape=shape) is None
    without = replace(spectrum, singular_values=None)
    assert carry_ranks(without, drift, tolerance=0.5, shape=shape) is None


def test_the_effective_rank_alone_can_forbid_it() -> None:
    """One direction and nothing else: the stable rank hardly moves, the entropy does at once."""
    spectrum = measured(torch.outer(torch.ones(60), torch.ones(60)).double())
    drift = 1e-3 * spectrum.frobenius_norm
    assert bound_stable_rank_change(spectrum, drift) < 1e-2
    assert carry_ranks(spectrum, drift, tolerance=1e-2, shape=(60, 60)) is None
    stable = carry_ranks(keep_stable_rank(spectrum), drift, tolerance=1e-2, shape=(60, 60))
    assert isinstance(stable, StableRank)
    assert stable.method == "carried"
    assert 4e-3 < stable.stable_rank_error < 1e-2


def test_one_value_has_no_entropy_to_lose() -> None:
    assert bound_entropy_change(torch.ones(1, dtype=torch.float64), 0.1) == 0
    assert bound_entropy_change(torch.ones(5, dtype=torch.float64), 9.0) == math.log(5)


def test_the_largest_value_moves_the_stable_rank_more_than_the_norm_does() -> None:
    spectrum = measured(torch.eye(100).double())
    change = abs((99 + 1.1**2) / 1.1**2 / 100 - 1)
    assert change > 0.17
    assert change <= bound_stable_rank_change(spectrum, 0.1)


def test_one_weight_that_lost_its_last_bit_between_those_looked_at_is_enough() -> None:
    earlier = torch.ones(20, 20)
    earlier[3, 3] = 3 * 2.0**-149
    assert find_power_of_two(earlier, earlier / 2) is None
    assert find_power_of_two(earlier / 2, earlier) is None
