"""Lists and globs of checkpoints."""

from pathlib import Path

import pytest

from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.errors import CheckpointError, NothingMatchedError
from tests.checkpoints.runs_on_disk import (
    mention,
    steps,
    truncate,
    write_shards,
    write_trainer,
    write_weights,
)


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
    truncate(write_weights(tmp_path / "checkpoint-6" / "model.safetensors"))
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
