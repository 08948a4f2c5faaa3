"""``rank(updates=True)``: three subjects from one pass over the weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import altgrad_inspect as ai
from altgrad_inspect.checkpoints.layer_reader import LayerReader
from altgrad_inspect.refs import LayerRef


def write_run(directory: Path, *checkpoints: dict[str, torch.Tensor]) -> Path:
    for index, weights in enumerate(checkpoints, start=1):
        held = {name: weight.clone().contiguous() for name, weight in weights.items()}
        save_file(held, directory / f"step_{index * 10:06d}.safetensors")
    return directory


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rank_rows(run: Path, subject: str, **options: Any) -> list[dict[str, Any]]:
    rows = ai.rank(run, updates=True, **options).to_arrow().to_pylist()
    return [row for row in rows if row["subject"] == subject]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_updates_are_of_the_checkpoint_before_and_of_the_first(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    saved = [draw(seed, 12, 8).to(dtype) for seed in range(4)]
    run = write_run(tmp_path, *({"w": weight} for weight in saved))
    for subject, earlier in (("update", saved[:-1]), ("update_total", saved[:1] * 3)):
        rows = rank_rows(run, subject, spectra=True)
        assert [row["step"] for row in rows] == [20, 30, 40]
        starts = [10, 20, 30] if subject == "update" else [10, 10, 10]
        assert [row["step_from"] for row in rows] == starts
        for row, before, after in zip(rows, earlier, saved[1:], strict=True):
            values = np.linalg.svd((after.double() - before.double()).numpy(), compute_uv=False)
            assert row["stable_rank"] == pytest.approx((values**2).sum() / values[0] ** 2)
            assert row["singular_values"] == pytest.approx(values, rel=1e-6)
            assert row["status"] == "ok"
            assert (row["rounding_floor"] is None) is (dtype.itemsize > 2)


def test_the_weight_rows_are_those_of_a_run_without_updates(tmp_path: Path) -> None:
    run = write_run(tmp_path, *({"w": draw(seed, 6, 5), "v": draw(seed, 4)} for seed in range(3)))
    plain = ai.rank(run).to_arrow().to_pylist()
    assert rank_rows(run, "weight") == plain
    assert {row["subject"] for row in plain} == {"weight"}
    assert ai.rank(run, updates=True).to_arrow("skipped").num_rows == 1


def test_every_layer_is_read_once_per_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path, *({"w": draw(seed, 6, 5)} for seed in range(4)))
    reads: list[str] = []
    read = LayerReader.read

    def count(self: LayerReader, layer: LayerRef, slot: int = 0) -> torch.Tensor:
        reads.append(layer.file.path.name)
        return read(self, layer, slot)

    monkeypatch.setattr(LayerReader, "read", count)
    ai.rank(run, updates=True)
    assert reads == [path.name for path in sorted(run.iterdir())]


def test_a_frozen_step_is_no_update_and_keeps_the_total(tmp_path: Path) -> None:
    first, second = draw(0, 6, 5), draw(1, 6, 5)
    run = write_run(tmp_path, {"w": first}, {"w": second}, {"w": second}, {"w": first})
    update, total = rank_rows(run, "update"), rank_rows(run, "update_total")
    assert [row["reason"] for row in update] == [None, "no update", None]
    assert [row["reason"] for row in total] == [None, None, "no update"]
    assert total[0]["stable_rank"] == total[1]["stable_rank"] == update[0]["stable_rank"]
    assert update[1]["status"] == "undefined"
    assert update[1]["stable_rank"] is None


def test_each_matrix_of_a_stack_has_its_updates(tmp_path: Path) -> None:
    before, after = draw(0, 3, 6, 20), draw(1, 3, 6, 20)
    rows = rank_rows(write_run(tmp_path, {"w": before}, {"w": after}), "update")
    assert [row["matrix"] for row in rows] == [0, 1, 2]
    norms = [float((after[i] - before[i]).double().norm()) for i in range(3)]
    assert [row["frobenius_norm"] for row in rows] == pytest.approx(norms, rel=1e-6)


def test_layers_that_cannot_be_subtracted_say_why(tmp_path: Path) -> None:
    run = write_run(
        tmp_path,
        {"w": draw(0, 6, 5), "gone": draw(1, 4, 4)},
        {"w": draw(0, 5, 6), "new": draw(2, 4, 4)},
        {"w": draw(3, 5, 6), "new": draw(3, 4, 4), "gone": draw(4, 4, 4)},
    )
    update = {(row["layer"], row["step"]): row for row in rank_rows(run, "update")}
    total = {(row["layer"], row["step"]): row for row in rank_rows(run, "update_total")}
    assert "from [6, 5] to [5, 6]" in update["w", 20]["reason"]
    assert update["w", 30]["status"] == "ok"
    assert "from [6, 5] to [5, 6]" in total["w", 30]["reason"]
    assert update["new", 20]["reason"] == "layer added: not in step 10"
    assert ("new", 20) not in total
    assert total["new", 30]["step_from"] == 20
    assert update["gone", 30]["reason"] == "layer added: not in step 20"
    assert total["gone", 30]["step_from"] == 10
    assert total["gone", 30]["status"] == "ok"


def test_another_dtype_is_subtracted_in_values_and_codes_are_not(tmp_path: Path) -> None:
    weight = draw(0, 16, 16)
    moved = (weight + draw(1, 16, 16)).bfloat16()
    run = write_run(tmp_path, {"w": weight.to(torch.float8_e4m3fn)}, {"w": weight}, {"w": moved})
    update = rank_rows(run, "update")
    assert [row["status"] for row in update] == ["undefined", "ok"]
    assert update[0]["reason"] == "F8_E4M3 at step 10: codes, not weights"
    assert update[1]["frobenius_norm"] == pytest.approx(
        float((moved.double() - weight.double()).norm())
    )


def test_an_unreadable_first_checkpoint_fails_what_is_subtracted_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path, *({"w": draw(seed, 6, 5)} for seed in range(3)))
    read = LayerReader.read

    def refuse_first(self: LayerReader, layer: LayerRef, slot: int = 0) -> torch.Tensor:
        if "000010" in layer.file.path.name:
            msg = "cannot allocate memory"
            raise RuntimeError(msg)
        return read(self, layer, slot)

    monkeypatch.setattr(LayerReader, "read", refuse_first)
    update, total = rank_rows(run, "update"), rank_rows(run, "update_total")
    assert [row["status"] for row in update] == ["failed", "ok"]
    assert [row["status"] for row in total] == ["failed", "failed"]
    assert "out of memory" in total[1]["reason"]
