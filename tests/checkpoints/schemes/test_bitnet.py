"""BitNet: ternary codes in quarters of rows, and what the scale does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import altgrad_inspect as ai
from altgrad_inspect.errors import CheckpointError
from tests.checkpoints.runs_on_disk import write_json
from tests.checkpoints.schemes.coded_layers import check_decoded, check_flips, load_layer, open_only
from tests.checkpoints.schemes.flip_oracle import Stored
from tests.checkpoints.schemes.packers import pack_row_parts

SHAPE = (32, 20)
P = "model.layers.0.self_attn.o_proj"
VALUES = {-1: -1.0, 0: 0.0, 1: 1.0}


def config(linear_class: str | None, mode: str = "offline") -> dict[str, object]:
    settings = {"quant_method": "bitnet", "quantization_mode": mode}
    if linear_class is not None:
        settings["linear_class"] = linear_class
    return {"quantization_config": settings}


def round_weight(weight: np.ndarray, *, divides: bool) -> tuple[np.ndarray, torch.Tensor]:
    """Codes and the stored scale: the mean magnitude, or what it goes into 1."""
    mean = np.abs(weight).mean()
    codes = np.clip(np.round(weight / mean), -1, 1).astype(np.int64)
    return codes, torch.tensor([1 / mean if divides else mean], dtype=torch.bfloat16)


def save(path: Path, codes: np.ndarray, scale: torch.Tensor, **others: torch.Tensor) -> None:
    path.mkdir(parents=True, exist_ok=True)
    packed = pack_row_parts(codes + 1, 2, 4, high_first=False, dtype=np.uint8)
    tensors = {f"{P}.weight": torch.from_numpy(packed), f"{P}.weight_scale": scale}
    save_file({**tensors, **others}, path / "model.safetensors")


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("linear_class", [None, "bitlinear", "autobitlinear"])
def test_codes_weights_and_flips(tmp_path: Path, linear_class: str | None, *, named: bool) -> None:
    draw = np.random.default_rng(0)
    weight = 0.05 * draw.standard_normal(SHAPE)
    divides = linear_class != "autobitlinear"
    stored = []
    for step in range(3):
        codes, scale = round_weight(weight, divides=divides)
        path = tmp_path / f"checkpoint-{step}"
        save(path, codes, scale)
        if named:
            write_json(path / "config.json", config(linear_class))
        factor = np.float32(1) / np.float32(scale.item()) if divides else np.float32(scale.item())
        stored.append(Stored(code=codes, scale=np.full(SHAPE, factor)))
        check_decoded(path, f"{P}.weight", stored[-1], VALUES)
        assert bool(open_only(path).notes) != named
        weight = weight + 0.01 * draw.standard_normal(SHAPE)
    check_flips(tmp_path, f"{P}.weight", stored, VALUES, fmt="ternary")


def test_every_byte(tmp_path: Path) -> None:
    """All 81 bytes of four fields that are 0, 1 or 2, and a reason for the other 175."""
    write_json(tmp_path / "config.json", config("autobitlinear"))
    valid = []
    for byte in range(256):
        fields = [(byte >> shift) & 3 for shift in (0, 2, 4, 6)]
        if 3 in fields:
            continue
        valid.append(byte)
        codes = np.array([[field - 1] for field in fields])
        tensors = {
            f"{P}.weight": torch.tensor([[byte]], dtype=torch.uint8),
            f"{P}.weight_scale": torch.tensor([0.5]),
        }
        save_file(tensors, tmp_path / "model.safetensors")
        loaded = load_layer(tmp_path, f"{P}.weight")
        assert np.array_equal(loaded.values.numpy(), 0.5 * codes)
    assert len(valid) == 81
    for byte in set(range(256)) - set(valid):
        tensors[f"{P}.weight"] = torch.tensor([[byte]], dtype=torch.uint8)
        save_file(tensors, tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match="fields of 3"):
            load_layer(tmp_path, f"{P}.weight")


def test_masters_of_the_mode_online_are_plain_weights(tmp_path: Path) -> None:
    for step in range(2):
        path = tmp_path / f"checkpoint-{step}"
        path.mkdir()
        weight = torch.full(SHAPE, 0.5 + step, dtype=torch.bfloat16)
        save_file({f"{P}.weight": weight}, path / "model.safetensors")
        write_json(path / "config.json", config("autobitlinear", "online"))
    assert open_only(path).scheme == "plain"
    (row,) = ai.flips(tmp_path).to_pandas("flips").itertuples()
    assert (row.status, row.num_updated) == ("ok", SHAPE[0] * SHAPE[1])


@pytest.mark.parametrize(
    ("scale", "others"),
    [
        (torch.ones(2), {}),
        (torch.ones(1, dtype=torch.uint8), {}),
        (torch.ones(1), {"weight_scale_2": torch.ones(1)}),
    ],
)
def test_other_schemes_are_not_taken_for_it(
    tmp_path: Path, scale: torch.Tensor, others: dict[str, torch.Tensor]
) -> None:
    save(
        tmp_path,
        np.zeros(SHAPE, dtype=np.int64),
        scale,
        **{f"{P}.{name}": one for name, one in others.items()},
    )
    assert "bitnet" not in open_only(tmp_path).scheme
