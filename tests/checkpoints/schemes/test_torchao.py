"""Flattened subclasses of torchao: weights, against torchao itself; flips, against numpy.

The files under ``tests/data/torchao`` were made with torchao 0.18 and torch 2.13::

    def w(*shape):
        return torch.randn(*shape) * torch.logspace(-3, 2, shape[-2])[:, None]

    torch.manual_seed(0)
    n, k, wide, asym = 8, 64, w(130, 16), MappingType.ASYMMETRIC
    tensors = {
        "f8_row.weight": Float8Tensor.from_hp(w(n, k), granularity=PerRow()),
        "f8_tensor.weight": Float8Tensor.from_hp(w(n, k), granularity=PerTensor()),
        "f8_block.weight": Float8Tensor.from_hp(w(n, k), granularity=PerBlock([4, 32])),
        "f8_e5m2.weight": Float8Tensor.from_hp(w(n, k), torch.float8_e5m2, PerRow()),
        "int8.weight": Int8Tensor.from_hp(w(n, k), PerRow()),
        "int8_asym.weight": Int8Tensor.from_hp(w(n, k) + 0.1, PerRow(), asym),
        "int4.weight": IntxUnpackedToInt8Tensor.from_hp(w(n, k), (1, 32), torch.int4),
        "int3_asym.weight": ...from_hp(w(n, k) + 0.1, (1, 16), torch.int3, mapping_type=asym),
        "int1.weight": IntxUnpackedToInt8Tensor.from_hp(w(n, k), (1, 64), torch.int1),
        "mx8.weight": MXTensor.to_mx(w(n, k), torch.float8_e4m3fn, 32),
        "mx8_e5m2.weight": MXTensor.to_mx(w(n, k), torch.float8_e5m2, 32),
        "mx6.weight": MXTensor.to_mx(w(n, k), "fp6_e3m2", 32),
        "mx6_e2m3.weight": MXTensor.to_mx(w(n, k), "fp6_e2m3", 32),
        "mx4.weight": MXTensor.to_mx(
            w(n, k), torch.float4_e2m1fn_x2, 32, is_swizzled_scales=True
        ),
        "nvfp4.weight": NVFP4Tensor.to_nvfp4(
            wide, per_tensor_scale=per_tensor_amax_to_scale(wide.abs().max()),
            is_swizzled_scales=True,
        ),
        "nvfp4_stack.weight": NVFP4Tensor.to_nvfp4(w(2, 4, 32)),
    }
    flat, metadata = flatten_tensor_state_dict(tensors)
    save_file(flat, "flattened.safetensors", metadata=metadata)
    weights = {name: tensor.dequantize() for name, tensor in tensors.items()}
"""

import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

import altgrad_inspect as ai
from altgrad_inspect.errors import CheckpointError
from tests.checkpoints.schemes.affine_oracle import (
    count_int_flips,
    describe,
    drift,
    quantize,
)
from tests.checkpoints.schemes.stored_layers import load, open_stored, rows_of, store

DATA = Path(__file__).parents[2] / "data" / "torchao"
WEIGHTS = {**load_file(DATA / "weights.safetensors"), **load_file(DATA / "weights_mx.safetensors")}
CLASSES = {
    "f8": "Float8Tensor",
    "int8": "Int8Tensor",
    "int4": "IntxUnpackedToInt8Tensor",
    "int3": "IntxUnpackedToInt8Tensor",
    "int1": "IntxUnpackedToInt8Tensor",
    "mx8": "MXTensor",
    "mx6": "MXTensor",
    "mx4": "MXTensor",
    "nvfp4": "NVFP4Tensor",
}


def read_flattened() -> tuple[dict[str, Tensor], dict[str, str]]:
    path = DATA / "flattened.safetensors"
    with safe_open(path, "pt") as stored:
        metadata = dict(stored.metadata())
    return load_file(path), metadata


