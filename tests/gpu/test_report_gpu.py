"""`report` on a CUDA device gives the tables of the CPU, and survives a full GPU."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import altgrad_inspect as ai
from altgrad_inspect.engine.placement import ON_CPU

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

COUNTS = ("num_weights", "num_updated", "num_flipped", "num_recoded", "num_reverted")
RANKS = ("stable_rank", "effective_rank", "spectral_norm", "frobenius_norm")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    weights = {
        "square.weight": torch.randn(256, 256, generator=generator),
        "wide.weight": torch.randn(96, 700, generator=generator),
        "experts.weight": torch.randn(4, 64, 80, generator=generator),
        "half.weight": torch.randn(300, 40, generator=generator).bfloat16(),
        "low_rank.weight": torch.ones(50, 60),
        "norm.bias": torch.zeros(64),
    }
    for step in range(4):
        save_file(weights, tmp_path / f"step_{step}.safetensors")
        for name, weight in weights.items():
            noise = torch.randn(weight.shape, generator=generator).to(weight.dtype)
            weights[name] = weight + 1e-2 * noise
    return tmp_path


def both(run: Path, table: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    on_cpu = ai.report(run, device="cpu", jobs=2).to_pandas(table)
    on_gpu = ai.report(run, device="cuda", jobs=2).to_pandas(table)
    return on_cpu, on_gpu


def test_flips_are_identical(run: Path) -> None:
    on_cpu, on_gpu = both(run, "flips")
    pd.testing.assert_frame_equal(on_cpu[list(COUNTS)], on_gpu[list(COUNTS)])
    assert list(on_cpu["status"]) == list(on_gpu["status"])


def test_ranks_agree_within_their_bounds(run: Path) -> None:
    on_cpu, on_gpu = both(run, "ranks")
    assert list(on_cpu["status"]) == list(on_gpu["status"])
    bounds = on_cpu["effective_rank_error"] + on_gpu["effective_rank_error"] + 1e-12
    for name in RANKS:
        away = (on_cpu[name] / on_gpu[name] - 1).abs()
        assert bool((away <= bounds).fillna(value=True).all()), name


def test_verdicts_are_the_same(run: Path) -> None:
    on_cpu, on_gpu = both(run, "verdicts")
    assert list(on_cpu["layer"]) == list(on_gpu["layer"])
    assert list(on_cpu["verdict"]) == list(on_gpu["verdict"])


def test_a_full_gpu_gives_the_same_flips(tmp_path: Path) -> None:
    """Room for the weights, but not for the codes and tiles of a layer."""
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(8192, 8192, generator=generator)
    for step in range(2):
        weight = base + 1e-3 * step * torch.randn(8192, 8192, generator=generator)
        save_file({"layer.weight": weight}, tmp_path / f"step_{step}.safetensors")
    expected = ai.flips(tmp_path, device="cpu", jobs=1).to_pandas("flips")
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(0.6e9 / total)
    try:
        found = ai.flips(tmp_path, device="cuda", jobs=1).to_pandas("flips")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    pd.testing.assert_frame_equal(expected[list(COUNTS)], found[list(COUNTS)])
    assert list(found["reason"]) == [ON_CPU]
