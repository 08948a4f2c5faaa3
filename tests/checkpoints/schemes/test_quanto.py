"""Tensors of optimum-quanto: weights, against the library itself; flips, against numpy.

The files under ``tests/data/quanto`` were made with optimum-quanto 0.2.7 and torch 2.13::

    torch.manual_seed(0)
    tensors, weights = {}, {}
    for kind in (qint8, qfloat8, qint4, qint2):
        model = torch.nn.ModuleDict({
            "grouped": torch.nn.Linear(256, 4),
            "odd": torch.nn.Linear(20, 7, bias=False),
            "flat": torch.nn.Linear(256, 2, bias=False),
            "conv": torch.nn.Conv2d(3, 5, 2),
        })
        quantize(model, weights=kind)
        freeze(model)
        tensors |= {f"{kind.name}.{name}": one for name, one in model.state_dict().items()}
        weights |= {
            f"{kind.name}.{name}.weight": one.weight.dequantize() for name, one in model.items()
        }
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import altgrad_inspect as ai
from altgrad_inspect.errors import CheckpointError
from tests.checkpoints.runs_on_disk import write_json
from tests.checkpoints.schemes.affine_oracle import count_int_flips, describe, drift, quantize
from tests.checkpoints.schemes.stored_layers import load, open_stored, rows_of, store

DATA = Path(__file__).parents[2] / "data" / "quanto"
WEIGHTS = {
    **load_file(DATA / "weights_8_bits.safetensors"),
    **load_file(DATA / "weights_packed.safetensors"),
}
FLAT = {"qint4.flat.weight", "qint2.flat.weight"}


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_weights_are_those_of_quanto(tmp_path: Path, name: str) -> None:
    path = store(tmp_path / "step_1", load_file(DATA / "state_dict.safetensors"))
    loaded = load(path, name)
    expected = WEIGHTS[name].flatten() if name in FLAT else WEIGHTS[name]
    assert torch.equal(loaded.values, expected)
    coded = loaded.coded
    assert coded is not None
    weights = loaded.values.reshape(coded.scales.view.shape)
    at = (slice(0, weights.shape[0]), slice(0, weights.shape[1]))
    again = coded.scales.encode(coded.scales.scale_down(weights, *at), coded.fmt, at)
    assert torch.equal(again, coded.ordinals)


def test_what_a_state_dict_holds(tmp_path: Path) -> None:
    path = store(tmp_path / "step_1", load_file(DATA / "state_dict.safetensors"))
    checkpoint = open_stored(path)
    biases = {name for name in checkpoint.layers if name.endswith("bias")}
    assert set(checkpoint.layers) - biases == set(WEIGHTS)
    assert len(biases) == 8
    left_out = {row.layer.rpartition(".")[2] for row in checkpoint.left_out}
    assert left_out == {"input_scale", "output_scale"}
    assert len([note for note in checkpoint.notes if "no bias" in note]) == 1
    assert checkpoint.layers["qint8.odd.weight"].recognised_by == "names and dtypes"
    write_json(path / "config.json", {"quantization_config": {"quant_method": "quanto"}})
    layer = open_stored(path).layers["qint8.odd.weight"]
    assert layer.recognised_by == "config.json: quanto"


def test_a_flat_layer_has_flips_and_no_ranks(tmp_path: Path) -> None:
    for step in range(2):
        store(tmp_path / f"step_{step}", load_file(DATA / "state_dict.safetensors"))
    results = ai.report(tmp_path, layers=["flat"])
    assert set(results.to_pandas("flips")["layer"]) >= FLAT
    assert FLAT.isdisjoint(results.to_pandas("ranks")["layer"])
    reasons = results.to_pandas("skipped").query(f"layer in {sorted(FLAT)}")["reason"]
    assert all("1-D" in reason for reason in reasons)


def test_a_module_without_a_name_has_its_bias(tmp_path: Path) -> None:
    module = "qint4.grouped."
    tensors = load_file(DATA / "state_dict.safetensors")
    own = {name.removeprefix(module): one for name, one in tensors.items() if module in name}
    path = store(tmp_path / "step_1", own)
    assert torch.equal(load(path, "weight").values, WEIGHTS["qint4.grouped.weight"])


def pack(code: np.ndarray, bits: int) -> np.ndarray:
    """Rows i, i + R, i + 2R ... of R rows of bytes, from the lowest bits on; rows are padded."""
    per_byte = 8 // bits
    num_rows = -(-len(code) // per_byte)
    packed = np.zeros((num_rows, code.shape[1]), dtype=np.uint8)
    for row in range(len(code)):
        packed[row % num_rows] |= (code[row] << (bits * (row // num_rows))).astype(np.uint8)
    return packed


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_flips(tmp_path: Path, bits: int) -> None:
    """Integer shifts are zero points, so that the arithmetic is exact."""
    low, high = (-128, 127) if bits == 8 else (0, (1 << bits) - 1)
    group = 64 if bits == 8 else 32
    stored = []
    for step, weight in enumerate(drift((12, 64))):
        code, scale, zero = quantize(weight, group=group, low=low, high=high, symmetric=bits == 8)
        tensors: dict[str, Tensor] = {"m.weight._scale": torch.from_numpy(scale.reshape(-1, 1))}
        if bits == 8:
            tensors["m.weight._data"] = torch.from_numpy(code.astype(np.int8))
        else:
            rows = pack(code.reshape(-1, group), bits)
            tensors["m.weight._data._data"] = torch.from_numpy(rows)
            tensors["m.weight._shift"] = torch.from_numpy(zero.reshape(-1, 1).astype(np.int8))
            tensors["m.bias"] = torch.zeros(12)
        path = store(tmp_path / f"step_{step}", tensors)
        stored.append(describe(code, scale, zero, low=low, high=high))
        assert np.array_equal(load(path, "m.weight").values.numpy(), stored[-1].weights)
    found = rows_of(ai.flips(tmp_path), "flips", "m.weight")
    for row, (earlier, later) in zip(found, pairwise(stored), strict=True):
        assert row["quantizer"] == f"stored:int{bits}"
        expected = count_int_flips(earlier, later)
        assert expected["num_flipped"] > 0
        assert {name: row[name] for name in expected} == expected
        changed = (earlier.scale != later.scale) | (earlier.zero != later.zero)
        assert row["num_scales_changed"] == changed[:, ::group].sum()


def test_a_group_of_equal_weights(tmp_path: Path) -> None:
    """Its scale is 0: the weight is minus the shift, and nothing becomes no number."""
    tensors = {
        "m.weight._data._data": torch.zeros(2, 33, dtype=torch.uint8),
        "m.weight._scale": torch.tensor([[0.0], [1.0], [0.0], [2.0]]),
        "m.weight._shift": torch.tensor([[0.0], [3.0], [-5.0], [0.5]]),
    }
    loaded = load(store(tmp_path / "step_1", tensors), "m.weight")
    assert loaded.values[:, 0].tolist() == [0.0, -3.0, 5.0, -0.5]
    assert loaded.coded is not None
    assert loaded.coded.ordinals[:, 0].tolist() == [0, -3, 0, 0]  # half a code is an offset
    assert loaded.coded.scales.offsets is not None
    assert loaded.coded.scales.offsets.flatten().tolist() == [0.0, 0.0, 0.0, 0.25]


Tensors = dict[str, Tensor]


def test_shifts_that_do_not_fit_fail_alone(tmp_path: Path) -> None:
    for step in range(2):
        tensors = {
            "m.weight._data._data": torch.zeros(2, 33, dtype=torch.uint8),
            "m.weight._scale": torch.ones(4, 1),
            "m.weight._shift": torch.zeros(3, 1),
            "n.weight": torch.ones(3, 3),
        }
        store(tmp_path / f"step_{step}", tensors)
    with pytest.raises(
        CheckpointError, match=r"shifts of shape \[3, 1\], expected one for each of 4"
    ):
        load(tmp_path / "step_0", "m.weight")
    results = ai.flips(tmp_path)
    assert rows_of(results, "flips", "m.weight")[0]["status"] == "failed"
    assert rows_of(results, "flips", "n.weight")[0]["status"] == "ok"


def drop_scale(tensors: Tensors) -> None:
    del tensors["m.weight._scale"]


def drop_shift(tensors: Tensors) -> None:
    del tensors["m.weight._shift"]


def widen_scale(tensors: Tensors) -> None:
    tensors["m.weight._scale"] = torch.ones(64, 1)


@pytest.mark.parametrize("spoil", [drop_scale, drop_shift, widen_scale])
def test_what_only_looks_like_it_stays_plain(
    tmp_path: Path, spoil: Callable[[Tensors], None]
) -> None:
    tensors = {
        "m.weight._data._data": torch.zeros(2, 33, dtype=torch.uint8),
        "m.weight._scale": torch.ones(4, 1),
        "m.weight._shift": torch.zeros(4, 1),
    }
    spoil(tensors)
    checkpoint = open_stored(store(tmp_path / "step_1", tensors))
    assert set(checkpoint.layers) == set(tensors)
    assert checkpoint.scheme == "plain"


def test_a_shift_by_less_than_a_code_is_another_scale(tmp_path: Path) -> None:
    """Codes stay, every weight of one group moves by a quarter of a code: no flip."""
    codes = torch.from_numpy(np.arange(66, dtype=np.uint8).reshape(2, 33))
    for step, shift in enumerate((3.0, 3.25)):
        tensors = {
            "m.weight._data._data": codes,
            "m.weight._scale": torch.ones(4, 1),
            "m.weight._shift": torch.tensor([[2.0], [shift], [1.0], [4.0]]),
        }
        store(tmp_path / f"step_{step}", tensors)
    (row,) = rows_of(ai.flips(tmp_path), "flips", "m.weight")
    assert (row["num_scales_changed"], row["num_updated"]) == (1, 33)
    assert (row["num_flipped"], row["num_recoded"]) == (0, 0)
