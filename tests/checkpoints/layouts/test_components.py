"""Several models side by side in one checkpoint: diffusers, pipelines, adapters by name."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

import altgrad_inspect as ai
from altgrad_inspect.checkpoints.checkpoint import open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.layer_reader import LayerReader
from altgrad_inspect.errors import CheckpointError, NothingMatchedError
from tests.checkpoints.layouts.plain_twin import Run, assert_same_as_plain, train
from tests.checkpoints.runs_on_disk import (
    layouts,
    mention,
    steps,
    tensors,
    truncate,
    write_json,
    write_weights,
)

STEPS = (500, 1000, 1500)
SHAPES = {
    "unet.conv_in.weight": (8, 4, 3, 3),
    "unet.down_blocks.0.attentions.0.to_q.weight": (16, 12),
    "text_encoder.text_model.embeddings.token_embedding.weight": (20, 8),
    "text_encoder.conv_in.weight": (6, 6),  # the same name in another component
}
FILES = {"unet": "diffusion_pytorch_model", "text_encoder": "model"}


def part(layers: Mapping[str, Tensor], component: str) -> dict[str, Tensor]:
    start = f"{component}."
    return {name.removeprefix(start): one for name, one in layers.items() if name.startswith(start)}


def write_components(checkpoint: Path, layers: Mapping[str, Tensor], *, shards: bool) -> None:
    for component, stem in FILES.items():
        content = part(layers, component)
        if not shards:
            write_weights(checkpoint / component / f"{stem}.safetensors", content)
            continue
        files = {
            name: f"{stem}-{number:05}-of-{len(content):05}.safetensors"
            for number, name in enumerate(content, start=1)
        }
        for name, file in files.items():
            write_weights(checkpoint / component / file, {name: content[name]})
        index = {"metadata": {}, "weight_map": files}
        write_json(checkpoint / component / f"{stem}.safetensors.index.json", index)


def write_run(directory: Path, *, shards: bool = False) -> Run:
    run = train(SHAPES, STEPS)
    for step, layers in run.items():
        checkpoint = directory / f"checkpoint-{step}"
        write_components(checkpoint, layers, shards=shards)
        average = {name: 0.5 * one for name, one in part(layers, "unet").items()}
        write_weights(checkpoint / "unet_ema" / "diffusion_pytorch_model.safetensors", average)
        for name in ("optimizer.bin", "scheduler.bin", "random_states_0.pkl"):
            (checkpoint / name).write_bytes(b"\x80\x02")
        (checkpoint / "tokenizer").mkdir()
    return run


@pytest.mark.parametrize("shards", [False, True])
def test_components_give_the_tables_of_plain_files(tmp_path: Path, *, shards: bool) -> None:
    run = write_run(tmp_path / "run", shards=shards)
    assert_same_as_plain(tmp_path / "run", run, tmp_path / "plain")
    found = discover_run([tmp_path / "run"])
    assert layouts(found) == {"diffusers"}
    assert found.skipped == ()
    (note,) = found.notes
    assert note.startswith("unet_ema/: a copy that is kept apart")


def test_the_average_is_read_when_a_glob_names_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    halves = {
        step: {name: 0.5 * one for name, one in part(layers, "unet").items()}
        for step, layers in run.items()
    }
    pattern = str(tmp_path / "run" / "checkpoint-*" / "unet_ema")
    assert_same_as_plain(pattern, halves, tmp_path / "plain")
    paths = list(ai.ls(pattern).to_pandas("checkpoints")["path"])
    assert paths == [f"checkpoint-{step}/unet_ema" for step in STEPS]


def test_one_component_is_read_when_it_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    only = {step: part(layers, "unet") for step, layers in run.items()}
    assert_same_as_plain(str(tmp_path / "run" / "*" / "unet"), only, tmp_path / "plain")
    alone = discover_run([tmp_path / "run" / "checkpoint-1000" / "unet"])
    assert steps(alone) == [1000]


def test_a_pipeline_is_one_checkpoint(tmp_path: Path) -> None:
    layers = train(SHAPES, [0])[0]
    write_components(tmp_path, layers, shards=False)
    write_json(tmp_path / "model_index.json", {"_class_name": "StableDiffusionPipeline"})
    write_json(tmp_path / "scheduler" / "scheduler_config.json", {})
    for name in ("v1-5.safetensors", "v1-5-emaonly.safetensors"):  # whole copies of the pipeline
        write_weights(tmp_path / name)
    (ref,) = discover_run([tmp_path]).checkpoints
    assert (ref.layout, ref.step, len(ref.files)) == ("diffusers", 0, 2)
    assert set(open_checkpoint(ref).layers) == set(SHAPES)


def test_a_pipeline_beside_the_checkpoints_is_noted_and_not_a_step(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    write_components(tmp_path, run[1500], shards=False)
    write_json(tmp_path / "model_index.json", {})
    found = discover_run([tmp_path])
    assert steps(found) == list(STEPS)
    assert mention(found, "model_index.json: a model beside the checkpoints is not a step")


def test_steps_beside_a_pipeline_are_no_components_of_it(tmp_path: Path) -> None:
    write_components(tmp_path / "out", train(SHAPES, [0])[0], shards=False)
    write_json(tmp_path / "out" / "model_index.json", {})
    write_weights(tmp_path / "out" / "checkpoint-5" / "model.safetensors")
    other = write_weights(tmp_path / "other.safetensors")
    pipeline, _ = discover_run([tmp_path / "out", other]).checkpoints
    assert {file.parent.name for file in pipeline.files} == set(FILES)


def test_components_without_a_pipeline_file_are_one_checkpoint(tmp_path: Path) -> None:
    write_components(tmp_path / "out", train(SHAPES, [0])[0], shards=False)
    (ref,) = discover_run([tmp_path / "out"]).checkpoints
    assert ref.layout == "diffusers"


def test_runs_side_by_side_are_not_components(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_weights(tmp_path / name / "model.safetensors")
    with pytest.raises(NothingMatchedError, match="did you mean"):
        discover_run([tmp_path])


def test_adapters_by_name_and_other_models_of_a_step_are_components(tmp_path: Path) -> None:
    for step in (1, 2):
        for name in ("policy", "reference"):
            file = tmp_path / f"checkpoint-{step}" / name / "adapter_model.safetensors"
            write_weights(file, tensors(step))
    checkpoint = open_checkpoint(discover_run([tmp_path]).checkpoints[1])
    assert list(checkpoint.layers) == [
        *("policy.embed.weight", "policy.head.weight"),
        *("reference.embed.weight", "reference.head.weight"),
    ]


def test_a_model_alone_in_a_directory_of_a_step_keeps_its_names(tmp_path: Path) -> None:
    write_weights(tmp_path / "global_step_5" / "huggingface" / "model.safetensors")
    (tmp_path / "global_step_5" / "optimizer").mkdir()
    checkpoint = open_checkpoint(discover_run([tmp_path]).checkpoints[0])
    assert list(checkpoint.layers) == ["embed.weight", "head.weight"]


def test_weights_of_the_checkpoint_itself_come_before_directories(tmp_path: Path) -> None:
    write_weights(tmp_path / "checkpoint-1" / "model.safetensors", tensors(1.0))
    write_weights(tmp_path / "checkpoint-1" / "unet" / "diffusion_pytorch_model.safetensors")
    (ref,) = discover_run([tmp_path]).checkpoints
    assert [file.name for file in ref.files] == ["model.safetensors"]


def test_a_truncated_or_missing_part_of_a_component_leaves_the_checkpoint_out(
    tmp_path: Path,
) -> None:
    write_run(tmp_path, shards=True)
    shard = "diffusion_pytorch_model-00002-of-00002.safetensors"
    truncate(tmp_path / "checkpoint-500" / "unet" / shard)
    (tmp_path / "checkpoint-1000" / "unet" / shard).unlink()
    run = discover_run([tmp_path])
    assert steps(run) == [1500]
    reasons = [str(ref.reason) for ref in run.skipped]
    assert "is truncated" in reasons[0]
    assert f"the shard '{shard}' that the index names is missing" in reasons[1]


def test_a_layer_that_the_index_of_a_component_lacks_is_an_error(tmp_path: Path) -> None:
    write_run(tmp_path, shards=True)
    shard = "model-00001-of-00002.safetensors"
    write_weights(tmp_path / "checkpoint-500" / "text_encoder" / shard, {"x": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="lacks the layer"):
        discover_run([tmp_path / "checkpoint-500"])


def test_components_in_pickles_are_answered_and_never_opened(tmp_path: Path) -> None:
    pickle = tmp_path / "checkpoint-5" / "unet" / "diffusion_pytorch_model.bin"
    pickle.parent.mkdir(parents=True)
    pickle.write_bytes(b"\x80\x02")
    for target in (tmp_path, tmp_path / "checkpoint-5"):
        with pytest.raises(
            CheckpointError, match=r"holds unet/diffusion_pytorch_model.bin, a pick"
        ):
            discover_run([target])
    write_run(tmp_path)
    run = discover_run([tmp_path])
    assert steps(run) == list(STEPS)
    assert "which can run code and is never opened" in str(run.skipped[0].reason)


def test_values_come_from_the_right_component(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    checkpoint = open_checkpoint(discover_run([tmp_path]).checkpoints[0])
    with LayerReader(torch.device("cpu")) as reader:
        for name, layer in checkpoint.layers.items():
            assert torch.equal(reader.load(layer).values, run[500][name])
