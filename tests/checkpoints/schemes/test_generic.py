"""Codes beside a scale of no known scheme: what is claimed, what is not, and what comes of it."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import Tensor

import altgrad_inspect as ai
from altgrad_inspect.errors import CheckpointError
from tests.checkpoints.schemes.affine_oracle import count_int_flips, describe, drift, quantize
from tests.checkpoints.schemes.stored_layers import load, open_stored, store

SHAPE = (6, 8)
CODES = torch.from_numpy(np.random.default_rng(0).integers(-127, 128, SHAPE).astype(np.int8))
PER_ROW = torch.tensor([[0.5], [1.0], [2.0], [3.0], [0.25], [7.0]])
FP8 = torch.arange(48, dtype=torch.uint8).reshape(SHAPE).view(torch.float8_e4m3fn)


@pytest.mark.parametrize(
    ("codes", "scale", "layer"),
    [
        ("m.weight", "m.weight.scale", "m.weight"),
        ("m.weight", "m.weight_scales", "m.weight"),
        ("m.weight", "m.scale", "m.weight"),
        ("m.weight", "m.scales", "m.weight"),
        ("m.weight", "m.qscale", "m.weight"),
        ("weight", "scale", "weight"),
        ("m.qweight", "m.scale", "m.weight"),
        ("m.qweight", "m.weight_scale", "m.weight"),
        ("m.qweight", "m.qweight_scale", "m.weight"),
        ("m.weight.qweight", "m.weight.scale", "m.weight"),  # fracast
        ("m.dw_weight.qweight", "m.dw_weight.scale", "m.dw_weight"),
        ("m.w1_q", "m.w1_scale", "m.w1"),
        ("m.w1_int8", "m.w1.scale", "m.w1"),
        ("m.kernel", "m.kernel_scale", "m.kernel"),
        ("m.kernel", "m.kernel.scales", "m.kernel"),
    ],
)
def test_spellings(tmp_path: Path, codes: str, scale: str, layer: str) -> None:
    tensors = {codes: CODES, scale: PER_ROW, "other.bias": torch.ones(6)}
    path = store(tmp_path / "step_1", tensors)
    checkpoint = open_stored(path)
    assert set(checkpoint.layers) == {layer, "other.bias"}
    assert checkpoint.scheme == "generic"
    assert torch.equal(load(path, layer).values, CODES.float() * PER_ROW)
    (note,) = checkpoint.notes
    assert "1 layer of no known scheme" in note
    assert layer in note
    assert checkpoint.layers[layer].recognised_by == f"I8 beside {scale.rpartition('.')[2]}"


STACK = torch.from_numpy(np.random.default_rng(1).integers(-99, 99, (3, 6, 8)).astype(np.int8))


@pytest.mark.parametrize(
    ("codes", "scale", "expanded"),
    [
        (CODES, torch.tensor(0.5), (1, 1)),
        (CODES, torch.tensor([0.5]), (1, 1)),
        (CODES, torch.rand(6, 1), (6, 1)),
        (CODES, torch.rand(1, 8), (1, 8)),
        (CODES, torch.rand(6, 2), (6, 2)),
        (CODES, torch.rand(2, 4), (2, 4)),
        (CODES, torch.rand(6), (6, 1)),
        (CODES, torch.rand(8), (1, 8)),
        (CODES, torch.rand(6, 1).bfloat16(), (6, 1)),
        (CODES, torch.rand(6, 1).half(), (6, 1)),
        (STACK, torch.rand(3), (3, 1, 1)),
        (STACK, torch.rand(3, 6), (3, 6, 1)),
        (STACK, torch.rand(3, 6, 2), (3, 6, 2)),
        (STACK, torch.rand(3, 1, 1), (3, 1, 1)),
    ],
)
def test_shapes(tmp_path: Path, codes: Tensor, scale: Tensor, expanded: tuple[int, ...]) -> None:
    path = store(tmp_path / "step_1", {"m.weight": codes, "m.scale": scale})
    whole = scale.float().numpy().reshape(expanded)
    for axis, (size, parts) in enumerate(zip(codes.shape, expanded, strict=False)):
        whole = np.repeat(whole, size // parts, axis=axis)
    expected = codes.numpy().astype(np.float32) * whole.reshape(codes.shape)
    assert np.array_equal(load(path, "m.weight").values.numpy(), expected)


def test_fp8(tmp_path: Path) -> None:
    exponents = torch.tensor([[126], [127], [128], [127], [127], [127]], dtype=torch.uint8)
    scales = {"m": PER_ROW, "n": exponents.view(torch.float8_e8m0fnu)}
    for name, scale in scales.items():
        path = store(tmp_path / name, {f"{name}.weight": FP8, f"{name}.scale": scale})
        values = FP8.view(torch.uint8).numpy().view(ml_dtypes.float8_e4m3fn).astype(np.float32)
        expected = (
            values * np.exp2(exponents.numpy() - 127.0) if name == "n" else values * PER_ROW.numpy()
        )
        assert np.array_equal(load(path, f"{name}.weight").values.numpy(), expected)


def test_absmax_is_the_value_of_code_127(tmp_path: Path) -> None:
    path = store(tmp_path / "step_1", {"m.weight": CODES, "m.absmax": PER_ROW})
    expected = CODES.numpy() * (PER_ROW.numpy() / np.float32(127))
    assert np.array_equal(load(path, "m.weight").values.numpy(), expected)


ZERO = torch.tensor([[0], [1], [-2], [3], [100], [-128]], dtype=torch.int32)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64, torch.float32])
@pytest.mark.parametrize("name", ["m.weight_zero_point", "m.zero_point", "m.zeros", "m.weight.zp"])
def test_zero_points(tmp_path: Path, dtype: torch.dtype, name: str) -> None:
    tensors = {"m.weight": CODES, "m.scales": PER_ROW, name: ZERO.to(dtype)}
    loaded = load(store(tmp_path / "step_1", tensors), "m.weight")
    expected = (CODES.int() - ZERO).float() * PER_ROW
    assert torch.equal(loaded.values, expected)
    assert loaded.coded is not None
    assert torch.equal(loaded.coded.ordinals.int(), CODES.int() - ZERO)


def test_unsigned_codes_with_zero_points(tmp_path: Path) -> None:
    codes = torch.arange(208, 256, dtype=torch.uint8).reshape(SHAPE)
    tensors = {"m.weight": codes, "m.scale": PER_ROW, "m.zero_point": torch.full((6, 1), 128)}
    values = load(store(tmp_path / "step_1", tensors), "m.weight").values
    assert torch.equal(values, (codes.float() - 128) * PER_ROW)


@pytest.mark.parametrize("symmetric", [True, False])
def test_flips(tmp_path: Path, *, symmetric: bool) -> None:
    stored = []
    for step, weight in enumerate(drift((12, 64))):
        code, scale, zero = quantize(weight, group=64, low=-128, high=127, symmetric=symmetric)
        tensors = {
            "m.weight": torch.from_numpy(code.astype(np.int8)),
            "m.scales": torch.from_numpy(scale),
        }
        if not symmetric:
            tensors["m.weight_zero_point"] = torch.from_numpy(zero)
        store(tmp_path / f"step_{step}", tensors)
        stored.append(describe(code, scale, zero, low=-128, high=127))
    results = ai.flips(tmp_path)
    rows = results.to_pandas("flips")
    for row, (earlier, later) in zip(rows.itertuples(), pairwise(stored), strict=True):
        expected = count_int_flips(earlier, later)
        assert expected["num_flipped"] > 0
        assert {name: getattr(row, name) for name in expected} == expected
    assert any("1 layer of no known scheme" in note for note in results.notes)


SQUARE = torch.zeros(6, 6, dtype=torch.int8)


@pytest.mark.parametrize(
    ("others", "side"),
    [
        ({"n.weight": CODES, "n.scale": torch.rand(6)}, "rows"),
        ({"n.weight": CODES, "n.scale": torch.rand(8)}, "cols"),
        ({}, None),
        (
            {
                "n.weight": CODES,
                "n.scale": torch.rand(6),
                "o.weight": CODES,
                "o.scale": torch.rand(8),
            },
            None,
        ),
    ],
)
def test_rows_or_columns_of_a_square(
    tmp_path: Path, others: dict[str, Tensor], side: str | None
) -> None:
    scale = torch.arange(1.0, 7.0)
    tensors = {"m.weight": torch.ones_like(SQUARE), "m.scale": scale, **others}
    path = store(tmp_path / "step_1", tensors)
    checkpoint = open_stored(path)
    if side is None:
        assert "m.weight" not in checkpoint.layers
        assert {row.layer for row in checkpoint.left_out} == {"m.weight", "m.scale"}
        assert all("nothing says which" in row.reason for row in checkpoint.left_out)
        return
    expected = scale[:, None] if side == "rows" else scale[None, :]
    assert torch.equal(load(path, "m.weight").values, expected.expand(6, 6))


BYTES = torch.ones(SHAPE, dtype=torch.uint8)


@pytest.mark.parametrize(
    "tensors",
    [
        {"position_ids": torch.arange(8), "position_ids_scale": torch.ones(1)},
        {"m.mask": torch.ones(SHAPE, dtype=torch.bool), "m.mask_scale": torch.ones(1)},
        {"m.weight": BYTES, "m.scale": PER_ROW},  # maybe two codes a byte
        {"m.weight": CODES.short(), "m.scale": PER_ROW},
        {"m.weight": CODES.int(), "m.scale": PER_ROW},
        {"m.weight": torch.ones(SHAPE), "m.scale": PER_ROW},
        {"m.weight": CODES, "m.scale": torch.ones(SHAPE)},  # one for every weight
        {"m.weight": CODES, "m.scale": torch.ones(6, 3)},
        {"m.weight": CODES, "m.scale": torch.ones(5, 1)},
        {"m.weight": CODES, "m.scale": torch.ones(5)},
        {"m.weight": CODES, "m.scale": torch.ones(6, 1, 1)},
        {"m.weight": CODES, "m.scale": torch.ones(6, 0)},
        {"m.weight": CODES, "m.scale": BYTES[:, :1]},
        {"m.weight": CODES, "m.scale": BYTES[:, :1].view(torch.float8_e8m0fnu)},
        {"m.weight": CODES, "n.scale": PER_ROW},
        {"m.bias": CODES[0], "m.scale": PER_ROW},
        {"m.weight": CODES, "m.scale": PER_ROW, "m.scales": PER_ROW},
        {"m.weight": CODES, "m.scale": PER_ROW, "m.weight_scale_2": torch.ones(1)},
        {"m.weight": CODES, "m.scale": PER_ROW, "m.shift": PER_ROW},
        {"m.weight": CODES, "m.scale": PER_ROW, "m.g_idx": torch.zeros(8).int()},
        {"m.weight": CODES, "m.scale": PER_ROW, "m.weight.quant_map": torch.zeros(16)},
        {"m.weight": CODES, "m.scale": PER_ROW, "m.zero_point": torch.zeros(2, 1)},
        {"m.weight": CODES, "m.scale": PER_ROW, "m.zeros": ZERO, "m.zero_point": ZERO},
        {"m.weight": CODES, "m.scale": PER_ROW, "m.zero_point": ZERO.bool()},
        {"m.qweight": CODES, "m.scale": PER_ROW, "m.weight": torch.ones(SHAPE)},
        {"m.weight": FP8, "m.scales": PER_ROW, "m.zero_point": ZERO},
        {"m.weight": FP8, "m.absmax": PER_ROW},
        {"m.weight": torch.ones((), dtype=torch.int8), "m.scale": torch.ones(())},
    ],
)
def test_nothing_doubtful_is_claimed(tmp_path: Path, tensors: Mapping[str, Tensor]) -> None:
    checkpoint = open_stored(store(tmp_path / "step_1", tensors))
    assert checkpoint.scheme == "plain"
    assert set(checkpoint.layers) == set(tensors)
    assert not checkpoint.notes


def test_zero_points_between_codes_are_refused(tmp_path: Path) -> None:
    tensors = {"m.weight": CODES, "m.scale": PER_ROW, "m.zero_point": PER_ROW}
    path = store(tmp_path / "step_1", tensors)
    with pytest.raises(CheckpointError, match="zero points between two codes"):
        load(path, "m.weight")


def test_scales_of_inputs_are_left_out(tmp_path: Path) -> None:
    tensors = {"m.weight": CODES, "m.weight_scale": PER_ROW, "m.input_scale": torch.ones(1)}
    checkpoint = open_stored(store(tmp_path / "step_1", tensors))
    assert set(checkpoint.layers) == {"m.weight"}
    assert [row.layer for row in checkpoint.left_out] == ["m.input_scale"]
