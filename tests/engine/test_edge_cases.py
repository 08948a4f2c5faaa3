"""Every odd layer through the whole pipeline: a defined row with its status, never a crash."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import altgrad_inspect as ai
from altgrad_inspect.engine.events import Event, LayerDone, Noted, Planned

Weights = Mapping[str, torch.Tensor]


def write_run(directory: Path, *checkpoints: Weights) -> Path:
    for index, weights in enumerate(checkpoints, start=1):
        held = {name: weight.clone().contiguous() for name, weight in weights.items()}
        save_file(held, directory / f"step_{index * 10:06d}.safetensors")
    return directory


def rows(results: ai.Results, table: str, layer: str) -> list[dict[str, Any]]:
    frame: pd.DataFrame = results.to_pandas(table)
    picked = frame[frame["layer"] == layer]
    return [
        {str(key): None if value is pd.NA else value for key, value in row.items()}
        for row in picked.astype(object).where(picked.notna(), None).to_dict("records")
    ]


@pytest.fixture
def matrix() -> torch.Tensor:
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda w: w.index_put((torch.tensor(0), torch.tensor(0)), torch.tensor(torch.nan)), "1 "),
        (lambda w: torch.full_like(w, torch.inf), "48 "),
        (torch.zeros_like, "zero matrix"),
    ],
)
def test_a_broken_checkpoint_is_undefined_and_the_others_stand(
    tmp_path: Path, matrix: torch.Tensor, spoil: Any, reason: str
) -> None:
    run = write_run(tmp_path, {"w": matrix}, {"w": spoil(matrix)}, {"w": matrix})
    results = ai.report(run)
    ranks = rows(results, "ranks", "w")
    assert [row["status"] for row in ranks] == ["ok", "undefined", "ok"]
    assert reason in ranks[1]["reason"]
    assert ranks[1]["stable_rank"] is ranks[1]["effective_rank"] is None
    assert ranks[0]["stable_rank"] == ranks[2]["stable_rank"]
    assert results.num_failed == 0
    flips = rows(results, "flips", "w")
    assert [row["num_weights"] for row in flips] == [48, 48]
    assert flips[1]["num_reverted"] == flips[1]["num_flipped"] > 0


@pytest.mark.parametrize(
    ("weight", "num_matrices", "rows_cols"),
    [
        (torch.randn(5, 3, 2, 2), 1, (5, 12)),
        (torch.randn(4, 3, 2, 2, 2), 1, (4, 24)),
        (torch.randn(6, 4, 3), 1, (6, 12)),
        (torch.randn(3, 6, 20), 3, (6, 20)),
        (torch.randn(1, 9), 1, (1, 9)),
        (torch.randn(9, 1), 1, (9, 1)),
    ],
)
def test_layers_are_reshaped_by_the_rules(
    tmp_path: Path, weight: torch.Tensor, num_matrices: int, rows_cols: tuple[int, int]
) -> None:
    results = ai.report(write_run(tmp_path, {"w": weight}, {"w": weight + 0.1}))
    ranks = rows(results, "ranks", "w")
    assert len(ranks) == 2 * num_matrices
    assert {(row["rows"], row["cols"]) for row in ranks} == {rows_cols}
    assert {row["matrix"] for row in ranks} == set(range(num_matrices))
    assert [row["num_weights"] for row in rows(results, "flips", "w")] == [weight.numel()]


@pytest.mark.parametrize("size", [1e-30, 1e30, 1e-40])
def test_ranks_do_not_depend_on_the_size_of_the_weights(
    tmp_path: Path, matrix: torch.Tensor, size: float
) -> None:
    exact = torch.round(matrix * 64)  # small integers: exact at any of these sizes
    factor = 2.0 ** round(torch.log2(torch.tensor(size)).item())
    run = write_run(tmp_path, {"w": exact}, {"w": exact * factor})
    one, other = rows(ai.rank(run), "ranks", "w")
    assert other["stable_rank"] == pytest.approx(one["stable_rank"], rel=1e-12)
    assert other["effective_rank"] == pytest.approx(one["effective_rank"], rel=1e-10)


def test_vectors_numbers_and_empty_layers_have_flips_and_say_why_they_have_no_rank(
    tmp_path: Path,
) -> None:
    weights = {"vector": torch.ones(4), "number": torch.tensor(2.0), "empty": torch.ones(0, 3)}
    moved = {name: weight * 1.5 for name, weight in weights.items()}
    results = ai.report(write_run(tmp_path, weights, moved))
    reasons = {row["layer"]: row["reason"] for row in results.to_arrow("skipped").to_pylist()}
    assert "1-D" in reasons["vector"]
    assert "0-D" in reasons["number"]
    assert "empty" in reasons["empty"]
    assert [row["status"] for row in rows(results, "flips", "vector")] == ["ok"]
    assert [row["num_weights"] for row in rows(results, "flips", "number")] == [1]
    assert rows(results, "flips", "empty")[0]["reason"] == "empty layer"
    assert results.num_failed == 0


@pytest.mark.parametrize(
    "weight",
    [
        torch.ones(3, 3, dtype=torch.bool),
        torch.arange(9).reshape(3, 3),
        torch.ones(3, 3, dtype=torch.uint8),
        torch.ones(3, 3, dtype=torch.complex64),
    ],
    ids=lambda weight: str(weight.dtype),
)
def test_what_is_no_weight_is_skipped_with_its_dtype(tmp_path: Path, weight: torch.Tensor) -> None:
    results = ai.report(write_run(tmp_path, {"odd": weight}, {"odd": weight}))
    skipped = results.to_arrow("skipped").to_pylist()
    assert len(skipped) == 2
    assert {row["reason"].split(":")[0] for row in skipped} == {"flips", "ranks"}
    assert str(weight.dtype).removeprefix("torch.") in skipped[0]["reason"]
    assert results.to_arrow("flips").num_rows == results.to_arrow("ranks").num_rows == 0


def test_stored_fp8_without_a_scale_has_code_flips_and_no_values(tmp_path: Path) -> None:
    codes = torch.tensor([[0x30, 0x31], [0x00, 0x80]], dtype=torch.uint8)
    moved = torch.tensor([[0x33, 0x31], [0x00, 0x00]], dtype=torch.uint8)
    fp8 = torch.float8_e4m3fn
    results = ai.report(write_run(tmp_path, {"w": codes.view(fp8)}, {"w": moved.view(fp8)}))
    (row,) = rows(results, "flips", "w")
    assert (row["quantizer"], row["status"]) == ("stored:float8_e4m3fn", "undefined")
    assert "without their scale" in row["reason"]
    assert (row["num_updated"], row["num_flipped"], row["num_recoded"]) == (2, 1, 1)
    assert row["update_norm"] is None
    assert results.to_arrow("ranks").num_rows == 0
    assert "wrong by 1/scale" in results.to_arrow("skipped").to_pylist()[0]["reason"]


def test_a_layer_that_changes_shape_or_dtype_is_not_compared(tmp_path: Path) -> None:
    run = write_run(
        tmp_path,
        {"w": torch.ones(2, 3)},
        {"w": torch.ones(3, 3)},
        {"w": torch.ones(3, 3).bfloat16()},
        {"w": torch.ones(3, 3).bfloat16() * 2},
    )
    flips = rows(ai.flips(run), "flips", "w")
    assert [row["status"] for row in flips] == ["undefined", "undefined", "ok"]
    assert flips[0]["reason"] == "shape changed from [2, 3] to [3, 3]"
    assert flips[1]["reason"] == "dtype changed from F32 to BF16"
    assert flips[0]["num_weights"] is None
    assert flips[2]["num_updated"] == 9


def test_a_layer_that_comes_and_goes_is_named_and_its_neighbours_go_on(
    tmp_path: Path, matrix: torch.Tensor
) -> None:
    both = {"w": matrix, "new": matrix}
    run = write_run(tmp_path, {"w": matrix}, both, {"w": matrix}, {"w": matrix}, both)
    results = ai.report(run)
    flips = rows(results, "flips", "new")
    assert [row["reason"] for row in flips] == [
        "layer added: not in step 10",
        "layer removed: not in step 30",
        "layer added: not in step 40",
    ]
    assert [row["step"] for row in rows(results, "ranks", "new")] == [20, 50]
    assert len(rows(results, "flips", "w")) == 4


def test_a_tied_head_resolves_to_the_embedding_and_says_so(
    tmp_path: Path, matrix: torch.Tensor
) -> None:
    for step in (1, 2):
        directory = tmp_path / f"checkpoint-{step}"
        directory.mkdir()
        save_file({"model.embed_tokens.weight": matrix * step}, directory / "model.safetensors")
        (directory / "config.json").write_text(json.dumps({"tie_word_embeddings": True}))
    results = ai.rank(tmp_path, layers=["lm_head"])
    assert set(results.to_pandas()["layer"]) == {"model.embed_tokens.weight"}
    assert results.notes == ("lm_head.weight is tied to model.embed_tokens.weight: showing that",)
    assert set(ai.rank(tmp_path).to_pandas()["layer"]) == {"model.embed_tokens.weight"}


def test_a_file_that_changes_during_the_run_fails_its_rows_only(
    tmp_path: Path, matrix: torch.Tensor
) -> None:
    names = [f"layer{index}" for index in range(4)]
    run = write_run(tmp_path, *(dict.fromkeys(names, matrix * step) for step in (1, 2, 3)))
    victim = run / "step_000020.safetensors"

    def spoil(event: Event) -> None:
        if isinstance(event, Planned):
            victim.write_bytes(victim.read_bytes()[:-8])

    results = ai.report(run, on_event=spoil, jobs=1)
    for name in names:
        assert [row["status"] for row in rows(results, "ranks", name)] == ["ok", "failed", "ok"]
        flips = rows(results, "flips", name)
        assert [row["status"] for row in flips] == ["failed", "failed"]
        assert "step_000020.safetensors" in flips[0]["reason"]
    assert results.num_failed > 0


def test_a_damaged_checkpoint_fails_and_the_others_are_analysed(
    tmp_path: Path, matrix: torch.Tensor
) -> None:
    run = write_run(tmp_path, *({"w": matrix * step} for step in (1, 2, 3)))
    damaged = run / "step_000020.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-8])
    results = ai.report(run)
    assert [row["step"] for row in rows(results, "ranks", "w")] == [10, 30]
    assert results.num_failed == 1
    assert "step 20 is left out" in results.notes[0]


def test_a_frozen_layer_repeats_its_numbers_to_the_bit(
    tmp_path: Path, matrix: torch.Tensor
) -> None:
    run = write_run(tmp_path, *({"w": matrix} for _ in range(3)))
    ranks = rows(ai.rank(run, spectra=True), "ranks", "w")
    assert len({row["stable_rank"] for row in ranks}) == 1
    assert all(list(row["singular_values"]) == list(ranks[0]["singular_values"]) for row in ranks)


def test_tables_do_not_depend_on_the_number_of_workers(
    tmp_path: Path, matrix: torch.Tensor
) -> None:
    names = [f"blocks.{index}.w" for index in range(9)]
    run = write_run(tmp_path, *(dict.fromkeys(names, matrix + 0.01 * step) for step in range(4)))
    one, three = ai.report(run, jobs=1), ai.report(run, jobs=3)
    for name, table in one.tables.items():
        assert table.equals(three.tables[name]), name


def test_events_add_up(tmp_path: Path, matrix: torch.Tensor) -> None:
    events: list[Event] = []
    run = write_run(tmp_path, {"a": matrix, "b": matrix}, {"a": matrix, "b": matrix * 2})
    ai.report(run, on_event=events.append)
    planned = [event for event in events if isinstance(event, Planned)]
    done = [event for event in events if isinstance(event, LayerDone)]
    assert [(event.num_checkpoints, event.num_layers) for event in planned] == [(2, 2)]
    assert planned[0].num_bytes == sum(event.num_bytes for event in done) == 4 * matrix.nbytes
    assert sum(event.cost for event in done) == pytest.approx(1)
    assert not [event for event in events if isinstance(event, Noted)]


def test_losses_of_the_run_are_joined_to_its_checkpoints(
    tmp_path: Path, matrix: torch.Tensor
) -> None:
    for step in (10, 20):
        directory = tmp_path / f"checkpoint-{step}"
        directory.mkdir()
        save_file({"w": matrix}, directory / "model.safetensors")
        history = [{"step": at, "loss": at / 10} for at in range(5, step + 1, 5)]
        state = {"global_step": step, "log_history": history}
        (directory / "trainer_state.json").write_text(json.dumps(state))
    checkpoints = ai.ls(tmp_path).to_pandas()
    assert checkpoints["loss"].tolist() == [0.75, 1.75]


def test_one_checkpoint_has_ranks_and_no_flips(tmp_path: Path, matrix: torch.Tensor) -> None:
    run = write_run(tmp_path, {"w": matrix})
    assert ai.rank(run).to_arrow("ranks").num_rows == 1
    assert ai.report(run).to_arrow("flips").num_rows == 0
    with pytest.raises(ai.NothingMatchedError, match=r"one checkpoint \(step 10\), flips need"):
        ai.flips(run)


def test_a_device_that_is_not_there_is_refused(tmp_path: Path, matrix: torch.Tensor) -> None:
    run = write_run(tmp_path, {"w": matrix})
    with pytest.raises(ai.ConfigError, match="device cuda:99: not found"):
        ai.rank(run, device="cuda:99")
    with pytest.raises(ai.ConfigError, match="expected auto, cpu, cuda or cuda:N"):
        ai.rank(run, device="tpu")


def test_the_plan_counts_bytes_and_transitions(tmp_path: Path, matrix: torch.Tensor) -> None:
    run = write_run(tmp_path, *({"w": matrix, "v": matrix[0]} for _ in range(3)))
    plan = ai.plan(run, jobs=1)
    assert (plan.num_checkpoints, plan.num_layers, plan.num_transitions) == (3, 2, 2)
    assert plan.size_bytes == 3 * (matrix.nbytes + matrix[0].nbytes)
    assert plan.memory_bytes >= 2 * matrix.nbytes
    assert 0 < plan.rank_seconds < 1
