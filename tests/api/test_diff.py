"""Two checkpoints, any two: what changed, in the words of flips and ranks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import altgrad_inspect as ai

Weights = dict[str, torch.Tensor]


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def save(path: Path, weights: Weights) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.clone().contiguous() for name, weight in weights.items()}, path)
    return path


def diff_rows(a: Path, b: Path, **options: Any) -> dict[str, dict[str, Any]]:
    return {row["layer"]: row for row in ai.diff(a, b, **options).to_arrow().to_pylist()}


def test_a_changed_layer_has_the_numbers_of_flips_and_ranks(tmp_path: Path) -> None:
    before, after = draw(0, 24, 16), draw(0, 24, 16) + 0.05 * draw(1, 24, 16)
    a = save(tmp_path / "run/step_000010.safetensors", {"w": before, "b": before[0]})
    b = save(tmp_path / "run/step_000020.safetensors", {"w": after, "b": after[0]})
    found = diff_rows(a, b)
    report = ai.report(tmp_path / "run")
    for flips in report.to_arrow("flips").to_pylist():
        row = found[flips["layer"]]
        names = ("num_flipped", "flip_fraction", "stall_fraction", "recode_fraction")
        for name in ("quantizer", "num_weights", "num_updated", "update_norm", *names):
            assert row[name] == flips[name], name
        assert row["relative_update"] == flips["relative_update"]
        assert (row["change"], row["status"]) == ("changed", "ok")
    ranks = report.to_arrow("ranks").to_pylist()
    for side, rank in zip("ab", ranks, strict=True):
        assert found["w"][f"stable_rank_{side}"] == rank["stable_rank"]
        assert found["w"][f"effective_rank_{side}"] == rank["effective_rank"]
    values = np.linalg.svd((after.double() - before.double()).numpy(), compute_uv=False)
    expected = (values**2).sum() / values[0] ** 2
    assert found["w"]["update_stable_rank"] == pytest.approx(expected, rel=1e-12)
    assert found["b"]["stable_rank_a"] is None


def test_the_tables_are_those_of_a_run_of_the_two(tmp_path: Path) -> None:
    a = save(tmp_path / "run/step_000010.safetensors", {"w": draw(0, 8, 6)})
    b = save(tmp_path / "run/step_000020.safetensors", {"w": draw(1, 8, 6)})
    results = ai.diff(a, b, quant=["e4m3", "e2m1"])
    run = ai.flips(tmp_path / "run", quant=["e4m3", "e2m1"])
    assert results.to_arrow("flips").to_pylist() == run.to_arrow().to_pylist()
    ranks = ai.rank(tmp_path / "run", updates=True).to_arrow().to_pylist()
    expected = [row for row in ranks if row["subject"] != "update_total"]
    assert results.to_arrow("ranks").to_pylist() == expected
    assert [row["quantizer"] for row in results.to_arrow().to_pylist()] == [
        "e2m1:tensor:amax",
        "e4m3:tensor:amax",
    ]


def test_structure_comes_first_and_then_the_largest_relative_update(tmp_path: Path) -> None:
    w, stack = draw(0, 20, 18), draw(1, 2, 6, 20)
    names = ("small", "large", "same", "gone", "turned", "half", "dead")
    a: Weights = dict.fromkeys(names, w) | {"nan": w / 0, "stack": stack, "zero": w * 0}
    b: Weights = {"same": w, "new": w, "nan": w, "zero": w, "small": w * 1.01, "large": w * 1.5}
    b |= {"turned": w.mT, "half": (w * 2).half(), "stack": stack * 1.1, "dead": w * 0}
    b |= {"ids": torch.arange(3), "ids_changed": torch.arange(4)}
    a["ids"], a["ids_changed"] = torch.arange(3), torch.arange(1, 5)
    results = ai.diff(
        save(tmp_path / "one/checkpoint-5/model.safetensors", a).parent,
        save(tmp_path / "b.safetensors", b),
    )
    rows = results.to_arrow().to_pylist()
    found = {row["layer"]: row for row in rows}
    order = [row["layer"] for row in rows]
    assert order[:4] == ["new", "gone", "turned", "half"]
    assert order[4:7] == ["ids_changed", "nan", "zero"]
    assert order[7:] == ["dead", "large", "stack", "small", "ids", "same"]
    assert [found[name]["change"] for name in order[:4]] == [
        *("added", "removed", "reshaped", "retyped")
    ]
    assert (found["turned"]["shape_a"], found["turned"]["shape_b"]) == ([20, 18], [18, 20])
    assert found["turned"]["stable_rank_a"] == pytest.approx(found["turned"]["stable_rank_b"])
    assert (found["half"]["dtype_a"], found["half"]["dtype_b"]) == ("F32", "F16")
    assert found["half"]["relative_update"] == pytest.approx(1, rel=1e-3)
    assert found["gone"]["dtype_b"] is found["gone"]["shape_b"] is None
    assert found["stack"]["relative_update"] == pytest.approx(0.1, rel=1e-5)
    assert found["stack"]["stable_rank_a"] is None
    assert found["dead"]["relative_update"] == pytest.approx(1)
    assert found["dead"]["reason"] == "no rank of B: zero matrix"
    assert "non-finite" in found["nan"]["reason"]
    assert found["same"]["change"] == found["ids"]["change"] == "identical"
    assert found["same"]["relative_update"] == found["same"]["num_updated"] == 0
    assert found["ids_changed"]["change"] == "changed"
    assert found["ids_changed"]["reason"] == "not weights: only its bits were compared"


def test_weights_saved_in_fewer_bits_are_said_to_be_no_more_than_rounding(tmp_path: Path) -> None:
    w = draw(0, 16, 12)
    a = save(tmp_path / "a.safetensors", {"w": w, "b": w[0]})
    b = save(tmp_path / "b.safetensors", {"w": w.bfloat16(), "b": w[0].bfloat16()})
    rows = diff_rows(a, b)
    assert rows["w"]["change"] == rows["b"]["change"] == "retyped"
    assert "below 2 rounding floors of bfloat16" in rows["w"]["reason"]
    assert rows["w"]["relative_update"] is None
    assert "flips are not comparable" in rows["b"]["reason"]


@pytest.mark.parametrize(
    ("name_a", "name_b", "steps"),
    [
        ("step_000010", "step_000030", (10, 30)),
        ("step_000030", "step_000010", (0, 1)),
        ("step_000010", "x/step_000010", (0, 1)),
        ("weights", "step_000010", (0, 1)),
        ("weights", "others", (0, 1)),
    ],
)
def test_the_order_is_kept_whatever_the_steps(
    tmp_path: Path, name_a: str, name_b: str, steps: tuple[int, int]
) -> None:
    w = draw(0, 6, 5)
    a = save(tmp_path / f"{name_a}.safetensors", {"w": w})
    b = save(tmp_path / f"{name_b}.safetensors", {"w": 3 * w})
    results = ai.diff(a, b)
    (row,) = results.to_arrow("flips").to_pylist()
    assert (row["step_from"], row["step_to"]) == steps
    assert row["relative_update"] == pytest.approx(2)
    assert bool(results.notes) is (steps == (0, 1))
    assert results.settings["a"] == {"path": str(a), "step": steps[0]}
    paths = results.to_arrow("checkpoints").column("path").to_pylist()
    assert paths == [str(a), str(b)]


def test_a_checkpoint_against_itself_is_identical(tmp_path: Path) -> None:
    weights = {"w": draw(0, 6, 5), "nan": torch.full((3, 3), torch.nan)}
    a = save(tmp_path / "a.safetensors", weights)
    rows = diff_rows(a, a)
    assert {row["change"] for row in rows.values()} == {"identical"}
    assert rows["w"]["stable_rank_a"] == rows["w"]["stable_rank_b"]


def test_layers_are_selected_by_pattern(tmp_path: Path) -> None:
    a = save(tmp_path / "a.safetensors", {"w": draw(0, 6, 5), "v": draw(1, 6, 5)})
    assert set(diff_rows(a, a, layers=["w"])) == {"w"}
    assert set(diff_rows(a, a, exclude=["w"])) == {"v"}
    with pytest.raises(ai.NothingMatchedError):
        ai.diff(a, a, layers=["nothing"])


def test_a_run_is_not_a_checkpoint(tmp_path: Path) -> None:
    for step in (10, 20):
        save(tmp_path / f"run/step_{step:06d}.safetensors", {"w": draw(0, 4, 4)})
    with pytest.raises(ai.CheckpointError, match="is a run of 2 checkpoints, expected one"):
        ai.diff(tmp_path / "run/step_000010.safetensors", tmp_path / "run")
    with pytest.raises(ai.CheckpointError, match="does not exist"):
        ai.diff(tmp_path / "run/step_000010.safetensors", tmp_path / "nowhere")
