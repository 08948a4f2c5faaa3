"""Which checkpoint comes after which, and what is said about it."""

import os
from pathlib import Path

import pytest

import altgrad_inspect as ai
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.errors import CheckpointError, ConfigError
from altgrad_inspect.refs import RunRef
from tests.checkpoints.runs_on_disk import mention, steps, truncate, write_trainer, write_weights


def names(run: RunRef) -> list[str]:
    return [ref.path.name for ref in run.checkpoints]


def write(root: Path, *folders: str) -> Path:
    for folder in folders:
        write_weights(root / folder / "model.safetensors")
    return root


def test_checkpoints_given_in_an_order_keep_it(tmp_path: Path) -> None:
    write(tmp_path, "step_30", "step_10", "other", "epoch_2")
    given = [tmp_path / name for name in ("step_30", "other", "step_10", "epoch_2")]
    run = discover_run(given, order="given")
    assert (steps(run), names(run)) == ([0, 1, 2, 3], ["step_30", "other", "step_10", "epoch_2"])
    assert mention(run, "numbered from 0 in the order in which they were named")
    assert {ref.stage for ref in run.checkpoints} == {0}


def test_the_same_checkpoint_may_be_given_twice(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    given = [tmp_path / name for name in ("a", "b", "a")]
    assert names(discover_run(given, order="given")) == ["a", "b", "a"]


def test_one_name_for_several_has_no_given_order(tmp_path: Path) -> None:
    write(tmp_path, "step_1", "step_2")
    for target in (tmp_path, tmp_path / "step_*"):
        with pytest.raises(ConfigError, match=r"order: given needs checkpoints that are named"):
            discover_run([target], order="given")
    assert steps(discover_run([tmp_path / "step_2"], order="given")) == [0]


@pytest.mark.parametrize("how", ["directory", "glob", "list"])
def test_names_are_ordered_by_the_value_of_their_numbers(how: str, tmp_path: Path) -> None:
    folders = ["step_9-b", "step_10-a", "step_9-a"]
    write(tmp_path, *folders)
    targets = {
        "directory": [tmp_path],
        "glob": [tmp_path / "step_*"],
        "list": [tmp_path / name for name in folders],
    }[how]
    with pytest.raises(CheckpointError, match="step 9 appears twice"):
        discover_run(targets)
    run = discover_run(targets, order="name")
    assert (steps(run), names(run)) == ([0, 1, 2], ["step_9-a", "step_9-b", "step_10-a"])
    assert mention(run, "numbered from 0 in the order of their names")


def test_numbers_in_an_order_do_not_change_when_a_checkpoint_is_completed(tmp_path: Path) -> None:
    write(tmp_path, "a1", "a2", "a3")
    given = [tmp_path / name for name in ("a1", "a2", "a3")]
    truncate(given[1] / "model.safetensors")
    for name in ("1", "2", "3"):
        (tmp_path / f"a{name}").rename(tmp_path / f"step_{name}")
    run = discover_run([tmp_path], order="name")
    assert (steps(run), [ref.step for ref in run.skipped]) == ([0, 2], [1])


def test_the_steps_of_a_trainer_do_not_count_in_another_order(tmp_path: Path) -> None:
    log = [{"step": 1, "loss": 2.0}]
    for step in (100, 20):
        write_trainer(tmp_path, step, log=log)
    write_trainer(tmp_path, 400, in_name=300, log=log)
    run = discover_run([tmp_path], order="name")
    assert names(run) == ["checkpoint-20", "checkpoint-100", "checkpoint-300"]
    assert (steps(run), run.losses) == ([0, 1, 2], ())
    assert not mention(run, "which counts")
    assert discover_run([tmp_path]).losses == ((1, 2.0),)


def test_an_order_is_an_option_of_the_functions(tmp_path: Path) -> None:
    write(tmp_path, "b", "a")
    given = [str(tmp_path / name) for name in ("b", "a")]
    table = ai.ls(given, order="given").to_arrow("checkpoints")
    assert table.column("path").to_pylist() == ["b", "a"]
    with pytest.raises(ConfigError, match="order: mtime is not known, expected step, name or giv"):
        ai.ls(given, order="mtime")


def test_time_never_orders(tmp_path: Path) -> None:
    write(tmp_path, "step_1", "step_2")
    for name, second in (("step_1", 10**9), ("step_2", 1)):
        os.utime(tmp_path / name, (second, second))
        os.utime(tmp_path / name / "model.safetensors", (second, second))
    assert names(discover_run([tmp_path])) == ["step_1", "step_2"]
    assert names(discover_run([tmp_path], order="name")) == ["step_1", "step_2"]


OLMO2 = (
    "stage1-step10-tokens1B",
    "stage2-ingredient1-step15-tokens1B",
    "stage2-ingredient1-step20-tokens2B",
    "stage2-ingredient2-step15-tokens1B",
    "stage2-ingredient3-step30-tokens1B",
)


def test_branches_are_no_sequence(tmp_path: Path) -> None:
    write(tmp_path, *OLMO2)
    with pytest.raises(CheckpointError) as caught:
        discover_run([tmp_path])
    message = str(caught.value)
    assert "holds 3 branches that were trained beside each other: stage2-ingredient1 (2 " in message
    assert "checkpoints, steps 15 to 20), stage2-ingredient2 (step 15), stage2-ing" in message
    assert "by a glob '*stage2-ingredient1*', or number them all with --order name" in message
    assert len(discover_run([tmp_path], order="name").checkpoints) == 5


def test_one_branch_after_a_stage_is_a_sequence(tmp_path: Path) -> None:
    write(tmp_path, *OLMO2[:3])
    run = discover_run([tmp_path])
    assert [(ref.stage, ref.step) for ref in run.checkpoints] == [(1, 10), (2, 15), (2, 20)]
    (glob,) = [f"{tmp_path}/*ingredient1-*"]
    assert steps(discover_run([glob])) == [15, 20]


@pytest.mark.parametrize("word", ["seed", "branch", "ingredient"])
def test_other_branches(word: str, tmp_path: Path) -> None:
    write(tmp_path, f"{word}1-step5", f"{word}2-step7")
    with pytest.raises(CheckpointError, match=rf"2 branches .*{word}1 \(step 5\), {word}2"):
        discover_run([tmp_path])


def test_many_branches_are_counted(tmp_path: Path) -> None:
    write(tmp_path, *(f"seed{at}-step{at}" for at in range(10)))
    with pytest.raises(CheckpointError, match=r"seed5 \(step 5\) and 4 more, expected"):
        discover_run([tmp_path])


def test_stages_that_start_again_can_be_numbered(tmp_path: Path) -> None:
    write(tmp_path, "stage1-step10", "stage2-step5")
    with pytest.raises(CheckpointError, match="or number them all with --order name"):
        discover_run([tmp_path])
    assert steps(discover_run([tmp_path], order="name")) == [0, 1]


@pytest.mark.parametrize(
    ("saved", "note"),
    [
        ((100, 200, 300, 400), None),
        ((100, 200, 250), None),  # the end of a run is saved whenever it comes
        ((500, 1000), None),
        ((100,), None),
        ((100, 300, 400), "100 apart, but 100 to 300; checkpoints between were not saved"),
        ((100, 200, 250, 300, 400), "50 apart, but 100 to 200, 300 to 400;"),
        ((100, 200, 500, 600, 900), "100 apart, but 200 to 500, 600 to 900;"),
        ((1, 2, 9, 20, 31, 42, 43), "1 apart, but 2 to 9, 9 to 20, 20 to 31 and 1 more;"),
    ],
)
def test_missing_steps_of_a_trainer_are_said(
    saved: tuple[int, ...], note: str | None, tmp_path: Path
) -> None:
    for step in saved:
        write_trainer(tmp_path, step)
    run = discover_run([tmp_path])
    assert steps(run) == sorted(saved)
    assert mention(run, "unevenly spaced") == (note is not None)
    assert note is None or mention(run, note)


def test_uneven_steps_of_others_are_their_own_business(tmp_path: Path) -> None:
    write(tmp_path, "step1", "step2", "step4", "step512")
    assert discover_run([tmp_path]).notes == ()
