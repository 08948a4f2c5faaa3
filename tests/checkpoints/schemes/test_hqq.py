"""HQQ: every packing, both axes, packed bit by bit, and files of hqq itself.

The file in ``tests/data/hqq`` and what its weights are come from hqq 0.2.8.post1:
``tests/oracles/test_hqq.py``, ``make_reference``.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import altgrad_inspect as ai
from altgrad_inspect.errors import CheckpointError
from tests.checkpoints.runs_on_disk import write_json
from tests.checkpoints.schemes.coded_layers import check_flips, load_layer, open_only
from tests.checkpoints.schemes.flip_oracle import Stored
from tests.checkpoints.schemes.grouped_codes import Grouped, walk
from tests.checkpoints.schemes.packers import pack_row_parts

REFERENCE = Path(__file__).parents[2] / "data" / "hqq"
SHAPE, GROUP = (10, 64), 32
VIEW = (20, 32)  # rows of one group each
P = "model.layers.0.self_attn.q_proj"
VALUES = {code: float(code) for code in range(-255, 256)}
PACKINGS: dict[float, tuple[str, int, int, type]] = {
    8: ("8bit_u8", 8, 1, np.uint8),
    5: ("8bit_u8", 8, 1, np.uint8),
    4: ("4bit_u8", 4, 2, np.uint8),
    3: ("3bit_32", 3, 10, np.int32),
    2: ("2bit_u8", 2, 4, np.uint8),
    1.58: ("2bit_u8", 2, 4, np.uint8),
    1: ("1bit_u8", 1, 8, np.uint8),
}


def as_text(text: str) -> Tensor:
    return torch.tensor([ord(one) for one in text], dtype=torch.uint8)


def store(layer: Grouped, nbits: float, axis: int) -> dict[str, Tensor]:
    packing, bits, count, dtype = PACKINGS[nbits]
    codes = layer.codes if axis == 1 else layer.codes.T
    packed = pack_row_parts(codes, bits, count, high_first=True, dtype=dtype)
    metas = (layer.scales, layer.zeros.astype(np.float16))
    scale, zero = (torch.from_numpy(one if axis == 1 else one.T.copy()) for one in metas)
    kind = torch.int32 if isinstance(nbits, int) else torch.float32
    tensors = {
        "W_q": torch.from_numpy(packed.copy()),
        "scale": scale,
        "zero": zero,
        "nbits": torch.tensor(nbits, dtype=kind),
        "axis": torch.tensor(axis, dtype=torch.int32),
        "group_size": torch.tensor(GROUP, dtype=torch.int32),
        "shape": torch.tensor(SHAPE),
        "packing": as_text(packing),
        "view_as_float": torch.tensor(0, dtype=torch.uint8),
        "unpack_view_dtype": as_text("torch.uint8"),
        "compute_dtype": as_text("torch.float16"),
        "quant_scale": torch.tensor(0, dtype=torch.uint8),
        "quant_zero": torch.tensor(0, dtype=torch.uint8),
        "channel_wise": torch.tensor(1, dtype=torch.uint8),
    }
    return {f"{P}.{name}": one for name, one in tensors.items()}


def in_shape(stored: Stored, axis: int) -> Stored:
    """The view with rows of one group as the layer: groups are rows, or columns of [g, -1]."""

    def turn(one: np.ndarray) -> np.ndarray:
        return (one if axis == 1 else one.T).reshape(SHAPE).copy()

    assert stored.zero is not None
    return Stored(
        code=turn(stored.code),
        scale=turn(stored.scale),
        offset=None if stored.offset is None else turn(stored.offset),
        zero=turn(stored.zero),
        highest=stored.highest,
    )


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("round_zero", [True, False])
@pytest.mark.parametrize("nbits", [nbits for nbits in PACKINGS if nbits != 1])
def test_codes_weights_and_flips(
    tmp_path: Path, nbits: float, axis: int, *, round_zero: bool
) -> None:
    layers = walk(VIEW, GROUP, round(2**nbits - 1), round_zero=round_zero)
    stored = [in_shape(layer.stored, axis) for layer in layers]
    for step, (layer, one) in enumerate(zip(layers, stored, strict=True)):
        path = tmp_path / f"step_{step}.safetensors"
        save_file(store(layer, nbits, axis), path)
        loaded = load_layer(path, f"{P}.weight")
        assert loaded.coded is not None
        view = loaded.coded.ordinals.reshape(SHAPE).numpy()
        assert np.array_equal(view, one.code)
        assert np.array_equal(loaded.values.numpy(), one.weights(VALUES))
    check_flips(tmp_path, f"{P}.weight", stored, VALUES, fmt=f"uint{nbits}")


@pytest.mark.parametrize("shift", [-40.0, 40.0])
def test_zero_points_beyond_the_codes(tmp_path: Path, shift: float) -> None:
    layers = walk(VIEW, GROUP, 15, round_zero=False, shift=shift)
    for step, layer in enumerate(layers):
        assert np.all((layer.zeros < 0) | (layer.zeros > 15)) or step
        path = tmp_path / f"step_{step}.safetensors"
        save_file(store(layer, 4, 1), path)
        values = load_layer(path, f"{P}.weight").values.numpy()
        zero = np.repeat(layer.zeros, GROUP, 1).astype(np.float32)
        expected = (layer.codes.astype(np.float32) - zero) * np.repeat(
            layer.scales.astype(np.float32), GROUP, 1
        )
        assert np.array_equal(values, expected.reshape(SHAPE))
    stored = [in_shape(layer.stored, 1) for layer in layers]
    check_flips(tmp_path, f"{P}.weight", stored, VALUES, fmt="uint4")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("nbits", [4, 3])
def test_codes_seen_as_floats(tmp_path: Path, nbits: int, dtype: torch.dtype) -> None:
    layer = walk(VIEW, GROUP, (1 << nbits) - 1)[0]
    tensors = store(layer, nbits, 1)
    tensors[f"{P}.W_q"] = tensors[f"{P}.W_q"].view(dtype)
    tensors[f"{P}.view_as_float"] = torch.tensor(1, dtype=torch.uint8)
    save_file(tensors, tmp_path / "model.safetensors")
    values = load_layer(tmp_path, f"{P}.weight").values.numpy()
    assert np.array_equal(values, in_shape(layer.stored, 1).weights(VALUES))


def test_settings_are_no_layers_and_the_configuration_is_named(tmp_path: Path) -> None:
    save_file(store(walk(VIEW, GROUP, 15)[0], 4, 1), tmp_path / "model.safetensors")
    checkpoint = open_only(tmp_path)
    assert (list(checkpoint.layers), checkpoint.left_out) == ([f"{P}.weight"], ())
    config = {"quantization_config": {"quant_method": "hqq", "quant_config": {}}}
    write_json(tmp_path / "config.json", config)
    found = open_only(tmp_path).layers[f"{P}.weight"]
    assert (found.recognised_by, found.shape) == ("config.json: hqq", SHAPE)


def test_another_axis_is_not_compared(tmp_path: Path) -> None:
    layer = walk(VIEW, GROUP, 15)[0]
    for axis in (0, 1):
        save_file(store(layer, 4, axis), tmp_path / f"step_{axis}.safetensors")
    (row,) = ai.flips(tmp_path).to_pandas("flips").itertuples()
    assert row.status == "undefined"
    assert "share scales in another way" in str(row.reason)


def test_weights_are_hqqs_bit_for_bit() -> None:
    """To the last bit of float16, in which hqq subtracts and multiplies."""
    expected = load_file(REFERENCE / "expected" / "weights.safetensors")
    layers = open_only(REFERENCE).layers
    assert {name: layers[name].scheme for name in layers} == dict.fromkeys(expected, "hqq")
    for name, weights in expected.items():
        loaded = load_layer(REFERENCE, name)
        assert loaded.coded is not None
        view, scales = loaded.coded.scales.view, loaded.coded.scales
        code = loaded.coded.ordinals.half() - scales.lowest.half()  # type: ignore[union-attr]
        zero = scales.offsets - scales.lowest.float()  # type: ignore[union-attr, operator]
        found = (code - zero.half()) * scales.values.half()
        assert torch.equal(found.reshape(weights.shape), weights), name
        assert torch.allclose(loaded.values, weights.float(), rtol=2e-3, atol=1e-3), view


@pytest.mark.parametrize(
    ("name", "tensor", "reason"),
    [
        ("scale", None, "has no readable scale"),
        ("nbits", None, "has no readable nbits"),
        ("nbits", torch.zeros(1 << 17), "has no readable nbits"),
        ("nbits", torch.tensor(float("nan")), "has no readable nbits"),
        ("nbits", torch.tensor(0), "settings that do not fit"),
        ("nbits", torch.tensor(5), "settings that do not fit"),
        ("axis", torch.tensor(2), "settings that do not fit"),
        ("group_size", torch.tensor(33), "settings that do not fit"),
        ("group_size", torch.tensor(-1), "settings that do not fit"),
        ("shape", torch.tensor([640]), "settings that do not fit"),
        ("shape", torch.tensor([-10, -64]), "settings that do not fit"),
        ("shape", torch.tensor([10, 128]), "bytes of codes"),
        ("packing", as_text("eval('1')"), "settings that do not fit"),
        ("packing", as_text("2bit_u8"), "settings that do not fit"),
        ("packing", as_text("8bit_u8"), "bytes of codes"),
        ("quant_zero", torch.tensor(1, dtype=torch.uint8), "quantized themselves"),
        ("zero", torch.ones(19, 1), "19 numbers of dtype F32 as zero"),
        ("scale", torch.ones(20, 1, dtype=torch.int32), "20 numbers of dtype I32 as scale"),
    ],
)
def test_layers_that_do_not_fit_say_why(
    tmp_path: Path, name: str, tensor: Tensor | None, reason: str
) -> None:
    tensors = store(walk(VIEW, GROUP, 15)[0], 4, 1)
    del tensors[f"{P}.{name}"]
    if tensor is not None:
        tensors[f"{P}.{name}"] = tensor
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=reason):
        load_layer(tmp_path, f"{P}.weight")


@pytest.mark.parametrize(("nbits", "code"), [(1.58, 3), (5, 32)])
def test_codes_that_the_width_does_not_have(tmp_path: Path, nbits: float, code: int) -> None:
    layer = walk(VIEW, GROUP, round(2**nbits - 1))[0]
    layer.codes[3, 4] = code
    save_file(store(layer, nbits, 1), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"holds the code {code}"):
        load_layer(tmp_path, f"{P}.weight")
