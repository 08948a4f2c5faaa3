"""Damaged, foreign and missing checkpoints: each is named with its reason."""

import os
from pathlib import Path

import pytest

from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.errors import CheckpointError, HeaderError, NothingMatchedError
from altgrad_inspect.records import Status
from tests.checkpoints.runs_on_disk import (
    mention,
    steps,
    tensors,
    truncate,
    write_json,
    write_shards,
    write_trainer,
    write_weights,
)


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
    is_damaged = make in {make_truncated, make_pointer}
    assert skipped.step == 200
    assert skipped.status is (Status.FAILED if is_damaged else Status.SKIPPED)
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


def test_the_newest_checkpoint_may_still_be_written(tmp_path: Path) -> None:
    write_trainer(tmp_path, 100)
    make_truncated(tmp_path / "checkpoint-200")
    (newest,) = discover_run([tmp_path]).skipped
    assert newest.status is Status.SKIPPED


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
    assert mention(run, "step1000: is not read, its unsharded copy is the same step")
    assert mention(run, "2024: holds no weights")


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
