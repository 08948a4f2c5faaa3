"""Weights as ModelOpt exports them: its own files, and files that are damaged.

The files in ``tests/data/modelopt`` and the weights of the first one come from nvidia-modelopt
0.47.0: ``tests/oracles/test_modelopt.py``, ``make_reference``.
"""

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import altgrad_inspect as ai
from altgrad_inspect.errors import CheckpointError
from tests.checkpoints.schemes.coded_layers import check_decoded, check_flips, load_layer, open_only
from tests.checkpoints.schemes.flip_oracle import Stored

REFERENCE = Path(__file__).parents[2] / "data" / "modelopt"
RUN = REFERENCE / "run"
STEPS = [RUN / f"step_{step}.safetensors" for step in range(3)]
FP8, FP4 = "float8_e4m3fn", "float4_e2m1fn"
LAYERS = {
    "fp8_whole.weight": (FP8, "modelopt-fp8", "FP8"),
    "fp8_rows.weight": (FP8, "modelopt-fp8", "FP8_PER_CHANNEL_PER_TOKEN"),
    "fp8_blocks.weight": (FP8, "modelopt-fp8", "FP8_PB_WO"),
    "mxfp8.weight": (FP8, "modelopt-fp8", "MXFP8"),
    "nvfp4.weight": (FP4, "modelopt-fp4", "NVFP4"),
    "mxfp4.weight": (FP4, "modelopt-fp4", "W4A8_MXFP4_FP8"),
    "int8.weight": ("int8", "modelopt-int8", "W8A16"),
    "int4.weight": ("int4", "modelopt-int4", "W4A16_AWQ"),
    "experts.up_proj": (FP4, "modelopt-fp4", "MIXED_PRECISION"),
    "experts.down_proj": (FP4, "modelopt-fp4", "MIXED_PRECISION"),
}


def values_of(fmt: str) -> dict[int, float]:
    if fmt.startswith("int"):
        half = 1 << (int(fmt.removeprefix("int")) - 1)
        return {code: float(code) for code in range(-half, half)}
    dtype = getattr(ml_dtypes, fmt)
    half = {"float4_e2m1fn": 8, "float6_e2m3fn": 32, "float8_e4m3fn": 128}[fmt]
    positive = np.arange(half, dtype=np.uint8).view(dtype).astype(np.float32)
    kept = [float(one) for one in positive if np.isfinite(one)]
    return {sign * code: sign * value for sign in (-1, 1) for code, value in enumerate(kept)}


def scales_as_numbers(scale: Tensor) -> np.ndarray:
    if scale.dtype == torch.uint8:
        exponents = scale.numpy().astype(np.int32) - 127
        return np.asarray(np.exp2(exponents), dtype=np.float32)
    if scale.dtype == torch.float8_e4m3fn:
        bits = scale.view(torch.uint8).numpy()
        return np.asarray(bits.view(ml_dtypes.float8_e4m3fn), dtype=np.float32)
    return np.asarray(scale.numpy())


def signed(codes: np.ndarray, bits: int) -> np.ndarray:
    magnitude = codes & ((1 << (bits - 1)) - 1)
    return np.where(codes >> (bits - 1), -magnitude, magnitude)


