"""How fast the stable rank alone and estimates are, against exact ranks and against svdvals."""

from collections.abc import Callable

import pytest
import torch

from altgrad_inspect.metrics.spectrum import measure_spectrum
from altgrad_inspect.metrics.spectrum_estimate import estimate_spectrum, measure_stable_rank
from tests.benchmarks.timing import interleave, show

SHAPES = ((1024, 1024), (2048, 2048), (4096, 1024), (4096, 4096))


def gaussian(shape: tuple[int, int]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def spiked(shape: tuple[int, int]) -> torch.Tensor:
    """A few strong directions over noise, as trained layers have them."""
    matrix = gaussian(shape)
    generator = torch.Generator().manual_seed(1)
    left = torch.randn(shape[0], 8, generator=generator)
    return matrix + left @ torch.randn(8, shape[1], generator=generator) / 4


@pytest.mark.parametrize("build", [gaussian, spiked])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_estimates_against_exact_ranks(
    shape: tuple[int, int], build: Callable[[tuple[int, int]], torch.Tensor]
) -> None:
    torch.set_num_threads(1)
    matrix = build(shape)
    ways: dict[str, Callable[[], object]] = {
        "stable rank alone": lambda: measure_stable_rank(matrix, compiled=True),
        "estimate": lambda: estimate_spectrum(matrix, compiled=True),
        "exact": lambda: measure_spectrum(matrix, compiled=True),
        "svdvals32": lambda: torch.linalg.svdvals(matrix),
    }
    seconds = interleave(ways, budget=6.0)
    for name in ("stable rank alone", "estimate"):
        show(
            "estimates",
            f"{build.__name__} {shape[0]} x {shape[1]} {name}",
            seconds=seconds[name],
            floor=None,
            times_slower_exact=seconds["exact"] / seconds[name],
            times_slower_svdvals32=seconds["svdvals32"] / seconds[name],
        )
