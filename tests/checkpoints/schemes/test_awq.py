"""AWQ: both versions, packed bit by bit, and a file of AutoAWQ itself.

The file in ``tests/data/awq`` and what its weights are come from AutoAWQ 0.2.9:
``tests/oracles/test_autoawq.py``, ``make_reference``.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from altgrad_inspect.errors import CheckpointError
from tests.checkpoints.runs_on_disk import write_json
from tests.checkpoints.schemes.coded_layers import check_decoded, check_flips, load_layer, open_only
from tests.checkpoints.schemes.grouped_codes import Grouped, walk
from tests.checkpoints.schemes.packers import pack_awq, pack_stream

REFERENCE = Path(__file__).parents[2] / "data" / "awq"
SHAPE, GROUP = (16, 128), 32
P = "model.layers.0.mlp.down_proj"
VALUES = {code: float(code) for code in range(-15, 16)}


def store_gemm(layer: Grouped) -> dict[str, Tensor]:
    zeros = layer.zeros.astype(np.int64)
    return {
        f"{P}.qweight": torch.from_numpy(pack_awq(layer.codes.T)),
        f"{P}.qzeros": torch.from_numpy(pack_awq(zeros.T)),
        f"{P}.scales": torch.from_numpy(layer.scales.T.copy()),
    }


def store_gemv(layer: Grouped, room: int = 32) -> dict[str, Tensor]:
    """Room for 32 groups, as for every layer with groups of 32 and up to 1024 inputs."""
    padding = ((0, 0), (0, room - layer.scales.shape[1]))
    zeros = np.pad(layer.zeros.astype(np.int64), padding)
    return {
        f"{P}.qweight": torch.from_numpy(pack_stream(layer.codes, 4)),
        f"{P}.qzeros": torch.from_numpy(pack_stream(zeros, 4)),
        f"{P}.scales": torch.from_numpy(np.pad(layer.scales, padding)),
    }


def config(**settings: object) -> dict[str, object]:
    return {"quantization_config": {"quant_method": "awq", "bits": 4, **settings}}


GEMM = config(version="gemm", group_size=GROUP, zero_point=True)
GEMV = config(version="gemv", group_size=GROUP, zero_point=True)
OF_AUTO_ROUND = {
    "quantization_config": {"quant_method": "auto-round", "packing_format": "auto_round:auto_awq"}
}
OF_GPTQMODEL = config(checkpoint_format="gemm", desc_act=False, group_size=GROUP)


@pytest.mark.parametrize(
    ("store", "settings"),
    [
        (store_gemm, GEMM),
        (store_gemm, None),
        (store_gemm, OF_AUTO_ROUND),
        (store_gemm, OF_GPTQMODEL),
        (store_gemv, GEMV),
        (store_gemv, config(version="GEMV", q_group_size=GROUP)),
    ],
)
def test_codes_weights_and_flips(
    tmp_path: Path, store: Callable[[Grouped], dict[str, Tensor]], settings: object
) -> None:
    layers = walk(SHAPE, GROUP, 15)
    for step, layer in enumerate(layers):
        path = tmp_path / f"checkpoint-{step}"
        path.mkdir()
        save_file(store(layer), path / "model.safetensors")
        if settings is not None:
            write_json(path / "config.json", settings)
        check_decoded(path, f"{P}.weight", layer.stored, VALUES)
    check_flips(tmp_path, f"{P}.weight", [layer.stored for layer in layers], VALUES, fmt="uint4")


def test_gemv_with_one_group_of_all_inputs(tmp_path: Path) -> None:
    layer = walk(SHAPE, SHAPE[1], 15)[0]
    save_file(store_gemv(layer, 8), tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", config(version="gemv", group_size=-1))
    check_decoded(tmp_path, f"{P}.weight", layer.stored, VALUES)


def test_every_code_at_every_place(tmp_path: Path) -> None:
    """16 rows of 128 inputs: code (row + input) mod 16, so that no two neighbours are alike."""
    layer = walk(SHAPE, GROUP, 15)[0]
    layer.codes[:] = np.add.outer(np.arange(16), np.arange(128)) % 16
    layer.zeros[:] = np.arange(16)[:, None]
    save_file(store_gemm(layer), tmp_path / "model.safetensors")
    check_decoded(tmp_path, f"{P}.weight", layer.stored, VALUES)


def test_weights_are_autoawqs_bit_for_bit() -> None:
    expected = load_file(REFERENCE / "expected" / "weights.safetensors")
    layers = open_only(REFERENCE).layers
    assert {name: layers[name].scheme for name in layers} == dict.fromkeys(expected, "awq")
    for name, weights in expected.items():
        assert torch.equal(load_layer(REFERENCE, name).values.half(), weights)


@pytest.mark.parametrize(
    ("settings", "change", "reason"),
    [
        (GEMM, {"qzeros": None}, "expected 4-bit codes as qweight"),
        (GEMM, {"scales": torch.ones(4, 15)}, "expected 4-bit codes as qweight"),
        (GEMM, {"scales": torch.ones(3, 16)}, "expected 4-bit codes as qweight"),
        (GEMM, {"qweight": torch.zeros(32, 128, dtype=torch.int16)}, "version gemm"),
        (config(version="gemv_fast"), {"qweight": torch.zeros(4, 256).short()}, "gemv_fast"),
        (GEMV, {}, "version gemv"),
    ],
)
def test_layers_that_do_not_fit_say_why(
    tmp_path: Path, settings: object, change: dict[str, Tensor | None], reason: str
) -> None:
    tensors = {**store_gemm(walk(SHAPE, GROUP, 15)[0])}
    for name, tensor in change.items():
        del tensors[f"{P}.{name}"]
        if tensor is not None:
            tensors[f"{P}.{name}"] = tensor
    save_file(tensors, tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", settings)
    with pytest.raises(CheckpointError, match=reason):
        load_layer(tmp_path, f"{P}.weight")


@pytest.mark.parametrize("size", [None, 0, 48, True, "32"])
def test_gemv_needs_the_size_of_its_groups(tmp_path: Path, size: object) -> None:
    save_file(store_gemv(walk(SHAPE, GROUP, 15)[0]), tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", config(version="gemv", group_size=size))
    with pytest.raises(CheckpointError, match="version gemv"):
        load_layer(tmp_path, f"{P}.weight")
