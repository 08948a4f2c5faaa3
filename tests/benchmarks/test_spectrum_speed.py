"""Ranks of one matrix, against the singular values that torch would give and against the floor.

The floor is the arithmetic: rows * n^2 for the Gram matrix at the peak of dgemm measured
beside it, 4/3 n^3 for tridiagonalization at 16 GFLOP/s. The largest shapes take minutes:
BENCH_LARGE=1 asks for them.
"""

import os
from collections.abc import Callable

import pytest
import torch

from altgrad_inspect.metrics.spectrum import measure_spectrum
from tests.benchmarks.timing import dgemm_flops_per_second, interleave, show, spectrum_floor

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
LARGE_SHAPES = ((4096, 4096), (4096, 11008), (32000, 4096))
TIMED = (*SHAPES, *(LARGE_SHAPES if os.environ.get("BENCH_LARGE") else ()))


@pytest.mark.parametrize("shape", TIMED, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_ranks_against_svdvals(shape: tuple[int, int]) -> None:
    torch.set_num_threads(1)
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: measure_spectrum(matrix, compiled=True),
        "uncompiled": lambda: measure_spectrum(matrix),
        "svdvals32": lambda: torch.linalg.svdvals(matrix),
        "svdvals64": lambda: torch.linalg.svdvals(matrix.double()),
    }
    seconds = interleave(ways)
    ours = seconds.pop("ours")
    dgemm = dgemm_flops_per_second()
    show(
        "spectrum",
        f"{shape[0]} x {shape[1]}",
        seconds=ours,
        floor=spectrum_floor(shape, dgemm=dgemm),
        times_peak=ours / spectrum_floor(shape, dgemm=dgemm, reduction=dgemm),
        **{f"times_slower_{name}": value / ours for name, value in seconds.items()},
    )
