"""Which runs use the compiled loops of spectra, and that their tables are the same."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import altgrad_inspect as ai
from altgrad_inspect.engine.plan import rank_seconds
from altgrad_inspect.metrics import spectrum_kernel

pytest.importorskip("numba", reason="the kernels need numba: pip install altgrad-inspect[fast]")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    weights = {
        "square": torch.randn(96, 96, generator=generator),
        "wide": torch.randn(40, 300, generator=generator).bfloat16(),
        "stack": torch.randn(3, 70, 50, generator=generator),
        "bias": torch.randn(7, generator=generator),
    }
    for step in range(3):
        save_file(weights, tmp_path / f"step_{step}.safetensors")
        for name, weight in weights.items():
            moved = weight.float() + 0.1 * torch.randn(weight.shape, generator=generator)
            weights[name] = moved.to(weight.dtype)
    return tmp_path


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes that the compiled eigenvalues were asked for."""
    sizes: list[int] = []
    sound = spectrum_kernel.find_eigenvalues_compiled

    def record(matrix: torch.Tensor) -> torch.Tensor | None:
        sizes.append(len(matrix))
        return sound(matrix)

    monkeypatch.setattr("altgrad_inspect.metrics.eigenvalues.find_eigenvalues_compiled", record)
    return sizes


def measure(run: Path) -> pd.DataFrame:
    ranks = ai.rank(run, updates=True, spectra=True).ranks
    assert ranks is not None
    return ranks.to_pandas()


def test_a_short_run_does_not_pay_for_compiling(run: Path, used: list[int]) -> None:
    measure(run)
    assert used == []


def test_updates_count_as_work(run: Path, used: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    once = 3 * sum(map(rank_seconds, [(96, 96), (40, 300), (3, 70, 50)]))
    monkeypatch.setattr(spectrum_kernel, "MIN_SECONDS", 2 * once)
    ai.rank(run, jobs=1)
    assert used == []
    ai.rank(run, updates=True, jobs=1)
    assert used


def test_a_long_run_has_the_same_tables_from_the_compiled_loops(
    run: Path, used: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = measure(run)
    monkeypatch.setattr(spectrum_kernel, "MIN_SECONDS", 0.0)
    compiled = measure(run)
    per_checkpoint = [96, 40, 50, 50, 50]
    assert sorted(used) == sorted(per_checkpoint * (3 + 2 + 2))
    assert list(compiled.columns) == list(plain.columns)
    for name in plain.columns:
        if name == "singular_values":
            for one, other in zip(compiled[name], plain[name], strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-9)
        elif name.endswith("_error"):
            assert (compiled[name].fillna(0) <= 1e-8).all()
        elif plain[name].dtype == np.float64:
            np.testing.assert_allclose(compiled[name], plain[name], rtol=1e-11, err_msg=name)
        else:
            pd.testing.assert_series_equal(compiled[name], plain[name])
