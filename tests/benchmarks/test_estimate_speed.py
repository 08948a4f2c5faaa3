"""How fast the stable rank alone and estimates are, against exact ranks.

Run with ``make bench``. The ways are timed one after the other in each round, in CPU seconds
of one thread, so that whatever else the machine does falls on all of them; a ratio above 1
means faster than exact.
"""

import time
from collections.abc import Callable
from statistics import median

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from altgrad_inspect.metrics.spectrum import measure_spectrum
from altgrad_inspect.metrics.spectrum_estimate import estimate_spectrum, measure_stable_rank

SHAPES = ((1024, 1024), (2048, 2048), (4096, 1024), (4096, 4096))


def gaussian(shape: tuple[int, int]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def spiked(shape: tuple[int, int]) -> torch.Tensor:
    """A few strong directions over noise, as trained layers have them."""
    matrix = gaussian(shape)
    generator = torch.Generator().manual_seed(1)
    left = torch.randn(shape[0], 8, generator=generator)
    return matrix + left @ torch.randn(8, shape[1], generator=generator) / 4


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.mark.parametrize("build", [gaussian, spiked])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_estimates_against_exact_ranks(
    benchmark: BenchmarkFixture,
    shape: tuple[int, int],
    build: Callable[[tuple[int, int]], torch.Tensor],
) -> None:
    torch.set_num_threads(1)
    matrix = build(shape)
    ways: dict[str, Callable[[], object]] = {
        "exact": lambda: measure_spectrum(matrix),
        "stable rank alone": lambda: measure_stable_rank(matrix),
        "estimate": lambda: estimate_spectrum(matrix),
    }
    rounds = 3 if min(shape) > 1024 else 5
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            seconds[name].append(cpu_seconds(work))
    exact = median(seconds["exact"])
    ratios = {name: exact / median(times) for name, times in seconds.items() if name != "exact"}
    print(  # noqa: T201  # the point of a benchmark
        f"\n{build.__name__} {shape[0]:>6} x {shape[1]:<5} exact {exact * 1e3:8.1f} ms",
        *(f"{name} {ratio:5.2f}x" for name, ratio in ratios.items()),
        sep="   ",
    )
    benchmark.extra_info.update(ratios)
    benchmark(ways["stable rank alone"])
