"""Flat files of every style: the step in their names, and what in them is no step."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import altgrad_inspect as ai
from altgrad_inspect.checkpoints.checkpoint import open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.layouts.step_names import parse_step_name
from altgrad_inspect.errors import CheckpointError, InspectError, NothingMatchedError
from tests.checkpoints.layouts.plain_twin import Run, assert_same_as_plain, train
from tests.checkpoints.runs_on_disk import (
    mention,
    steps,
    tensors,
    truncate,
    write_json,
    write_weights,
)

SHAPES = {"embed.weight": (6, 4), "head.weight": (5, 6)}
UUID = "550e8400-e29b-41d4-a716-446655440000"


@pytest.mark.parametrize(
    ("name", "step"),
    [
        # precisions at the end
        ("model_100_bf16", 100),
        ("model_100-4bit", 100),
        ("model_100.8-bit", 100),
        ("model_100_fp8_e4m3fn", 100),
        ("model_100-fp8-e5m2", 100),
        ("model_100_e4m3", 100),
        ("model_100-mxfp4", 100),
        ("model_100_nvfp4", 100),
        ("model_100_nf4", 100),
        ("model_bf16", None),
        # dates and times
        ("model_20240115_100", 100),
        ("100_20240115", 100),
        ("100_2024-01-15", 100),
        ("2024-01-15_100", 100),
        ("ckpt-20240115-100", 100),
        ("run_2024-01-15_12-30-05_step100", 100),
        ("model_100-20240115T123005", 100),
        ("model_100_2024_01_15", 100),
        ("model_20240115_123005", None),
        ("model_2024-01-15", None),
        ("model_2024-01-15T1230", None),
        ("model_20240115", 20240115),
        ("20240115", 20240115),
        ("llama2_20240115", 20240115),
        ("step_20240115", 20240115),
        ("model_20240115_100000", 100000),
        ("model_20240115_1000", 1000),
        ("model_20240115_250000", 250000),
        ("model_20241315_7", 7),  # no such month
        ("model_20241315", 20241315),
        # hashes
        ("model_3f2a1b9", None),
        ("model_100_3f2a1b9", 100),
        ("model-3f2a1b9-step_7", 7),
        ("decade100", 100),
        (f"model_{UUID}", None),
        (f"model_{UUID}_12", 12),
        ("model_123456789012345678901234", None),
        # as ever
        ("model_step100", 100),
        ("step_000100", 100),
        ("learned_embeds-steps-500", 500),
        ("epoch=1-step=500", 500),
        ("v2-100", 100),
    ],
)
def test_the_step_in_a_name(name: str, step: int | None) -> None:
    found = parse_step_name(name)
    assert (found.step if found else None) == step


@pytest.mark.parametrize(
    "style",
    [
        *("step_{:06}", "model_step{}", "{}", "{:04}", "ckpt-{}", "w-{}-bf16", "w.{}.fp8_e4m3fn"),
        *("llama-7b-{}-base", "step{}of900", "run_20240115_{}", "{}_2024-01-15", "m_3f2a1b9_{}"),
        *("epoch={:02}-step={}", "Modell über {}", "a_100_b_{}", "x-{}-4bit"),
    ],
)
def test_flat_files_of_every_style_are_the_same_run(style: str, tmp_path: Path) -> None:
    run = train(SHAPES, (7, 90, 800))
    for step, layers in run.items():
        count = style.count("{")
        write_weights(tmp_path / "run" / f"{style.format(*[step] * count)}.safetensors", layers)
    assert steps(discover_run([tmp_path / "run"])) == [7, 90, 800]
    assert_same_as_plain(tmp_path / "run", run, tmp_path / "plain")


def write_group(directory: Path, stem: str, layers: Mapping[str, Tensor]) -> None:
    for number, (name, one) in enumerate(layers.items(), start=1):
        file = f"{stem}-{number:05}-of-{len(layers):05}.safetensors"
        write_weights(directory / file, {name: one})


def write_groups(directory: Path, style: str = "model-step{}") -> Run:
    run = train(SHAPES, (7, 90, 800))
    for step, layers in run.items():
        write_group(directory, style.format(step), layers)
    return run


@pytest.mark.parametrize("style", ["model-step{}", "llama-{}", "qwen2-base-{}-bf16", "{:05}"])
def test_shards_of_several_steps_are_one_checkpoint_a_step(style: str, tmp_path: Path) -> None:
    run = write_groups(tmp_path / "run", style)
    found = discover_run([tmp_path / "run"])
    assert steps(found) == [7, 90, 800]
    assert [len(ref.files) for ref in found.checkpoints] == [2, 2, 2]
    assert found.notes == ()
    assert_same_as_plain(tmp_path / "run", run, tmp_path / "plain")


def test_shards_of_one_step_are_found_by_a_glob_by_one_of_them_and_for_diff(
    tmp_path: Path,
) -> None:
    run = write_groups(tmp_path / "run")
    pattern = str(tmp_path / "run" / "*.safetensors")
    assert_same_as_plain(pattern, run, tmp_path / "plain")
    one = str(tmp_path / "run" / "model-step90-*.safetensors")
    assert steps(discover_run([one])) == [90]
    shard = tmp_path / "run" / "model-step90-00002-of-00002.safetensors"
    assert [len(ref.files) for ref in discover_run([shard]).checkpoints] == [2]
    later = tmp_path / "run" / "model-step800-00001-of-00002.safetensors"
    assert steps(discover_run([shard, later])) == [90, 800]
    table = ai.diff(one, later).to_pandas("flips")
    assert set(zip(table["step_from"], table["step_to"], strict=True)) == {(90, 800)}
    assert set(table["layer"]) == set(SHAPES)


def test_a_group_with_a_missing_or_damaged_shard_is_left_out(tmp_path: Path) -> None:
    write_groups(tmp_path)
    (tmp_path / "model-step7-00002-of-00002.safetensors").unlink()
    truncate(tmp_path / "model-step90-00001-of-00002.safetensors")
    run = discover_run([tmp_path])
    assert steps(run) == [800]
    reasons = [str(ref.reason) for ref in run.skipped]
    assert "the shard 'model-step7-00002-of-00002.safetensors' of 2 is missing" in reasons[0]
    assert "is truncated" in reasons[1]


def test_a_group_may_have_an_index(tmp_path: Path) -> None:
    write_groups(tmp_path)
    files = {
        name: f"model-step7-{number:05}-of-00002.safetensors"
        for number, name in enumerate(SHAPES, start=1)
    }
    write_json(tmp_path / "model-step7.safetensors.index.json", {"weight_map": files})
    (ref, *_) = discover_run([tmp_path]).checkpoints
    assert ref.layer_files == files


def test_a_whole_file_comes_before_its_shards(tmp_path: Path) -> None:
    write_groups(tmp_path)
    write_weights(tmp_path / "model-step7.safetensors", tensors(1.0))
    run = discover_run([tmp_path])
    assert [len(ref.files) for ref in run.checkpoints] == [1, 2, 2]
    assert sum("is not read" in note for note in run.notes) == 2


def test_shards_of_one_model_beside_flat_files_are_no_step(tmp_path: Path) -> None:
    write_group(tmp_path, "model", tensors())
    write_group(tmp_path, "qwen2", tensors())
    write_weights(tmp_path / "step_4.safetensors")
    run = discover_run([tmp_path])
    assert steps(run) == [4]
    assert sum("has no step in its name and is not read" in note for note in run.notes) == 4


@pytest.mark.parametrize("stem", ["qwen2", "llama-7b", "weights"])
def test_shards_of_any_name_alone_in_a_directory_are_one_checkpoint(
    stem: str, tmp_path: Path
) -> None:
    write_group(tmp_path / "checkpoint-5", stem, tensors())
    for target in (tmp_path, tmp_path / "checkpoint-5"):
        (ref,) = discover_run([target]).checkpoints
        assert (ref.step, len(ref.files)) == (5, 2)


def test_a_step_with_several_files_of_unknown_names_says_so(tmp_path: Path) -> None:
    for step in (1, 2):
        for name in ("actor", "critic"):
            write_weights(tmp_path / f"step_{step}" / f"{name}.safetensors")
    write_weights(tmp_path / "step_3" / "model.safetensors")
    run = discover_run([tmp_path])
    assert steps(run) == [3]
    assert "step_1: holds 2 safetensors files, actor.safetensors, critic." in str(
        run.skipped[0].reason
    )
    assert steps(discover_run([str(tmp_path / "*" / "actor.safetensors")])) == [1, 2]


def test_an_average_beside_the_weights_is_set_aside_unless_a_glob_asks_for_it(
    tmp_path: Path,
) -> None:
    run = train(SHAPES, (100, 200))
    for step, layers in run.items():
        write_weights(tmp_path / "run" / f"ckpt-{step}.safetensors")
        write_weights(tmp_path / "run" / f"ckpt-{step}-ema.safetensors", layers)
    found = discover_run([tmp_path / "run"])
    assert steps(found) == [100, 200]
    assert mention(found, "ckpt-100-ema.safetensors: not a step of the run by its name")
    assert steps(discover_run([str(tmp_path / "run" / "*.safetensors")])) == [100, 200]
    assert_same_as_plain(str(tmp_path / "run" / "*-ema.safetensors"), run, tmp_path / "plain")


@pytest.mark.parametrize("target", [".", "*.safetensors", "*_[0-9]*"])
def test_files_of_several_models_need_a_choice(target: str, tmp_path: Path) -> None:
    for step in (100, 200):
        write_weights(tmp_path / f"unet_{step}.safetensors")
        write_weights(tmp_path / f"vae_{step:06}.safetensors")
    with pytest.raises(CheckpointError) as caught:
        discover_run([str(tmp_path / target)])
    message = str(caught.value)
    assert "holds files of 2 kinds for the same steps: unet_*.safetensors, vae_*.safe" in message
    example = message.split("'")[1]
    assert steps(discover_run([example])) == [100, 200]


def test_a_glob_of_files_with_their_step_in_the_middle_is_in_order(tmp_path: Path) -> None:
    for step in (20, 100):
        write_weights(tmp_path / f"llama-{step}-base.safetensors")
    for target in ([f"{tmp_path}/*"], sorted(tmp_path.iterdir())):
        assert steps(discover_run(target)) == [20, 100]


def test_the_glob_that_an_error_names_works_whatever_the_names(tmp_path: Path) -> None:
    directory = tmp_path / "run [a]*"
    for kind in ("b[1]-{}-base", "c?-{}-bf16"):
        for step in (100, 200):
            write_weights(directory / f"{kind.format(step)}.safetensors")
    with pytest.raises(CheckpointError, match="holds files of 2 kinds") as caught:
        discover_run([directory])
    assert steps(discover_run([str(caught.value).split("'")[1]])) == [100, 200]


def test_groups_of_several_models_need_a_choice_too(tmp_path: Path) -> None:
    for step in (100, 200):
        for kind in ("unet", "vae"):
            write_group(tmp_path, f"{kind}_{step}", tensors())
    with pytest.raises(CheckpointError, match=r"unet_\*-\*.safetensors, vae_") as caught:
        discover_run([tmp_path])
    assert steps(discover_run([str(caught.value).split("'")[1]])) == [100, 200]


def test_two_precisions_of_the_same_steps_need_a_choice(tmp_path: Path) -> None:
    for precision in ("bf16", "fp32"):
        write_weights(tmp_path / f"model_100_{precision}.safetensors")
    with pytest.raises(CheckpointError, match="holds files of 2 kinds for the same steps"):
        discover_run([tmp_path])


def test_the_same_step_twice_in_one_family_is_an_error(tmp_path: Path) -> None:
    for name in ("step_1", "step_01"):
        write_weights(tmp_path / f"{name}.safetensors")
    with pytest.raises(CheckpointError, match="step 1 appears twice"):
        discover_run([tmp_path])


def test_files_called_by_dates_or_hashes_alone_are_no_run(tmp_path: Path) -> None:
    for name in ("model_2024-01-15", "model_2024-02-01", "model_3f2a1b9"):
        write_weights(tmp_path / f"{name}.safetensors")
    with pytest.raises(NothingMatchedError, match="tell no steps: name the files one by one"):
        discover_run([tmp_path])
    named = [tmp_path / f"model_2024-0{month}.safetensors" for month in ("1-15", "2-01")]
    assert steps(discover_run(named)) == [0, 1]


words = st.sampled_from(
    [
        *("model", "unet", "step", "ckpt", "epoch", "ema", "best", "stage", "adapter_model"),
        *("bf16", "fp8", "e4m3", "20240115", "2024-01-15", "3f2a1b9", "00001-of-00002"),
        *("00002-of-00002", "7", "0007", "100", "123456789012345678", "x", "", "é", "[1]", "*"),
    ]
)
names = st.builds(
    lambda parts, mark: mark.join(parts),
    st.lists(words, min_size=1, max_size=4),
    st.sampled_from("-_."),
).filter(lambda name: name.strip(".") != "" and not name.startswith("."))


@given(files=st.sets(names, min_size=1, max_size=6), nested=st.sets(names, max_size=2))
@settings(max_examples=300)
def test_whatever_files_are_called_nothing_crashes_and_no_weight_counts_twice(
    files: set[str], nested: set[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("run")
    for number, name in enumerate(sorted(files)):
        write_weights(
            directory / f"{name}.safetensors", {f"layer{number}": tensors()["head.weight"]}
        )
    for name in sorted(nested):
        write_weights(directory / f"{name}.d" / "model.safetensors")
    for target in (str(directory), f"{directory}/*.safetensors", f"{directory}/**/*.safetensors"):
        try:
            run = discover_run([target])
        except InspectError:
            continue
        used = [file for ref in run.checkpoints for file in ref.files]
        assert len(used) == len({file.resolve() for file in used})
        assert len({(ref.stage, ref.step) for ref in run.checkpoints}) == len(run.checkpoints)
        layers = [name for ref in run.checkpoints for name in open_checkpoint(ref).layers]
        stored = [name for name in layers if name.startswith("layer")]
        assert len(stored) == len(set(stored))
