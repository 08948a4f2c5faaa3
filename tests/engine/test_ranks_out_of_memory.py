"""Ranks that a GPU has no room for come from the CPU, and the row says so."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import altgrad_inspect as ai
from altgrad_inspect.engine.steady_meter import ON_CPU
from altgrad_inspect.metrics.spectrum import measure_spectrum


@pytest.mark.parametrize(("failures", "status"), [((1,), "ok"), ((1, 2), "failed")])
def test_the_matrix_is_measured_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failures: tuple[int, ...], status: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    for step in range(3):
        weight = torch.randn(20, 30, generator=generator)
        save_file({"layer.weight": weight}, tmp_path / f"step_{step}.safetensors")
    expected = ai.rank(tmp_path, jobs=1).to_pandas("ranks")
    seen = iter(range(100))

    def sometimes(*args: Any, **options: Any) -> Any:
        if next(seen) in failures:
            msg = "CUDA out of memory. Tried to allocate 2.00 GiB"
            raise torch.OutOfMemoryError(msg)
        return measure_spectrum(*args, **options)

    monkeypatch.setattr("altgrad_inspect.engine.matrix_ranks.measure_spectrum", sometimes)
    found = ai.rank(tmp_path, jobs=1).to_pandas("ranks")
    assert list(found["status"]) == ["ok", status, "ok"]
    if status == "ok":
        assert list(found["reason"].fillna("")) == ["", ON_CPU, ""]
        assert list(found["effective_rank"]) == list(expected["effective_rank"])
    else:
        assert found["reason"][1].startswith("out of memory: CUDA out of memory")
