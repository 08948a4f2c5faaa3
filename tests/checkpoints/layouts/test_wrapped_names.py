"""A run whose layers are renamed by wrappers on the way is the same run."""

from collections.abc import Callable
from pathlib import Path

import pytest

import altgrad_inspect as ai
from tests.checkpoints.layouts.plain_twin import assert_same_as_plain, train
from tests.checkpoints.runs_on_disk import write_json, write_weights

SHAPES = {
    "model.layers.0.mlp.up_proj.weight": (8, 6),
    "model.layers.1.mlp.up_proj.weight": (8, 6),
    "model.module_list.weight": (4, 4),
    "lm_head.weight": (9, 6),
}
WRAPS: tuple[Callable[[str], str], ...] = (
    lambda name: f"module.{name}",  # DataParallel
    lambda name: f"_orig_mod.{name}",  # torch.compile
    lambda name: f"module._orig_mod._fsdp_wrapped_module.{name}",
    lambda name: name.replace(".mlp", "._fsdp_wrapped_module._checkpoint_wrapped_module.mlp"),
    lambda name: name,
)


def test_wrappers_that_come_and_go_are_the_same_run(tmp_path: Path) -> None:
    run = train(SHAPES, range(10, 60, 10))
    for wrap, (step, layers) in zip(WRAPS, run.items(), strict=True):
        stored = {wrap(name): weights for name, weights in layers.items()}
        write_weights(tmp_path / "run" / f"checkpoint-{step}" / "model.safetensors", stored)
    assert_same_as_plain(tmp_path / "run", run, tmp_path / "plain")


def test_wrappers_in_components_and_adapters_come_and_go_too(tmp_path: Path) -> None:
    name = "base_model.model.q_proj"
    run = train(
        {f"unet.{name}.lora_A.weight": (2, 6), f"unet.{name}.lora_B.weight": (5, 2)}, [1, 2]
    )
    for prefix, (step, layers) in zip(("module.", ""), run.items(), strict=True):
        stored = {
            f"{prefix}{layer.removeprefix('unet.')}": weights for layer, weights in layers.items()
        }
        directory = tmp_path / "run" / f"step_{step}" / "unet"
        write_weights(directory / "adapter_model.safetensors", stored)
        write_json(directory / "adapter_config.json", {"r": 2, "lora_alpha": 4})
    assert_same_as_plain(tmp_path / "run", run, tmp_path / "plain")
    rows = ai.flips(tmp_path / "run", adapters="merged").to_pandas("flips")
    assert list(rows["layer"]) == [f"unet.{name}.lora_update"]
    assert list(rows["status"]) == ["ok"]


def test_names_that_would_become_one_stay_apart_in_every_table(tmp_path: Path) -> None:
    run = train({"a.weight": (3, 4), "module.a.weight": (3, 4)}, [1, 2, 3])
    for step, layers in run.items():
        write_weights(tmp_path / f"step_{step}.safetensors", layers)
    results = ai.rank(tmp_path)
    rows = results.to_pandas("ranks")
    assert sorted(rows["layer"]) == ["a.weight"] * 3 + ["module.a.weight"] * 3
    assert any("'module.a.weight' keeps its stored name" in note for note in results.notes)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod."])
def test_a_wrapper_within_one_checkpoint_only_on_some_layers(wrapper: str, tmp_path: Path) -> None:
    run = train(SHAPES, [1, 2, 3])
    for step, layers in run.items():
        stored = {
            f"{wrapper}{name}" if number == step % 4 else name: weights
            for number, (name, weights) in enumerate(layers.items())
        }
        write_weights(tmp_path / "run" / f"step_{step}.safetensors", stored)
    assert_same_as_plain(tmp_path / "run", run, tmp_path / "plain")