def entry(kind: str, **data: object) -> str:
    return json.dumps({"_type": kind, "_data": data, "_tensor_data_names": ["qdata", "scale"]})


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_weights_are_those_of_torchao(tmp_path: Path, name: str) -> None:
    tensors, metadata = read_flattened()
    path = store(tmp_path / "step_1", tensors, metadata)
    loaded = load(path, name)
    assert torch.equal(loaded.values, WEIGHTS[name])
    assert loaded.coded is not None
    assert torch.equal(loaded.coded.decode().reshape(loaded.values.shape), WEIGHTS[name])
    kind = CLASSES[name.partition(".")[0].partition("_")[0]]
    checkpoint = open_stored(path)
    assert checkpoint.layers[name].recognised_by == f"metadata: {kind}"
    assert set(checkpoint.layers) == set(WEIGHTS)
    assert checkpoint.scheme == "torchao"


def without_metadata(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Only the tensors that say by themselves what they are."""
    stems = ("f8_row", "f8_tensor", "f8_block", "f8_e5m2", "int8", "int8_asym")
    return {key: one for key, one in tensors.items() if key.partition(".")[0] in stems}


def test_fp8_and_int8_need_no_metadata(tmp_path: Path) -> None:
    tensors, _ = read_flattened()
    path = store(tmp_path / "step_1", without_metadata(tensors))
    checkpoint = open_stored(path)
    for name, layer in checkpoint.layers.items():
        assert layer.recognised_by == "names and dtypes"
        assert torch.equal(load(path, name).values, WEIGHTS[name])
    assert len(checkpoint.layers) == 6


def test_without_metadata_nobody_knows_how_scales_lie(tmp_path: Path) -> None:
    tensors, _ = read_flattened()
    kept = {key: one for key, one in tensors.items() if key.startswith(("mx4", "nvfp4."))}
    checkpoint = open_stored(store(tmp_path / "step_1", kept))
    assert not checkpoint.layers
    assert {row.layer for row in checkpoint.left_out} == set(kept)
    assert all("metadata" in row.reason for row in checkpoint.left_out)


def test_without_metadata_blocks_must_be_whole(tmp_path: Path) -> None:
    tensors = {
        "m._weight_qdata": torch.zeros(4, 32, dtype=torch.int8),
        "m._weight_scale": torch.ones(3, 1),
    }
    assert not open_stored(store(tmp_path / "step_1", tensors)).layers


@pytest.mark.parametrize("described", [True, False])
def test_a_weight_that_is_there_is_not_made_again(tmp_path: Path, *, described: bool) -> None:
    tensors = {
        "m.weight": torch.ones(4, 32),
        "m._weight_qdata": torch.zeros(4, 32, dtype=torch.int8),
        "m._weight_scale": torch.ones(4, 1),
    }
    metadata = {"m.weight": entry("Int8Tensor", block_size=[1, 32])}
    path = store(tmp_path / "step_1", tensors, metadata if described else None)
    checkpoint = open_stored(path)
    assert checkpoint.layers["m.weight"].scheme == "plain"
    assert torch.equal(load(tmp_path / "step_1", "m.weight").values, torch.ones(4, 32))


def test_shards_have_their_own_lists(tmp_path: Path) -> None:
    tensors, metadata = read_flattened()
    path = tmp_path / "step_1"
    halves = (sorted(WEIGHTS)[::2], sorted(WEIGHTS)[1::2])
    for number, names in enumerate(halves, start=1):
        stems = tuple(f"{name.partition('.')[0]}." for name in names)
        own = {key: one for key, one in tensors.items() if key.startswith(stems)}
        listed = {"tensor_names": json.dumps(names)} | {name: metadata[name] for name in names}
        store(tmp_path / f"half_{number}", own, listed)
        path.mkdir(exist_ok=True)
        file = tmp_path / f"half_{number}" / "model.safetensors"
        file.rename(path / f"model-{number:05}-of-00002.safetensors")
    assert set(open_stored(path).layers) == set(WEIGHTS)


def test_an_int4_tensor_adds_its_zero_point(tmp_path: Path) -> None:
    """The formula of mslk's kernels: code * scale + zero, both bfloat16 of [K / group, N]."""
    draw = np.random.default_rng(0)
    codes = draw.integers(-8, 8, (6, 64))
    codes[0, :16] = np.arange(-8, 8)
    packed = (codes[:, ::2] & 15) | ((codes[:, 1::2] & 15) << 4)
    scale, zero = (torch.rand(2, 6).bfloat16() + 0.01 for _ in range(2))
    tensors = {
        "m._weight_qdata": torch.from_numpy(packed.astype(np.uint8)).view(torch.int8),
        "m._weight_scale": scale,
        "m._weight_zero_point": zero,
    }
    metadata = {"m.weight": entry("Int4Tensor", block_size=[1, 32], shape=[6, 64])}
    loaded = load(store(tmp_path / "step_1", tensors, metadata), "m.weight")
    scale_of, zero_of = (
        np.repeat(one.float().numpy().T, 32, axis=1).astype(np.float32) for one in (scale, zero)
    )
    expected = codes.astype(np.float32) * scale_of + zero_of
    assert np.array_equal(loaded.values.numpy(), expected)
    assert loaded.coded is not None
    assert loaded.coded.decode().numpy() == pytest.approx(expected, rel=1e-6, abs=1e-6)
    view = loaded.coded.scales
    rows, cols = slice(0, 6), slice(0, 64)
    scaled = view.scale_down(loaded.values, rows, cols)
    again = view.encode(scaled, loaded.coded.fmt, (rows, cols))
    assert torch.equal(again, loaded.coded.ordinals)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("kind", "bits", "group"), [("Int8Tensor", 8, 64), ("Intx", 4, 16)])
