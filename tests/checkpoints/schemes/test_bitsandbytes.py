"""NF4, FP4 and int8 as bitsandbytes stores them: its own files, and files that are damaged.

The files in ``tests/data/bitsandbytes`` and the weights of the first one come from
bitsandbytes 0.50.2: ``tests/oracles/test_bitsandbytes.py``, ``make_reference``.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import altgrad_inspect as ai
from altgrad_inspect.errors import CheckpointError
from tests.checkpoints.runs_on_disk import write_json
from tests.checkpoints.schemes.coded_layers import check_decoded, check_flips, load_layer, open_only
from tests.checkpoints.schemes.flip_oracle import Stored

REFERENCE = Path(__file__).parents[2] / "data" / "bitsandbytes"
RUN = REFERENCE / "run"
STEPS = [RUN / f"step_{step}.safetensors" for step in range(3)]
SHAPE, BLOCK = (12, 50), 64
LAYERS = {
    "nf4.weight": "nf4",
    "nf4_nested.weight": "nf4",
    "fp4.weight": "fp4",
    "fp4_nested.weight": "fp4",
    "in_bf16.weight": "nf4",
}


def order_values(quant_map: Tensor) -> dict[int, float]:
    """The values in their order, counted from zero."""
    ordered = sorted(set(quant_map.tolist()))
    return {place - ordered.index(0.0): value for place, value in enumerate(ordered)}


def read_4bit(tensors: dict[str, Tensor], name: str) -> tuple[Stored, dict[int, float]]:
    """Codes and scales, one weight at a time."""
    values = order_values(tensors[f"{name}.quant_map"])
    places = {value: code for code, value in values.items()}
    content = bytes(tensors[name].view(torch.uint8).flatten().tolist())
    absmax = tensors[f"{name}.absmax"]
    (state,) = (one for key, one in tensors.items() if key.startswith(f"{name}.quant_state"))
    settings = json.loads(bytes(state.tolist()))
    if absmax.dtype == torch.uint8:
        codebook = tensors[f"{name}.nested_quant_map"].numpy()
        nested = tensors[f"{name}.nested_absmax"].numpy()
        size, offset = settings["nested_blocksize"], np.float32(settings["nested_offset"])
        scales = [
            np.float32(codebook[code] * nested[place // size]) + offset
            for place, code in enumerate(absmax.tolist())
        ]
    else:
        scales = list(absmax.numpy())
    codes, scale = np.zeros(SHAPE, dtype=np.int64), np.zeros(SHAPE, dtype=np.float32)
    for place, index in enumerate(np.ndindex(SHAPE)):
        byte = content[place // 2]
        nibble = byte >> 4 if place % 2 == 0 else byte & 15
        codes[index] = places[float(tensors[f"{name}.quant_map"][nibble])]
        scale[index] = scales[place // BLOCK]
    return Stored(code=codes, scale=scale), values


@pytest.mark.parametrize("name", LAYERS)
def test_4bit_codes_and_flips(name: str) -> None:
    read = [read_4bit(load_file(path), name) for path in STEPS]
    stored, values = [one for one, _ in read], read[0][1]
    check_decoded(STEPS[0], name, stored[0], values)
    check_flips(RUN, name, stored, values, fmt=LAYERS[name])


def test_maxima_of_more_than_one_nested_block(tmp_path: Path) -> None:
    """10 maxima in nested blocks of 4; the library's size of 256 needs larger layers."""
    name, tensors = "nf4_nested.weight", load_file(STEPS[0])
    tensors[STATE] = as_tensor(json.dumps(GOOD_STATE | {"nested_blocksize": 4}))
    tensors[f"{name}.nested_absmax"] = torch.tensor([0.5, 0.25, 0.75])
    save_file(tensors, tmp_path / "model.safetensors")
    stored, values = read_4bit(tensors, name)
    check_decoded(tmp_path, name, stored, values)


def test_int8_codes_and_flips() -> None:
    values = {code: float(code) for code in range(-128, 128)}
    stored = []
    for path in STEPS:
        tensors = load_file(path)
        scale = (tensors["int8.SCB"] * (1 / 127)).numpy()
        codes = tensors["int8.weight"].numpy().astype(np.int64)
        stored.append(Stored(code=codes, scale=np.repeat(scale[:, None], SHAPE[1], 1)))
    check_flips(RUN, "int8.weight", stored, values, fmt="int8")


@pytest.mark.parametrize("name", [*LAYERS, "int8.weight"])
def test_weights_are_the_librarys_bit_for_bit(name: str) -> None:
    expected = load_file(REFERENCE / "weights_0.safetensors")[name]
    assert torch.equal(load_layer(STEPS[0], name).values, expected)


