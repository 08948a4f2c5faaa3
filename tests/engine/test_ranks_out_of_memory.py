"""Ranks that a GPU has no room for come from the CPU, and the row says so."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import altgrad_inspect as ai
from altgrad_inspect.engine.placement import ON_CPU
from altgrad_inspect.metrics.flips import FlipMeter
from altgrad_inspect.records import FlipCounts

ENGINE = "altgrad_inspect.engine"


def write_run(directory: Path, *, size: float = 1) -> None:
    """Three checkpoints, each ``size`` times a random matrix away from the one before."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(20, 30, generator=generator)
    for step in range(3):
        save_file({"layer.weight": weight}, directory / f"step_{step}.safetensors")
        weight = weight + size * torch.randn(20, 30, generator=generator)


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
    found = ai.diff(a, b, jobs=1).to_arrow("diff").to_pylist()
    assert found == [row | {"reason": ON_CPU} for row in expected]


def test_quantizers_that_had_room_have_no_note(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_run(tmp_path)
    a, b = tmp_path / "step_0.safetensors", tmp_path / "step_1.safetensors"
    advance, seen = FlipMeter.advance, iter(range(10))

    def fail_first(*args: Any) -> FlipCounts:
        if next(seen) == 0:
            raise torch.OutOfMemoryError
        return advance(*args)

    monkeypatch.setattr(FlipMeter, "advance", fail_first)
    rows = ai.diff(a, b, quant=["e4m3", "int8"], jobs=1).to_arrow("diff").to_pylist()
    assert {row["quantizer"]: row["reason"] for row in rows} == {
        "e4m3:tensor:amax": ON_CPU,
        "int8:tensor:amax": None,
    }


@pytest.mark.parametrize("name", ["find_power_of_two", "measure_drift"])
def test_what_is_carried_is_compared_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    write_run(tmp_path, size=1e-4)
    expected = ai.rank(tmp_path, tolerance=0.1, jobs=1).to_arrow().to_pylist()
    assert [row["method"] for row in expected] == ["exact", "carried", "carried"]
    run_out_of_memory(monkeypatch, f"{ENGINE}.matrix_ranks.{name}", (0,))
    assert ai.rank(tmp_path, tolerance=0.1, jobs=1).to_arrow().to_pylist() == expected


def test_bits_are_compared_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_run(tmp_path, size=0)
    a, b = tmp_path / "step_0.safetensors", tmp_path / "step_1.safetensors"
    run_out_of_memory(monkeypatch, f"{ENGINE}.sighting._as_bits", (0, 2))
    (row,) = ai.diff(a, b, jobs=1).to_arrow("diff").to_pylist()
    assert (row["change"], row["status"]) == ("identical", "ok")


def test_what_has_no_value_says_why_and_not_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One checkpoint is measured on the CPU, and the other cannot be measured at all."""
    write_run(tmp_path)
    a, b = tmp_path / "step_0.safetensors", tmp_path / "step_1.safetensors"
    save_file({"layer.weight": torch.full((20, 30), torch.nan)}, b)
    expected = ai.diff(a, b, jobs=1).to_arrow("diff").to_pylist()
    assert [row["status"] for row in expected] == ["undefined"]
    run_out_of_memory(monkeypatch, f"{ENGINE}.matrix_ranks.measure_spectrum", (0,))
    assert ai.diff(a, b, jobs=1).to_arrow("diff").to_pylist() == expected
