"""How time grows with layers, checkpoints and width; the exponents are fitted.

Small layers are those that cost more to hand over than to compute on.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import altgrad_inspect
from tests.benchmarks.timing import fit_exponent, interleave, show

SIZES = {
    "layers": (16, 32, 64, 128),
    "small layers": (500, 1000, 2000, 4000),
    "checkpoints": (4, 8, 16, 32),
    "width": (128, 256, 512, 1024),
}
FIXED = {"layers": 8, "checkpoints": 4, "width": 192}
MOST = {"layers": 1.05, "small layers": 1.05, "checkpoints": 1.05, "width": 3.0}


def write_run(directory: Path, *, layers: int, checkpoints: int, width: int) -> Path:
    directory.mkdir()
    generator = torch.Generator().manual_seed(0)
    weights = {
        f"blocks.{index}.weight": torch.randn(width, width, generator=generator)
        for index in range(layers)
    }
    for step in range(checkpoints):
        save_file(weights, directory / f"step_{step:03d}.safetensors")
        for name, weight in weights.items():
            weights[name] = weight + 1e-3 * torch.randn(weight.shape, generator=generator)
    return directory


@pytest.mark.parametrize("quantity", SIZES)
def test_time_grows_as_it_must(tmp_path: Path, quantity: str) -> None:
    torch.set_num_threads(1)
    ways: dict[str, Callable[[], object]] = {}
    for size in SIZES[quantity]:
        changed = {"layers": size, "width": 16} if quantity == "small layers" else {quantity: size}
        run = write_run(tmp_path / str(size), **(FIXED | changed))
        ways[str(size)] = partial(altgrad_inspect.report, run, jobs=1)
    seconds = list(interleave(ways, budget=8.0, most=5).values())
    for size, taken in zip(SIZES[quantity], seconds, strict=True):
        show("growth", f"{size} {quantity}", seconds=taken, floor=None)
    exponent = fit_exponent(SIZES[quantity], seconds)
    show("growth", f"{quantity}: exponent", seconds=0, floor=None, exponent=exponent)
    assert exponent < MOST[quantity] + 0.1  # the target, and some noise