def test_flips_of_integers(
    tmp_path: Path, kind: str, bits: int, group: int, *, symmetric: bool
) -> None:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    data: dict[str, object] = {"block_size": [1, group]}
    if kind == "Intx":
        kind = "IntxUnpackedToInt8Tensor"
        data["target_dtype"] = {"_type": "torch.dtype", "_data": "int4"}
    stored = []
    for step, weight in enumerate(drift((12, 64))):
        code, scale, zero = quantize(weight, group=group, low=low, high=high, symmetric=symmetric)
        tensors = {
            "m._weight_qdata": torch.from_numpy(code.astype(np.int8)),
            "m._weight_scale": torch.from_numpy(scale),
            "m._weight_zero_point": torch.from_numpy(zero.astype(np.int8)),
        }
        store(tmp_path / f"step_{step}", tensors, {"m.weight": entry(kind, **data)})
        stored.append(describe(code, scale, zero, low=low, high=high))
    rows = rows_of(ai.flips(tmp_path), "flips", "m.weight")
    for row, (earlier, later) in zip(rows, pairwise(stored), strict=True):
        assert row["quantizer"] == f"stored:int{bits}"
        expected = count_int_flips(earlier, later)
        assert expected["num_flipped"] > 0
        assert {name: row[name] for name in expected} == expected
        changed = (earlier.scale != later.scale) | (earlier.zero != later.zero)
        assert row["num_scales_changed"] == changed[:, ::group].sum()
        assert 0 < row["num_scales_changed"] < row["num_scales"]


def test_a_zero_point_is_part_of_the_scale(tmp_path: Path) -> None:
    """Every code and every zero point moves by one: no weight moves, every zero point does."""
    code = torch.arange(-8, 8, dtype=torch.int8).repeat(2, 2)
    for step in range(2):
        tensors = {
            "m._weight_qdata": code + step,
            "m._weight_scale": torch.ones(2, 1),
            "m._weight_zero_point": torch.full((2, 1), step, dtype=torch.int8),
        }
        metadata = {"m.weight": entry("Int8Tensor", block_size=[1, 32])}
        store(tmp_path / f"step_{step}", tensors, metadata)
    (row,) = ai.flips(tmp_path).to_pandas("flips").itertuples()
    assert (row.num_updated, row.num_flipped, row.num_scales_changed) == (0, 0, 2)
    assert row.scale_ratio_max == 1.0


