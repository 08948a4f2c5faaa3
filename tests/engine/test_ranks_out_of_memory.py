"""Ranks that a GPU has no room for come from the CPU, and the row says so."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import altgrad_inspect as ai
from altgrad_inspect.engine.steady_meter import ON_CPU

ENGINE = "altgrad_inspect.engine"


def write_run(directory: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    for step in range(3):
        weight = torch.randn(20, 30, generator=generator)
        save_file({"layer.weight": weight}, directory / f"step_{step}.safetensors")


def run_out_of_memory(
    monkeypatch: pytest.MonkeyPatch, target: str, failures: tuple[int, ...]
) -> None:
    """Make those calls of a function run out of a GPU's memory, and the others go through."""
    module, _, name = target.rpartition(".")
    real = getattr(import_module(module), name)
    seen = iter(range(100))

    def sometimes(*args: Any, **options: Any) -> Any:
        if next(seen) in failures:
            msg = "CUDA out of memory. Tried to allocate 2.00 GiB"
            raise torch.OutOfMemoryError(msg)
        return real(*args, **options)

    monkeypatch.setattr(target, sometimes)


@pytest.mark.parametrize(("failures", "status"), [((1,), "ok"), ((1, 2), "failed")])
def test_the_matrix_is_measured_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failures: tuple[int, ...], status: str
) -> None:
    write_run(tmp_path)
    expected = ai.rank(tmp_path, jobs=1).to_pandas("ranks")
    run_out_of_memory(monkeypatch, f"{ENGINE}.matrix_ranks.measure_spectrum", failures)
    found = ai.rank(tmp_path, jobs=1).to_pandas("ranks")
    assert list(found["status"]) == ["ok", status, "ok"]
    if status == "ok":
        assert list(found["reason"].fillna("")) == ["", ON_CPU, ""]
        assert list(found["effective_rank"]) == list(expected["effective_rank"])
    else:
        assert found["reason"][1].startswith("out of memory: CUDA out of memory")


@pytest.mark.parametrize(("failures", "status"), [((2,), "ok"), ((2, 3), "failed")])
def test_updates_are_measured_again_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failures: tuple[int, ...], status: str
) -> None:
    write_run(tmp_path)
    expected = ai.rank(tmp_path, updates=True, jobs=1).to_arrow().to_pylist()
    run_out_of_memory(monkeypatch, f"{ENGINE}.update_rows.measure_update", failures)
    found = ai.rank(tmp_path, updates=True, jobs=1).to_arrow().to_pylist()
    changed = [row for row, before in zip(found, expected, strict=True) if row != before]
    (row,) = changed
    assert (row["subject"], row["step"], row["status"]) == ("update", 2, status)
    if status == "ok":
        (before,) = (one for one in expected if (one["subject"], one["step"]) == ("update", 2))
        assert row == before | {"reason": ON_CPU}
    else:
        assert row["reason"].startswith("out of memory: CUDA out of memory")


@pytest.mark.parametrize("place", ["update_rows.measure_update", "matrix_ranks.measure_spectrum"])
def test_a_comparison_of_two_checkpoints_is_whole_wherever_it_was_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    write_run(tmp_path)
    a, b = tmp_path / "step_0.safetensors", tmp_path / "step_1.safetensors"
    expected = ai.diff(a, b, jobs=1).to_arrow("diff").to_pylist()
    run_out_of_memory(monkeypatch, f"{ENGINE}.{place}", (0,))
    assert ai.diff(a, b, jobs=1).to_arrow("diff").to_pylist() == expected
