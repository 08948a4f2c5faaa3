"""How fast ranks are, against the singular values that torch would give.

Run with ``pytest tests/benchmarks/test_spectrum_speed.py --benchmark-only -s``. The three ways are
timed one after the other in each round, in CPU seconds of one thread, so that whatever
else the machine does falls on all of them; a ratio above 1 means that we are faster.
"""

import time
from collections.abc import Callable
from statistics import median

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from altgrad_inspect.metrics.spectrum import measure_spectrum

SHAPES = (
    (384, 384),
    (384, 1536),
    (1536, 384),
    (768, 768),
    (768, 3072),
    (1024, 1024),
    (1024, 4096),
    (2048, 2048),
    (30522, 384),
)


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_ranks_against_svdvals(benchmark: BenchmarkFixture, shape: tuple[int, int]) -> None:
    torch.set_num_threads(1)
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: measure_spectrum(matrix),
        "svdvals float32": lambda: torch.linalg.svdvals(matrix),
        "svdvals float64": lambda: torch.linalg.svdvals(matrix.double()),
    }
    rounds = max(3, min(15, round(5e9 / (max(shape) * min(shape) ** 2))))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for work in ways.values():
        work()
    for _ in range(rounds):
        for name, work in ways.items():
            seconds[name].append(cpu_seconds(work))
    ours = median(seconds["ours"])
    ratios = {name: median(times) / ours for name, times in seconds.items() if name != "ours"}
    print(  # noqa: T201  # the point of a benchmark
        f"\n{shape[0]:>6} x {shape[1]:<5} ours {ours * 1e3:8.1f} ms",
        *(f"{name} {ratio:5.2f}x" for name, ratio in ratios.items()),
        sep="   ",
    )
    benchmark.extra_info.update(ratios)
    benchmark(ways["ours"])