def test_flips_of_swizzled_nvfp4(tmp_path: Path) -> None:
    """Scales of a matrix of more than one tile, written by the formula of the layout."""
    rows, cols, group = 130, 32, 16
    draw = np.random.default_rng(0)
    run = []
    for step in range(3):
        codes = draw.integers(0, 16, (rows, cols)).astype(np.uint8)
        scale = draw.uniform(0.5, 4, (rows, cols // group)).astype(ml_dtypes.float8_e4m3fn)
        run.append((codes, scale))
        swizzled = np.zeros((2 * 128 * 4,), dtype=np.uint8)
        for row, col in np.ndindex(scale.shape):
            at = row // 128 * 512 + row % 32 * 16 + row % 128 // 32 * 4 + col
            swizzled[at] = scale[row, col].view(np.uint8)
        tensors = {
            "m._weight_qdata": torch.from_numpy(codes[:, ::2] | (codes[:, 1::2] << 4)),
            "m._weight_scale": torch.from_numpy(swizzled).view(torch.float8_e4m3fn).reshape(64, 16),
            "m._weight_per_tensor_scale": torch.tensor(0.25),
        }
        metadata = {"m.weight": entry("NVFP4Tensor", block_size=16, is_swizzled_scales=True)}
        store(tmp_path / f"step_{step}", tensors, metadata)
    values = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    found = load(tmp_path / "step_2", "m.weight").values.numpy()
    codes, scale = run[2]
    expected = values[codes] * np.repeat(scale.astype(np.float32) * np.float32(0.25), group, 1)
    assert np.array_equal(found, expected)
    flips = ai.flips(tmp_path).to_pandas("flips")
    assert set(flips["quantizer"]) == {"stored:float4_e2m1fn"}
    for row, (earlier, later) in zip(flips.itertuples(), pairwise(run), strict=True):
        before, after = values[earlier[0]], values[later[0]]  # -0 and +0 are one code
        assert row.num_recoded == (before != after).sum()


@pytest.mark.parametrize("kind", ["Int4TilePackedTo4dTensor", "Int4PlainInt32Tensor"])
def test_an_order_that_only_a_kernel_knows_is_refused(tmp_path: Path, kind: str) -> None:
    tensors = {
        "m._weight_qdata": torch.zeros(2, 2, 32, 4, dtype=torch.int32),
        "m._weight_scale_and_zero": torch.zeros(2, 16, 2).bfloat16(),
    }
    checkpoint = open_stored(
        store(tmp_path / "step_1", tensors, {"m.weight": entry(kind, block_size=[1, 32])})
    )
    assert not checkpoint.layers
    assert {row.layer for row in checkpoint.left_out} == set(tensors)
    assert all(kind in row.reason and "Int4Tensor" in row.reason for row in checkpoint.left_out)


def test_a_class_of_a_later_version_is_named(tmp_path: Path) -> None:
    tensors = {"m._weight_qdata": torch.zeros(2, 2), "m.bias": torch.zeros(2)}
    checkpoint = open_stored(store(tmp_path / "step_1", tensors, {"m.weight": entry("Int9")}))
    assert set(checkpoint.layers) == {"m.bias"}
    assert "torchao Int9 is not known" in checkpoint.left_out[0].reason


Tensors = dict[str, Tensor]


def shrink_scale(tensors: Tensors) -> None:
    tensors["m._weight_scale"] = torch.ones(3, 1)


def widen_codes(tensors: Tensors) -> None:
    tensors["m._weight_qdata"] = torch.full((4, 32), 9, dtype=torch.int8)


def shrink_zero_points(tensors: Tensors) -> None:
    tensors["m._weight_zero_point"] = torch.zeros(1, 1, dtype=torch.int8)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (shrink_scale, r"scales of shape \[3, 1\]"),
        (widen_codes, "codes from 9 to 9, expected -8 to 7"),
        (shrink_zero_points, r"zero points of shape \[1, 1\]"),
    ],
)
def test_parts_that_do_not_fit(
    tmp_path: Path, spoil: Callable[[Tensors], None], problem: str
) -> None:
    tensors = {
        "m._weight_qdata": torch.zeros(4, 32, dtype=torch.int8),
        "m._weight_scale": torch.ones(4, 1),
        "m._weight_zero_point": torch.zeros(4, 1, dtype=torch.int8),
        "n.weight": torch.ones(4, 4),
    }
    spoil(tensors)
    target = {"_type": "torch.dtype", "_data": "int4"}
    metadata = {
        "m.weight": entry("IntxUnpackedToInt8Tensor", block_size=[1, -1], target_dtype=target)
    }
    for step in range(2):
        store(tmp_path / f"step_{step}", tensors, metadata)
    with pytest.raises(CheckpointError, match=problem):
        load(tmp_path / "step_0", "m.weight")
    results = ai.flips(tmp_path)
    assert rows_of(results, "flips", "m.weight")[0]["status"] == "failed"
    assert rows_of(results, "flips", "n.weight")[0]["status"] == "ok"


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        ("Int8Tensor", {"block_size": [1, 32]}, "torchao Int8Tensor without its scale"),
        ("Float8Tensor", {"block_size": [1, 32]}, "torchao Float8Tensor without its scale"),
    ],
)
def test_a_missing_scale(tmp_path: Path, kind: str, data: dict[str, object], reason: str) -> None:
    codes = torch.zeros(4, 32, dtype=torch.int8)
    is_float = kind == "Float8Tensor"
    tensors = {
        "m._weight_qdata": codes.view(torch.float8_e4m3fn) if is_float else codes,
        "m._weight_zero_point": torch.zeros(4, 1, dtype=torch.int8),
    }
    checkpoint = open_stored(store(tmp_path / "step_1", tensors, {"m.weight": entry(kind, **data)}))
    assert {row.reason for row in checkpoint.left_out} == {reason}
    assert ("m._weight_qdata" in checkpoint.layers) == is_float  # compared as codes alone


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("Int8Tensor", {"block_size": [1]}),
        ("Int8Tensor", {"block_size": "all"}),
        ("Int8Tensor", {}),
        ("Float8Tensor", {"block_size": [1, 32]}),
        ("MXTensor", {"elem_dtype": "int8", "block_size": 32}),
        ("IntxUnpackedToInt8Tensor", {"block_size": [1, 32], "target_dtype": "int9"}),
        ("Int8Tensor", None),
    ],
)
def test_metadata_that_do_not_fit(tmp_path: Path, kind: str, data: object) -> None:
    tensors = {
        "m._weight_qdata": torch.zeros(4, 32, dtype=torch.int8),
        "m._weight_scale": torch.ones(4, 1),
    }
    text = json.dumps({"_type": kind, "_data": data})
    checkpoint = open_stored(store(tmp_path / "step_1", tensors, {"m.weight": text}))
    assert not checkpoint.layers
    assert "its metadata do not fit its codes" in checkpoint.left_out[0].reason


@pytest.mark.parametrize("text", ["{", "[" * 5000, "{" + '"a":{' * 5000, '{"_type": 3}', "{}"])
def test_metadata_that_say_nothing(tmp_path: Path, text: str) -> None:
    tensors = {"m.weight": torch.ones(4, 4)}
    assert set(open_stored(store(tmp_path / "step_1", tensors, {"x.weight": text})).layers) == {
        "m.weight"
    }


def test_scales_of_inputs_are_left_out(tmp_path: Path) -> None:
    tensors = {
        "m._weight_qdata": torch.zeros(4, 32, dtype=torch.int8),
        "m._weight_scale": torch.ones(4, 1),
        "m._weight_act_quant_scale": torch.ones(1),
    }
    metadata = {"m.weight": entry("Int8Tensor", block_size=[1, 32])}
    checkpoint = open_stored(store(tmp_path / "step_1", tensors, metadata))
    assert set(checkpoint.layers) == {"m.weight"}
    assert [row.layer for row in checkpoint.left_out] == ["m._weight_act_quant_scale"]