def test_every_tensor_belongs_to_a_layer() -> None:
    checkpoint = open_only(STEPS[0])
    assert set(checkpoint.layers) == {*LAYERS, "int8.weight"}
    assert checkpoint.left_out == ()
    assert checkpoint.scheme == "bnb-4bit, bnb-int8"
    assert {layer.shape for layer in checkpoint.layers.values()} == {SHAPE}


def test_the_configuration_is_named(tmp_path: Path) -> None:
    save_file(load_file(STEPS[0]), tmp_path / "model.safetensors")
    assert open_only(tmp_path).layers["nf4.weight"].recognised_by == "names, dtypes and shapes"
    config = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    write_json(tmp_path / "config.json", config)
    assert open_only(tmp_path).layers["nf4.weight"].recognised_by == "config.json: bitsandbytes"


STATE = "nf4_nested.weight.quant_state.bitsandbytes__nf4"
GOOD_STATE = {
    "quant_type": "nf4",
    "blocksize": 64,
    "dtype": "float32",
    "shape": [12, 50],
    "nested_blocksize": 256,
    "nested_dtype": "float32",
    "nested_offset": 1.0,
}


def as_tensor(text: str) -> Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def damage(name: str, tensor: Tensor | None) -> dict[str, Tensor | None]:
    return {f"nf4_nested.weight{name}": tensor}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({STATE: as_tensor("{")}, "is not valid JSON"),
        ({STATE: as_tensor('{"shape": [1], "shape": [2]}')}, "appears twice"),
        ({STATE: as_tensor("[1]")}, "holds a JSON list"),
        ({STATE: as_tensor("__import__('os')")}, "is not valid JSON"),
        ({STATE: torch.zeros(1 << 17, dtype=torch.uint8)}, "no short text"),
        *(
            ({STATE: as_tensor(json.dumps(GOOD_STATE | wrong))}, "quantization state that does not")
            for wrong in (
                {"quant_type": "fp4"},
                {"shape": [12, -50]},
                {"shape": None},
                {"shape": [12.0, 50]},
                {"blocksize": 0},
                {"blocksize": True},
                {"nested_blocksize": None},
                {"nested_offset": float("nan")},
                {"nested_offset": "1"},
            )
        ),
        ({STATE: as_tensor(json.dumps(GOOD_STATE | {"shape": [12, 53]}))}, "bytes of codes"),
        ({STATE: as_tensor(json.dumps(GOOD_STATE | {"blocksize": 32}))}, "as absmax"),
        (damage(".absmax", None), "has no absmax"),
        (damage(".absmax", torch.ones(10)), "10 numbers of dtype F32 as absmax"),
        (damage(".nested_absmax", torch.ones(2)), "as nested_absmax"),
        (damage(".nested_absmax", None), "as absmax"),
        (damage(".nested_quant_map", None), "has no nested_quant_map"),
        (damage(".quant_map", torch.ones(16)), "no codebook"),
        (damage(".quant_map", torch.full((16,), torch.nan)), "NaN or Inf"),
        (damage(".quant_map", torch.ones(8)), "8 numbers of dtype F32 as quant_map"),
    ],
)
def test_damaged_layers_say_why(
    tmp_path: Path, change: dict[str, Tensor | None], reason: str
) -> None:
    tensors: dict[str, Tensor | None] = {**load_file(STEPS[0]), **change}
    for step in range(2):
        path = tmp_path / f"step_{step}.safetensors"
        save_file({name: one for name, one in tensors.items() if one is not None}, path)
    with pytest.raises(CheckpointError, match=reason):
        load_layer(tmp_path / "step_0.safetensors", "nf4_nested.weight")
    rows = ai.flips(tmp_path).to_pandas("flips").set_index("layer")
    assert rows.loc["nf4_nested.weight", "status"] == "failed"
    assert reason in str(rows.loc["nf4_nested.weight", "reason"])
    assert rows.loc["nf4.weight", "status"] == "ok"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"int8.SCB": torch.ones(11)}, "11 numbers of dtype F32 as SCB"),
        ({"int8.SCB": torch.ones(12, dtype=torch.int32)}, "12 numbers of dtype I32 as SCB"),
        ({"int8.weight_format": torch.tensor(2, dtype=torch.uint8)}, "one GPU generation"),
    ],
)
def test_damaged_int8_layers_say_why(
    tmp_path: Path, change: dict[str, Tensor], reason: str
) -> None:
    save_file({**load_file(STEPS[0]), **change}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=reason):
        load_layer(tmp_path, "int8.weight")