def read_stored(path: Path, name: str) -> Stored:
    """Codes and scales, one weight at a time."""
    tensors = load_file(path)
    prefix = name if name.endswith("weight") else f"{name}_weight"
    codes = tensors[name].view(torch.uint8).numpy().astype(np.int64)
    scale = scales_as_numbers(tensors[f"{prefix}_scale"])
    if f"{prefix}_scale_2" in tensors:
        scale = scale * tensors[f"{prefix}_scale_2"].numpy()
    if name == "experts.down_proj":
        codes, scale = codes.transpose(0, 2, 1), scale.transpose(0, 2, 1)
    if name == "int8.weight":
        plain = codes.astype(np.uint8).view(np.int8).astype(np.int64)
        return Stored(code=plain, scale=np.repeat(scale[:, None], plain.shape[1], 1))
    if name == "int4.weight":
        rows = np.zeros((codes.shape[0] * 2, codes.shape[1]), dtype=np.int64)
        rows[0::2], rows[1::2] = codes % 16, codes // 16
        plain = np.where(rows > 7, rows - 16, rows)
        return Stored(code=plain, scale=np.repeat(scale, plain.shape[1] // scale.shape[1], 1))
    if LAYERS[name][0] == FP4:
        wide = np.zeros((*codes.shape[:-1], codes.shape[-1] * 2), dtype=np.int64)
        wide[..., 0::2], wide[..., 1::2] = codes % 16, codes // 16
        plain = signed(wide, 4)
    else:
        plain = signed(codes, 8)
    if scale.ndim == 4:
        scale = np.repeat(scale[:, 0, :, 0], plain.shape[0], 0)
    if scale.ndim < plain.ndim:
        scale = np.broadcast_to(scale.reshape(-1, 1), (plain.shape[0], 1))
    factor = plain.shape[-1] // scale.shape[-1]
    return Stored(code=plain, scale=np.ascontiguousarray(np.repeat(scale, factor, -1)))


@pytest.mark.parametrize("name", LAYERS)
def test_codes_and_flips(name: str) -> None:
    fmt = LAYERS[name][0]
    stored, values = [read_stored(path, name) for path in STEPS], values_of(fmt)
    check_decoded(STEPS[0], name, stored[0], values)
    check_flips(RUN, name, stored, values, fmt=fmt)


@pytest.mark.parametrize("name", LAYERS)
def test_weights_are_the_librarys_bit_for_bit(name: str) -> None:
    expected = load_file(REFERENCE / "weights_0.safetensors")[name]
    assert torch.equal(load_layer(STEPS[0], name).values, expected)


def test_every_layer_is_recognised() -> None:
    checkpoint = open_only(STEPS[0])
    layers = checkpoint.layers
    assert {name: layer.scheme for name, layer in layers.items()} == {
        name: scheme for name, (_, scheme, _) in LAYERS.items()
    }
    assert {name: layer.recognised_by for name, layer in layers.items()} == {
        name: f"hf_quant_config.json: modelopt {algorithm}"
        for name, (_, _, algorithm) in LAYERS.items()
    }
    assert {one.layer: one.reason for one in checkpoint.left_out} == {
        "fp8_whole.input_scale": "activation scale of fp8_whole.weight",
        "int4.pre_quant_scale": "multiplies the inputs of int4.weight, not part of its weights",
    }


def test_names_dtypes_and_shapes_suffice(tmp_path: Path) -> None:
    """What compressed-tensors stores alike is taken for that, with the same weights."""
    shutil.copy(STEPS[0], tmp_path)
    layers = open_only(tmp_path).layers
    alike = {"fp8_whole.weight", "mxfp8.weight"}
    assert {name: layer.scheme for name, layer in layers.items()} == {
        name: "ct-float" if name in alike else scheme for name, (_, scheme, _) in LAYERS.items()
    }
    for name in LAYERS:
        assert torch.equal(load_layer(tmp_path, name).values, load_layer(STEPS[0], name).values)


def test_a_configuration_in_config_json(tmp_path: Path) -> None:
    shutil.copy(STEPS[0], tmp_path)
    section = {"quant_method": "modelopt_fp4", "quant_algo": "NVFP4 (hand-made)"}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": section}))
    layers = open_only(tmp_path).layers
    assert layers["fp8_whole.weight"].scheme == "modelopt-fp8"
    assert layers["nvfp4.weight"].recognised_by == "config.json: modelopt"


def test_branches_and_second_scales_are_left_out(tmp_path: Path) -> None:
    others = {
        "nvfp4.svdquant_lora_a": torch.ones(4, 64),
        "nvfp4.svdquant_lora_b": torch.ones(10, 4),
        "int4.weight_scale_2": torch.ones(()),
        "attn.k_proj.k_scale": torch.ones(()),
        "experts.up_proj_input_scale": torch.ones(()),
    }
    save_file({**load_file(STEPS[0]), **others}, tmp_path / "model.safetensors")
    reasons = {one.layer: one.reason for one in open_only(tmp_path).left_out}
    branch = "low-rank branch beside nvfp4.weight, not part of its weights"
    assert {name: reasons[name] for name in others} == {
        "nvfp4.svdquant_lora_a": branch,
        "nvfp4.svdquant_lora_b": branch,
        "int4.weight_scale_2": "scale of the FP8 that int4.weight is turned into, not part of its "
        "weights",
        "attn.k_proj.k_scale": "scale of the attention's keys or values",
        "experts.up_proj_input_scale": "activation scale of experts.up_proj",
    }


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("nvfp4.weight", {"nvfp4.weight_scale_2": torch.ones(3)}, "3 scales over its scales"),
        ("fp8_whole.weight", {"fp8_whole.weight_scale": torch.ones(3)}, r"scales of shape \[3\]"),
        (
            "fp8_blocks.weight",
            {"fp8_blocks.weight_scale": torch.ones(1, 2, 2, 1)},
            r"scales of shape \[1, 2, 2, 1\]",
        ),
    ],
)
def test_damaged_layers_say_why(
    tmp_path: Path, name: str, change: dict[str, Tensor], reason: str
) -> None:
    shutil.copy(RUN / "hf_quant_config.json", tmp_path)
    for step in range(2):
        save_file({**load_file(STEPS[0]), **change}, tmp_path / f"step_{step}.safetensors")
    with pytest.raises(CheckpointError, match=reason):
        load_layer(tmp_path / "step_0.safetensors", name)
    rows = ai.flips(tmp_path).to_pandas("flips").set_index("layer")
    assert rows.loc[name, "status"] == "failed"
    assert set(rows.drop(index=name)["status"]) == {"ok"}


@pytest.mark.parametrize(
    "change",
    [
        {"nvfp4.weight_scale": torch.ones(10, 3)},
        {"mxfp4.weight_scale": torch.ones(10, 4, dtype=torch.uint8)},
        {"int4.weight_scale": torch.ones(5, 2)},
        {"int8.weight_scale": torch.ones(9)},
    ],
)
def test_what_cannot_be_such_a_layer_is_skipped(tmp_path: Path, change: dict[str, Tensor]) -> None:
    (changed,) = change
    name = changed.removesuffix("_scale")
    for step in range(2):
        save_file({**load_file(STEPS[0]), **change}, tmp_path / f"step_{step}.safetensors")
    assert open_only(tmp_path).layers[name].scheme == "plain"
    skipped = ai.flips(tmp_path).to_pandas("skipped").set_index("layer")
    assert "not floating-point" in str(skipped.loc[name, "reason"])
