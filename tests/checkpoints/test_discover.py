"""Runs as trainers leave them on disk are found in order, and what is wrong is said."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.errors import CheckpointError
from tests.checkpoints.runs_on_disk import (
    layouts,
    mention,
    steps,
    write_json,
    write_shards,
    write_trainer,
    write_weights,
)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["step_000100", "step_000020"], [20, 100]),
        (["model_step100", "model_step20"], [20, 100]),
        (["100", "20", "3"], [3, 20, 100]),
        (["ckpt-1000", "ckpt-200"], [200, 1000]),
        (["llama-7b-iter_5", "llama-7b-iter_40"], [5, 40]),
        (["epoch=1-step=500", "epoch=0-step=250"], [250, 500]),
        (["step-001000-2BT", "step-002000-4BT"], [1000, 2000]),
        (["w.000100.bf16", "w.000020.bf16"], [20, 100]),
        (["STEP_7", "STEP_30"], [7, 30]),
    ],
)
def test_flat_files_are_ordered_by_the_step_in_their_names(
    names: list[str], expected: list[int], tmp_path: Path
) -> None:
    for name in names:
        write_weights(tmp_path / f"{name}.safetensors")
    run = discover_run([tmp_path])
    assert steps(run) == expected
    assert layouts(run) == {"flat"}
    assert (run.notes, run.skipped) == ((), ())
    assert run.path == str(tmp_path)


@pytest.mark.parametrize(
    ("names", "expected", "layout"),
    [
        (["checkpoint-1000", "checkpoint-500"], [500, 1000], "trainer"),
        (["step1000", "step200"], [200, 1000], "step-directories"),
        (["step-1000", "step-200"], [200, 1000], "step-directories"),
        (["step_000100", "step_000020"], [20, 100], "step-directories"),
        (["iter_0001000", "iter_0000500"], [500, 1000], "step-directories"),
        (["epoch_3", "epoch_0"], [0, 3], "step-directories"),
        (["250", "1000"], [250, 1000], "step-directories"),
        (["global_step10", "global_step9"], [9, 10], "step-directories"),
        (["step1000-unsharded", "step2000-unsharded"], [1000, 2000], "olmo"),
    ],
)
def test_directories_are_ordered_by_the_step_in_their_names(
    names: list[str], expected: list[int], layout: str, tmp_path: Path
) -> None:
    for name in names:
        write_weights(tmp_path / name / "model.safetensors")
    (tmp_path / "runs").mkdir()
    (tmp_path / ".cache").mkdir()
    run = discover_run([tmp_path])
    assert steps(run) == expected
    assert layouts(run) == {layout}
    assert (run.notes, run.skipped) == ((), ())


@pytest.mark.parametrize("name", ["adapter_model", "diffusion_pytorch_model", "weights"])
def test_a_step_directory_may_hold_weights_of_another_name(name: str, tmp_path: Path) -> None:
    write_weights(tmp_path / "checkpoint-5" / f"{name}.safetensors")
    assert steps(discover_run([tmp_path])) == [5]


def test_a_sharded_checkpoint_has_its_files_and_its_index(tmp_path: Path) -> None:
    write_shards(tmp_path / "checkpoint-5")
    (ref,) = discover_run([tmp_path]).checkpoints
    assert [file.name for file in ref.files] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    assert ref.layer_files["head.weight"] == "model-00002-of-00002.safetensors"


def test_shards_without_an_index_are_one_checkpoint(tmp_path: Path) -> None:
    write_shards(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    (ref,) = discover_run([tmp_path]).checkpoints
    assert (ref.step, ref.layout, len(ref.files)) == (0, "single", 2)
    ref.files[0].unlink()
    with pytest.raises(CheckpointError, match=r"the shard 'model-00001-of-00002\S+' of 2 is miss"):
        discover_run([tmp_path])


def test_the_step_of_a_trainer_comes_from_its_own_file_before_the_name(tmp_path: Path) -> None:
    write_trainer(tmp_path, 400, in_name=500)
    write_trainer(tmp_path, 300)
    run = discover_run([tmp_path])
    assert steps(run) == [300, 400]
    assert mention(run, "its trainer_state.json says step 400, which counts")


@pytest.mark.parametrize("content", ["{", "[]", '{"a":1,"a":2}', "[" * 100_000])
def test_a_broken_trainer_file_leaves_the_step_of_the_name(content: str, tmp_path: Path) -> None:
    checkpoint = write_trainer(tmp_path, 500)
    (checkpoint / "trainer_state.json").write_text(content)
    run = discover_run([tmp_path])
    assert steps(run) == [500]
    assert mention(run, "the step is taken from the name")
    assert run.losses == ()


def test_a_global_step_after_a_long_history_is_found(tmp_path: Path) -> None:
    checkpoint = write_trainer(tmp_path, 5)
    log: list[dict[str, object]] = [{"step": step, "loss": 1.0} for step in range(3000)]
    log[0]["global_step"] = 99
    content = json.dumps({"log_history": log, "global_step": 7})
    (checkpoint / "trainer_state.json").write_text(content)
    assert steps(discover_run([tmp_path])) == [7]


def test_a_log_beside_flat_files_says_nothing_about_their_steps(tmp_path: Path) -> None:
    write_weights(tmp_path / "step_1.safetensors")
    write_weights(tmp_path / "step_2.safetensors")
    log = [{"step": 1, "loss": 3.0}]
    write_json(tmp_path / "trainer_state.json", {"global_step": 2, "log_history": log})
    run = discover_run([tmp_path])
    assert (steps(run), run.losses) == ([1, 2], ((1, 3.0),))


def test_one_checkpoint_is_a_run_of_one(tmp_path: Path) -> None:
    plain = write_weights(tmp_path / "plain" / "model.safetensors")
    assert steps(discover_run([plain.parent])) == [0]
    assert steps(discover_run([plain])) == [0]
    trainer = write_trainer(tmp_path, 500)
    assert steps(discover_run([trainer])) == [500]
    assert steps(discover_run([trainer / "model.safetensors"])) == [500]
    shards = write_shards(tmp_path / "step-9")
    assert steps(discover_run([shards])) == [9]
    assert steps(discover_run([shards / "model.safetensors.index.json"])) == [9]
    flat = write_weights(tmp_path / "flat" / "model_step12.safetensors")
    assert steps(discover_run([flat])) == [12]
    named = write_weights(tmp_path / "flat" / "best_step13.safetensors")
    assert steps(discover_run([named])) == [13]


def test_the_current_directory_is_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_trainer(tmp_path, 500))
    assert steps(discover_run(["."])) == [500]
    monkeypatch.chdir(tmp_path)
    assert steps(discover_run(["."])) == [500]


def test_a_hub_cache_of_links_to_regular_files_is_read(tmp_path: Path) -> None:
    blob = write_weights(tmp_path / "blobs" / "0a1b")
    snapshot = tmp_path / "snapshots" / "9f8e7d6c5b4a39281706"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(blob)
    assert steps(discover_run([snapshot])) == [0]
    assert steps(discover_run([blob])) == [0]


def test_stages_come_before_steps(tmp_path: Path) -> None:
    for name in ("stage1-step10", "stage2-step15", "stage1-step5"):
        write_weights(tmp_path / name / "model.safetensors")
    run = discover_run([tmp_path])
    assert [(ref.stage, ref.step) for ref in run.checkpoints] == [(1, 5), (1, 10), (2, 15)]


@pytest.mark.parametrize(
    "name", ["tmp-checkpoint-500", "latest", "best", "final", "checkpoint-500-tmp", "model_ema"]
)
def test_directories_set_aside_are_noted_and_not_steps(name: str, tmp_path: Path) -> None:
    write_trainer(tmp_path, 100)
    write_weights(tmp_path / name / "model.safetensors")
    run = discover_run([tmp_path])
    assert steps(run) == [100]
    assert mention(run, f"{name}: not a step of the run by its name")


@pytest.mark.parametrize("name", ["optimizer_step5", "latest_step5", "step_5_ema", "best"])
def test_files_set_aside_are_noted_and_not_steps(name: str, tmp_path: Path) -> None:
    write_weights(tmp_path / "step_4.safetensors")
    write_weights(tmp_path / f"{name}.safetensors")
    run = discover_run([tmp_path])
    assert steps(run) == [4]
    assert mention(run, f"{name}.safetensors: not a step of the run by its name")


def test_a_link_to_another_checkpoint_of_the_run_is_noted_and_not_a_step(tmp_path: Path) -> None:
    write_trainer(tmp_path, 100)
    (tmp_path / "checkpoint-101").symlink_to("checkpoint-100")
    run = discover_run([tmp_path])
    assert steps(run) == [100]
    assert mention(run, "checkpoint-101: a link to another entry of the run")


def test_a_link_to_a_checkpoint_elsewhere_is_a_step(tmp_path: Path) -> None:
    elsewhere = write_weights(tmp_path / "elsewhere" / "model.safetensors").parent
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "step_7").symlink_to(elsewhere)
    assert steps(discover_run([tmp_path / "run"])) == [7]


def test_a_final_model_beside_the_checkpoints_is_noted_and_not_a_step(tmp_path: Path) -> None:
    write_trainer(tmp_path, 100)
    write_weights(tmp_path / "model.safetensors")
    run = discover_run([tmp_path])
    assert steps(run) == [100]
    assert mention(run, "model.safetensors: a model beside the checkpoints is not a step")


def test_a_file_without_a_step_beside_flat_ones_is_noted(tmp_path: Path) -> None:
    write_weights(tmp_path / "step_4.safetensors")
    write_weights(tmp_path / "tokens.safetensors")
    run = discover_run([tmp_path])
    assert steps(run) == [4]
    assert mention(run, "tokens.safetensors: has no step in its name and is not read")


def test_a_second_file_beside_the_weights_is_noted(tmp_path: Path) -> None:
    write_weights(tmp_path / "checkpoint-0" / "model.safetensors")
    write_weights(tmp_path / "checkpoint-0" / "model_1.safetensors")
    run = discover_run([tmp_path])
    assert [file.name for file in run.checkpoints[0].files] == ["model.safetensors"]
    assert mention(run, "model_1.safetensors: lies beside the weights and is not read")
    assert steps(discover_run([tmp_path / "checkpoint-0"])) == [0]


def test_mixed_units_are_noted(tmp_path: Path) -> None:
    write_weights(tmp_path / "epoch_3.safetensors")
    write_weights(tmp_path / "step_1000.safetensors")
    run = discover_run([tmp_path])
    assert steps(run) == [3, 1000]
    assert mention(run, "the names count epoch and step")


def test_losses_come_from_the_newest_log(tmp_path: Path) -> None:
    old = [{"step": 10, "loss": 9.0}]
    new: list[dict[str, object]] = [
        {"step": 20, "loss": 2.0, "grad_norm": 1.0},
        {"step": 10, "loss": 3.0},
        {"step": 20, "eval_loss": 5.0},
        {"step": 20, "loss": 1.5},
        {"step": 30, "loss": math.nan},
        {"step": 40, "loss": math.inf},
        {"step": 50, "loss": 7},
        {"step": 60, "loss": True},
        {"step": True, "loss": 1.0},
        {"step": "70", "loss": 1.0},
        {"step": 80, "loss": None},
        {"step": 90, "train_loss": 1.0},
    ]
    write_trainer(tmp_path, 100, log=old)
    write_trainer(tmp_path, 200, log=new)
    losses = discover_run([tmp_path]).losses
    assert [step for step, _ in losses] == [10, 20, 30, 40, 50]
    assert losses[:2] == ((10, 3.0), (20, 1.5))
    assert math.isnan(losses[2][1])
    assert losses[3:] == ((40, math.inf), (50, 7.0))


def test_a_log_at_the_root_counts_if_it_is_the_newest(tmp_path: Path) -> None:
    write_trainer(tmp_path, 100, log=[{"step": 10, "loss": 9.0}])
    root = {"global_step": 120, "log_history": [{"step": 110, "loss": 1.0}]}
    write_json(tmp_path / "trainer_state.json", root)
    assert discover_run([tmp_path]).losses == ((110, 1.0),)
    write_json(tmp_path / "trainer_state.json", {**root, "global_step": 90})
    assert discover_run([tmp_path]).losses == ((10, 9.0),)


def test_a_log_that_cannot_be_read_is_noted(tmp_path: Path) -> None:
    write_json(write_trainer(tmp_path, 100) / "trainer_state.json", {"global_step": 100})
    run = discover_run([tmp_path])
    assert run.losses == ()
    assert mention(run, "no losses: ")


def test_finding_a_run_does_not_import_torch(tmp_path: Path) -> None:
    write_trainer(tmp_path, 100)
    program = (
        "import sys; from altgrad_inspect.checkpoints import discover, header, selection; "
        "discover.discover_run(sys.argv[1:]); "
        "assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
