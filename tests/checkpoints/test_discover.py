"""Runs as trainers leave them on disk are found in order, and what is wrong is said."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.errors import CheckpointError, HeaderError, NothingMatchedError
from altgrad_inspect.records import RunRef, Status
from tests.checkpoints.runs_on_disk import (
    tensors,
    truncate,
    write_json,
    write_shards,
    write_trainer,
    write_weights,
)


def steps(run: RunRef) -> list[int]:
    return [checkpoint.step for checkpoint in run.checkpoints]


def layouts(run: RunRef) -> set[str]:
    return {checkpoint.layout for checkpoint in run.checkpoints}


def mention(run: RunRef, text: str) -> bool:
    return any(text in note for note in run.notes)


# Each layout, found.


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
        (["checkpoint_0", "checkpoint_1"], [0, 1], "step-directories"),
        (["global_step10", "global_step9"], [9, 10], "step-directories"),
        (["step1000-unsharded", "step2000-unsharded"], [1000, 2000], "step-directories"),
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


# Left out, with a word.


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


def test_a_second_model_beside_the_weights_is_noted(tmp_path: Path) -> None:
    write_weights(tmp_path / "checkpoint_0" / "model.safetensors")
    write_weights(tmp_path / "checkpoint_0" / "model_1.safetensors")
    run = discover_run([tmp_path])
    assert [file.name for file in run.checkpoints[0].files] == ["model.safetensors"]
    assert mention(run, "model_1.safetensors: lies beside the weights and is not read")
    assert steps(discover_run([tmp_path / "checkpoint_0"])) == [0]


def test_mixed_units_are_noted(tmp_path: Path) -> None:
    write_weights(tmp_path / "epoch_3.safetensors")
    write_weights(tmp_path / "step_1000.safetensors")
    run = discover_run([tmp_path])
    assert steps(run) == [3, 1000]
    assert mention(run, "the names count epoch and step")


# Incomplete checkpoints.


def make_truncated(checkpoint: Path) -> None:
    truncate(write_weights(checkpoint / "model.safetensors"))


def make_missing_shard(checkpoint: Path) -> None:
    (write_shards(checkpoint) / "model-00002-of-00002.safetensors").unlink()


def make_empty(checkpoint: Path) -> None:
    checkpoint.mkdir()


def make_without_model(checkpoint: Path) -> None:
    checkpoint.mkdir()
    (checkpoint / "optimizer.pt").write_bytes(b"\x80\x02")


def make_lacking(checkpoint: Path) -> None:
    write_shards(checkpoint)
    shard = "model-00002-of-00002.safetensors"
    write_weights(checkpoint / shard, {"other": tensors()["head.weight"]})


def make_pipe(checkpoint: Path) -> None:
    checkpoint.mkdir()
    os.mkfifo(checkpoint / "model.safetensors")


def make_link_loop(checkpoint: Path) -> None:
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").symlink_to("model.safetensors")


def make_pointer(checkpoint: Path) -> None:
    checkpoint.mkdir()
    content = b"version https://git-lfs.github.com/spec/v1\n"
    (checkpoint / "model.safetensors").write_bytes(content)


def make_pickled(checkpoint: Path) -> None:
    checkpoint.mkdir()
    (checkpoint / "pytorch_model.bin").write_bytes(b"PK")


every_damage = pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_truncated, "model.safetensors: is truncated: "),
        (make_missing_shard, "the shard 'model-00002-of-00002.safetensors' that the index names"),
        (make_empty, "holds no weights"),
        (make_without_model, "holds no weights"),
        (make_lacking, "lacks the layer 'head.weight' that the index says it holds"),
        (make_pipe, "is a named pipe"),
        (make_link_loop, "Too many levels of symbolic links"),
        (make_pointer, "is a Git-LFS pointer"),
        (make_pickled, "holds pytorch_model.bin, a pickle"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)


@every_damage
def test_an_incomplete_checkpoint_of_a_run_is_left_out_by_name(
    make: object, reason: str, tmp_path: Path
) -> None:
    assert callable(make)
    write_trainer(tmp_path, 100)
    make(tmp_path / "checkpoint-200")
    write_trainer(tmp_path, 300)
    run = discover_run([tmp_path])
    assert steps(run) == [100, 300]
    (skipped,) = run.skipped
    assert (skipped.step, skipped.status) == (200, Status.SKIPPED)
    assert reason in str(skipped.reason)
    assert str(skipped.reason).isprintable()


@every_damage
def test_an_incomplete_checkpoint_that_was_named_is_an_error(
    make: object, reason: str, tmp_path: Path
) -> None:
    assert callable(make)
    write_trainer(tmp_path, 100)
    damaged = tmp_path / "checkpoint-200"
    make(damaged)
    with pytest.raises(CheckpointError, match=reason):
        discover_run([tmp_path / "checkpoint-100", damaged])


def test_the_only_checkpoint_of_a_run_gives_its_own_error(tmp_path: Path) -> None:
    make_truncated(tmp_path / "checkpoint-200")
    with pytest.raises(HeaderError, match=r"model.safetensors: is truncated: \d+ bytes, expected"):
        discover_run([tmp_path])


def test_a_run_without_a_complete_checkpoint_says_so(tmp_path: Path) -> None:
    make_truncated(tmp_path / "checkpoint-200")
    make_missing_shard(tmp_path / "checkpoint-300")
    with pytest.raises(CheckpointError, match=r"none of its 2 checkpoints is complete.*truncated"):
        discover_run([tmp_path])


def test_a_truncated_flat_file_is_left_out_by_name(tmp_path: Path) -> None:
    write_weights(tmp_path / "step_1.safetensors")
    truncate(write_weights(tmp_path / "step_2.safetensors"))
    run = discover_run([tmp_path])
    assert steps(run) == [1]
    assert [ref.step for ref in run.skipped] == [2]
    with pytest.raises(HeaderError, match="is truncated"):
        discover_run([tmp_path / "step_2.safetensors"])


def test_a_twin_without_weights_and_a_bare_number_are_noted_and_no_loss(tmp_path: Path) -> None:
    write_weights(tmp_path / "step1000-unsharded" / "model.safetensors")
    (tmp_path / "step1000").mkdir()
    (tmp_path / "step1000" / "rank0.distcp").touch()
    (tmp_path / "2024").mkdir()
    run = discover_run([tmp_path])
    assert steps(run) == [1000]
    assert run.skipped == ()
    assert mention(run, "torch distributed checkpoint")
    assert mention(run, "2024: holds no weights")


# Errors.


def test_a_step_that_appears_twice_names_both(tmp_path: Path) -> None:
    write_weights(tmp_path / "step_1.safetensors")
    write_weights(tmp_path / "step_0001.safetensors")
    match = r"step 1 appears twice: \S+step_0001.safetensors and \S+step_1.safetensors, expected"
    with pytest.raises(CheckpointError, match=match):
        discover_run([tmp_path])


def test_steps_that_start_again_at_a_stage_are_an_error(tmp_path: Path) -> None:
    for name in ("stage1-step10", "stage2-step5"):
        write_weights(tmp_path / name / "model.safetensors")
    with pytest.raises(CheckpointError, match="steps start again at stage 2"):
        discover_run([tmp_path])


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/passwd", "../model.safetensors", "..", ".", "", "a/b.safetensors", "a\\b"),
        *("model\0.safetensors", "n" * 256, "\udc80.safetensors"),
    ],
)
def test_an_index_that_names_anything_but_a_file_beside_it_is_refused(
    name: str, tmp_path: Path
) -> None:
    write_weights(tmp_path / "model.safetensors.kept", tensors())
    index = {"weight_map": {"embed.weight": name}}
    write_json(tmp_path / "model.safetensors.index.json", index)
    with pytest.raises(CheckpointError, match="expected the plain name of a file") as caught:
        discover_run([tmp_path])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is not valid JSON"),
        ("{", "is not valid JSON"),
        ("\x00", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[]", "holds a JSON list, expected an object"),
        ("3", "holds a JSON int"),
        ("{}", "has no weight_map"),
        ('{"weight_map":{}}', "has no weight_map"),
        ('{"weight_map":[]}', "has no weight_map"),
        ('{"weight_map":{"a":1}}', "layer 'a' is said to be in '1'"),
        ('{"weight_map":{"a":"x","a":"y"}}', "the key 'a' appears twice"),
        ('{"weight_map":[' + "[]," * 2_000_000 + "0]}", "more values than any real file"),
    ],
)
def test_a_broken_index_says_what_is_wrong(content: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match=reason) as caught:
        discover_run([tmp_path])
    assert "model.safetensors.index.json: " in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pytorch_model.bin", "a pickle, which can run code"),
        ("step_100.pt", "a pickle"),
        ("lit_model.pth", "a pickle"),
        ("model.pkl", "a pickle"),
        ("__0_0.distcp", "dcp_to_torch"),
        ("weights.npz", "safetensors.numpy.save_file"),
        ("model.gguf", "a GGUF file"),
        ("model.h5", "an HDF5 file"),
        ("flax_model.msgpack", "a Flax checkpoint"),
        ("model.onnx", "an ONNX file"),
    ],
)
def test_other_kinds_of_checkpoints_are_named_and_never_opened(
    name: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "step_1").mkdir()
    (tmp_path / "step_1" / name).write_bytes(b"\x80\x02cos\nsystem\n")
    for target in (tmp_path, tmp_path / "step_1", tmp_path / "step_1" / name):
        with pytest.raises(CheckpointError, match=reason):
            discover_run([target])


def test_a_missing_path_suggests_the_closest_sibling(tmp_path: Path) -> None:
    write_trainer(tmp_path / "run", 500)
    for missing in ("rum", "run/checkpoint-50", "rum/checkpoint-500"):
        with pytest.raises(CheckpointError, match=r"does not exist.*did you mean \S+/run"):
            discover_run([tmp_path / missing])
    with pytest.raises(CheckpointError, match=r"does not exist, expected a run \(check the path"):
        discover_run([tmp_path / "nothing like it"])
    with pytest.raises(CheckpointError, match="is a URL"):
        discover_run(["s3://bucket/run"])
    with pytest.raises(CheckpointError, match="does not exist") as caught:
        discover_run(["a\0b\x1b31m"])
    assert str(caught.value).isprintable()


def test_a_directory_without_checkpoints_says_what_was_looked_for_and_found(tmp_path: Path) -> None:
    with pytest.raises(NothingMatchedError, match=r"step_000100.safetensors.*found nothing"):
        discover_run([tmp_path])
    for name in ("a.txt", "b.txt", "c.txt", "d.txt", "e.txt", "f.txt", "g\x1b.txt"):
        (tmp_path / name).touch()
    with pytest.raises(NothingMatchedError, match=r"found a.txt, b.txt.* and 2 more \(name the"):
        discover_run([tmp_path])
    write_trainer(tmp_path / "out", 5)
    with pytest.raises(NothingMatchedError, match=r"found out/, .*did you mean \S+/out\?"):
        discover_run([tmp_path])


def test_only_temporary_files_are_no_checkpoint(tmp_path: Path) -> None:
    write_weights(tmp_path / "step_1.tmp.safetensors")
    with pytest.raises(NothingMatchedError, match="holds no checkpoints"):
        discover_run([tmp_path])


def test_nothing_named_is_nothing_matched() -> None:
    with pytest.raises(NothingMatchedError, match="no run was named"):
        discover_run([])


# Lists and globs.


def test_a_list_is_put_in_order_and_spans_directories(tmp_path: Path) -> None:
    one = write_trainer(tmp_path / "a", 500)
    two = write_weights(tmp_path / "b" / "step_100.safetensors")
    three = write_weights(tmp_path / "c" / "step_300" / "model.safetensors")
    run = discover_run([one, str(two), three])
    assert steps(run) == [100, 300, 500]
    assert run.path == f"{one} … {three}"


def test_a_list_without_steps_keeps_its_order(tmp_path: Path) -> None:
    names = [write_weights(tmp_path / f"{name}.safetensors") for name in ("z", "a", "m")]
    run = discover_run(names)
    assert steps(run) == [0, 1, 2]
    assert [ref.path for ref in run.checkpoints] == names
    assert mention(run, "the names have no steps; numbered from 0")
    with_step = write_weights(tmp_path / "step_9.safetensors")
    with pytest.raises(CheckpointError, match=r"z.safetensors: has no step in its name"):
        discover_run([*names, with_step])


def test_the_same_checkpoint_twice_in_a_list_is_an_error(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "step_9.safetensors")
    with pytest.raises(CheckpointError, match="step 9 appears twice"):
        discover_run([path, path])


def test_a_run_in_a_list_of_checkpoints_is_an_error(tmp_path: Path) -> None:
    write_trainer(tmp_path / "run", 1)
    write_trainer(tmp_path / "run", 2)
    one = write_weights(tmp_path / "step_9.safetensors")
    with pytest.raises(CheckpointError, match="is a run of 2 checkpoints, expected one checkpoint"):
        discover_run([one, tmp_path / "run"])


def test_a_shard_alone_is_an_error(tmp_path: Path) -> None:
    shard = write_shards(tmp_path / "step_1") / "model-00001-of-00002.safetensors"
    with pytest.raises(CheckpointError, match=r"one part of a checkpoint.*name the directory"):
        discover_run([shard])


@pytest.mark.parametrize(
    "pattern", ["checkpoint-*", "checkpoint-*/model.safetensors", "**/*.safetensors", "*-[0-9]*"]
)
def test_a_glob_finds_checkpoints_whole(pattern: str, tmp_path: Path) -> None:
    for step in (5, 10):
        write_trainer(tmp_path, step)
    write_shards(tmp_path / "checkpoint-20")
    run = discover_run([str(tmp_path / pattern)])
    assert steps(run) == ([5, 10] if pattern.endswith("/model.safetensors") else [5, 10, 20])
    assert run.losses == ()


def test_a_glob_ignores_what_is_no_checkpoint_and_says_so(tmp_path: Path) -> None:
    write_trainer(tmp_path, 5)
    make_truncated(tmp_path / "checkpoint-6")
    (tmp_path / "runs").mkdir()
    (tmp_path / "notes.txt").touch()
    write_weights(tmp_path / "best.safetensors")
    run = discover_run([f"{tmp_path}/*"])
    assert steps(run) == [5]
    assert [ref.step for ref in run.skipped] == [6]
    for name in ("notes.txt", "best.safetensors"):
        assert mention(run, f"{name}: matched, and is no step of the run")
    assert mention(run, "runs: holds no weights")


def test_a_glob_that_finds_nothing_is_nothing_matched(tmp_path: Path) -> None:
    with pytest.raises(NothingMatchedError, match="matches nothing"):
        discover_run([str(tmp_path / "*.safetensors")])
    (tmp_path / "notes.txt").touch()
    with pytest.raises(NothingMatchedError, match="matches 1 paths and no checkpoint"):
        discover_run([str(tmp_path / "*")])


# Losses.


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


# Start-up.


def test_finding_a_run_does_not_import_torch(tmp_path: Path) -> None:
    write_trainer(tmp_path, 100)
    program = (
        "import sys; from altgrad_inspect.checkpoints import discover, header, selection; "
        "discover.discover_run(sys.argv[1:]); "
        "assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
