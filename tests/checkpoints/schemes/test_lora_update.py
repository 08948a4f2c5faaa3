"""The updates that LoRA adapters make, against PEFT's own and against numpy.

What PEFT gives is in ``tests/data/lora_update``, written by ``generate.py`` there.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import altgrad_inspect as ai
from altgrad_inspect.checkpoints.checkpoint import Checkpoint, open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.layer_reader import LayerReader
from altgrad_inspect.checkpoints.schemes.adapter_configuration import parse_adapter_config
from altgrad_inspect.errors import CheckpointError, ConfigError
from tests.checkpoints.layouts.plain_twin import assert_same_as_plain, train
from tests.checkpoints.runs_on_disk import write_json, write_weights

DATA = Path(__file__).parents[2] / "data" / "lora_update"
Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj"
SHAPES = {f"{Q_PROJ}.lora_A.weight": (3, 16), f"{Q_PROJ}.lora_B.weight": (12, 3)}
CONFIG: Mapping[str, object] = {"peft_type": "LORA", "r": 3, "lora_alpha": 5}


def open_merged(path: Path) -> Checkpoint:
    return open_checkpoint(discover_run([path]).checkpoints[0], merges_adapters=True)


def load_updates(path: Path) -> dict[str, Tensor]:
    with LayerReader(torch.device("cpu")) as reader:
        return {
            name: reader.load(layer).values.clone()
            for name, layer in open_merged(path).layers.items()
        }


@pytest.mark.parametrize(
    "name",
    ["plain", "rslora", "patterns", "bfloat16", "float16", "float64", "transposed"],
)
def test_updates_are_those_of_peft_bit_for_bit(name: str) -> None:
    expected = load_file(DATA / name / "updates.safetensors")
    found = load_updates(DATA / name / "adapter_model.safetensors")
    for module, update in expected.items():
        mine = found.pop(f"base_model.model.{module}.lora_update")
        assert mine.dtype == torch.float32
        assert mine.shape == update.shape
        if update.dtype == torch.float64:
            assert torch.equal(mine, update.float())
        else:  # PEFT rounds to the dtype of the adapter, which is float32 or shorter
            assert torch.equal(mine.to(update.dtype), update)
    left = {"base_model.model.score.weight", "base_model.model.score.bias"}
    assert set(found) == (left if name == "plain" else set())


def write_adapter(checkpoint: Path, layers: Mapping[str, Tensor], **config: object) -> Path:
    write_weights(checkpoint / "adapter_model.safetensors", layers)
    write_json(checkpoint / "adapter_config.json", {**CONFIG, **config})
    return checkpoint


@pytest.mark.parametrize("rslora", [False, True])
def test_the_run_of_the_updates_is_that_of_plain_files(tmp_path: Path, *, rslora: bool) -> None:
    run = train(SHAPES, (100, 200, 300))
    updates = {}
    for step, layers in run.items():
        directory = tmp_path / "run" / f"checkpoint-{step}"
        write_adapter(directory, layers, use_rslora=rslora)
        a, b = (layers[name].numpy() for name in SHAPES)
        product = np.zeros((12, 16), dtype=np.float32)
        for row, column in np.ndindex(product.shape):
            product[row, column] = np.float32(math.fsum(b[row] * a[:, column].astype(np.float64)))
        scaled = product * np.float32(5 / math.sqrt(3) if rslora else 5 / 3)
        (mine,) = load_updates(directory).values()
        assert np.abs(mine.numpy() - scaled).max() <= 4e-7 * np.abs(scaled).max()
        updates[step] = {f"{Q_PROJ}.lora_update": mine}
    assert_same_as_plain(tmp_path / "run", updates, tmp_path / "plain", adapters="merged")
    found = ai.flips(tmp_path / "run", quant=["auto", "int8:channel"], adapters="merged")
    assert set(found.to_pandas("flips")["quantizer"]) == {"e4m3:tensor:amax", "int8:channel:amax"}
    assert set(found.to_pandas("checkpoints")["scheme"]) == {"lora-update"}
    (note,) = (one for one in found.notes if "merged weights would need the base model" in one)
    assert note.startswith("3 checkpoints, steps 100 to 300: layers called lora_update are updates")


def test_matrices_are_layers_as_they_are_unless_updates_are_asked_for(tmp_path: Path) -> None:
    run = train(SHAPES, (100, 200, 300))
    for step, layers in run.items():
        write_adapter(tmp_path / "run" / f"checkpoint-{step}", layers)
    assert_same_as_plain(tmp_path / "run", run, tmp_path / "plain")


def test_diff_and_sweep_see_updates_too(tmp_path: Path) -> None:
    paths = [
        write_adapter(tmp_path / f"checkpoint-{step}", layers)
        for step, layers in train(SHAPES, (1, 2)).items()
    ]
    for table in (
        ai.diff(*paths, adapters="merged").to_pandas("diff"),
        ai.sweep(tmp_path, adapters="merged").to_pandas("sweep_layers"),
    ):
        assert set(table["layer"]) == {f"{Q_PROJ}.lora_update"}
    with pytest.raises(ConfigError, match="adapters: fused is not known, expected stored or merg"):
        ai.ls(tmp_path, adapters="fused")


def test_an_adapter_of_diffusers_carries_its_configuration(tmp_path: Path) -> None:
    name = "unet.mid_block.to_q"
    layers = train({f"{name}.lora_A.weight": (2, 5), f"{name}.lora_B.weight": (4, 2)}, [0])[0]
    packed = {"unet.r": 2, "unet.lora_alpha": 3, "unet.alpha_pattern": {"mid_block.to_q": 8}}
    file = tmp_path / "checkpoint-1" / "pytorch_lora_weights.safetensors"
    write_weights(file, layers, lora_adapter_metadata=json.dumps(packed), format="pt")
    found = load_updates(tmp_path)[f"{name}.lora_update"]
    a, b = layers.values()
    assert torch.equal(found, (b @ a) * 4.0)
    write_weights(file, layers, lora_adapter_metadata="{")
    with pytest.raises(CheckpointError, match="lora_adapter_metadata of unet: is not valid JSON"):
        open_merged(tmp_path)
    write_weights(file, layers)
    with pytest.raises(CheckpointError, match=r"adapter_config.json: is missing, expected it besi"):
        open_merged(tmp_path)


def test_adapters_by_name_have_their_own_configuration(tmp_path: Path) -> None:
    layers = train(SHAPES, [0])[0]
    step = tmp_path / "checkpoint-1"
    write_adapter(step / "policy", layers, lora_alpha=3)
    write_adapter(step / "reference", layers, lora_alpha=6)
    found = load_updates(tmp_path)
    one, other = (found[f"{name}.{Q_PROJ}.lora_update"] for name in ("policy", "reference"))
    assert torch.equal(2 * one, other)


def test_the_name_of_an_adapter_and_wrappers_may_stand_in_the_names(tmp_path: Path) -> None:
    stored = "_orig_mod.base_model.model.a._checkpoint_wrapped_module.q"
    layers = {
        f"{stored}.lora_A.default.weight": torch.ones(3, 4),
        f"{stored}.lora_B.default.weight": torch.ones(5, 3),
        f"{stored}.base_layer.weight": torch.ones(5, 4),
        "b.lora_A.weight": torch.ones(3, 4),  # alone
    }
    write_adapter(tmp_path, layers, alpha_pattern={"a.q": 7})
    layer = open_merged(tmp_path).layers
    assert sorted(layer) == [
        *("b.lora_A.weight", "base_model.model.a.q.base_layer.weight"),
        "base_model.model.a.q.lora_update.default",
    ]
    assert layer["base_model.model.a.q.lora_update.default"].facts["scaling"] == 7 / 3


def test_an_adapter_that_needs_its_base_model_is_left_out_with_the_reason() -> None:
    checkpoint = open_merged(DATA / "dora" / "adapter_model.safetensors")
    assert {row.reason for row in checkpoint.left_out} == {
        "its LoRA update is not computed: DoRA scales it by norms of the base model's weights"
    }
    assert len(checkpoint.left_out) == 4
    assert all(name.endswith("lora_magnitude_vector") for name in checkpoint.layers)


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        (((4, 16), (12, 4)), "its matrices have rank 4, and its configuration says 3"),
        (((3, 16), (12, 2)), r"A and B of shapes [3, 16] and [12, 2] do not fit"),
        (((3, 16), (12, 3, 1, 1)), "do not fit"),
        (((3, 4, 3, 3), (12, 3, 2, 1)), "do not fit"),
        (((3,), (3,)), "do not fit"),
    ],
)
def test_matrices_that_do_not_fit_are_left_out(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], reason: str, tmp_path: Path
) -> None:
    layers = dict(zip(SHAPES, map(torch.ones, shapes), strict=True))
    layers["good.lora_A.weight"], layers["good.lora_B.weight"] = torch.ones(3, 2), torch.ones(2, 3)
    checkpoint = open_merged(write_adapter(tmp_path, layers))
    assert list(checkpoint.layers) == ["good.lora_update"]
    assert len(checkpoint.left_out) == 2
    assert all(reason in row.reason for row in checkpoint.left_out)


def test_codes_are_no_matrices(tmp_path: Path) -> None:
    layers = {
        name: torch.ones(shape).to(torch.float8_e4m3fn)
        for name, shape in zip(SHAPES, SHAPES.values(), strict=True)
    }
    checkpoint = open_merged(write_adapter(tmp_path, layers))
    assert not checkpoint.layers
    assert "its matrices are F8_E4M3 and F8_E4M3, expected floats" in checkpoint.left_out[0].reason


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "IA3"}, "is of an adapter of type IA3, expected LORA"),
        ({"r": 0}, "r: is 0, expected a whole number of at least 1"),
        ({"r": True}, "r: is True, expected a whole number"),
        ({"r": 2.0}, r"r: is 2.0, expected a whole number"),
        ({"lora_alpha": None}, "lora_alpha: is None, expected a number"),
        ({"lora_alpha": 10**400}, "lora_alpha: is 1000"),
        ({"lora_alpha": math.nan}, "lora_alpha: is nan, expected a number"),
        ({"rank_pattern": [1]}, r"rank_pattern: is \[1\], expected an object"),
        ({"rank_pattern": {"q": "4"}}, "rank_pattern: is '4', expected a whole number"),
        ({"alpha_pattern": {"(": 4}}, "expected names of modules or simple regular expressions"),
        ({"alpha_pattern": {"(a+)+(b+)+": 4}}, "expected names of modules or simple"),
        ({"alpha_pattern": {"(?:a)": 4}}, "expected names of modules or simple"),
        ({"alpha_pattern": {"a" * 300: 4}}, "expected names of modules or simple"),
    ],
)
def test_a_configuration_that_peft_would_not_write_is_an_error(
    config: Mapping[str, object], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        parse_adapter_config({**CONFIG, **config}, "adapter_config.json")


def test_an_init_that_changes_the_base_model_is_noted(tmp_path: Path) -> None:
    layers = train(SHAPES, [0])[0]
    notes = open_merged(write_adapter(tmp_path, layers, init_lora_weights="pissa_niter_4")).notes
    assert any("relative to the base model after that took its part off" in one for one in notes)
    notes = open_merged(write_adapter(tmp_path, layers, init_lora_weights=True)).notes
    assert not any("relative to" in one for one in notes)


def test_a_checkpoint_without_its_configuration_fails_and_the_others_do_not(
    tmp_path: Path,
) -> None:
    for step, layers in train(SHAPES, (1, 2, 3)).items():
        write_adapter(tmp_path / f"checkpoint-{step}", layers)
    (tmp_path / "checkpoint-2" / "adapter_config.json").unlink()
    results = ai.rank(tmp_path, adapters="merged")
    assert list(results.to_pandas("ranks")["step"]) == [1, 3]
    checkpoints = results.to_pandas("checkpoints")
    assert list(checkpoints["status"]) == ["ok", "failed", "ok"]
    assert len(ai.rank(tmp_path).to_pandas("ranks")) == 6


def test_a_run_without_adapters_is_the_same_under_both(tmp_path: Path) -> None:
    write_weights(tmp_path / "step_1.safetensors")
    one, other = (ai.ls(tmp_path, adapters=view) for view in ("stored", "merged"))
    assert one.to_arrow("layers").equals(other.to_arrow("layers"))


def test_updates_of_rank_r_have_rank_r(tmp_path: Path) -> None:
    copytree(DATA / "rslora", tmp_path / "checkpoint-1")
    (tmp_path / "checkpoint-1" / "updates.safetensors").unlink()
    rows = ai.rank(tmp_path, adapters="merged", layers=["q_proj"]).to_pandas("ranks")
    assert list(rows["numerical_rank"]) == [3, 3]
