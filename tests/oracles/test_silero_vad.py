"""Ranks and flips of convolutions and an LSTM, silero-vad 6.2.3, against numpy and ml_dtypes."""

from importlib.util import find_spec
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import altgrad_inspect as ai
from tests.checkpoints.schemes.stored_layers import rows_of

LAYERS = {
    # A last dimension above 16 is that of a matrix: 258 filters of one row each.
    "stft_conv.weight": (258, 1, 256),
    "conv1.weight": (1, 128, 129 * 3),
    "conv2.weight": (1, 64, 128 * 3),
    "conv3.weight": (1, 64, 64 * 3),
    "conv4.weight": (1, 128, 64 * 3),
    "final_conv.weight": (1, 1, 128),
    "lstm_cell.weight_ih": (1, 512, 128),
    "lstm_cell.weight_hh": (1, 512, 128),
}
"""(matrices, rows, columns) of every layer that has any."""


@pytest.fixture(scope="module")
def path() -> Path:
    spec = find_spec("silero_vad")
    if spec is None or spec.origin is None:
        pytest.skip("silero-vad is not installed")
    return Path(spec.origin).parent / "data" / "silero_vad_16k.safetensors"


def test_ranks(path: Path) -> None:
    results = ai.rank(path)
    weights = load_file(path)
    assert {row["layer"] for row in results.to_arrow("ranks").to_pylist()} == set(LAYERS)
    for layer, (count, num_rows, num_cols) in LAYERS.items():
        matrices = weights[layer].double().numpy().reshape(count, num_rows, num_cols)
        rows = rows_of(results, "ranks", layer)
        assert [row["matrix"] for row in rows] == list(range(count))
        for row, matrix in zip(rows, matrices, strict=True):
            assert (row["rows"], row["cols"]) == (num_rows, num_cols)
            if not matrix.any():
                assert row["status"] == "undefined"
                continue
            values = np.linalg.svd(matrix, compute_uv=False)
            shares = values[values > 0] / values.sum()
            assert row["stable_rank"] == pytest.approx((values**2).sum() / values[0] ** 2, rel=1e-6)
            effective = np.exp(-(shares * np.log(shares)).sum())
            assert row["effective_rank"] == pytest.approx(effective, rel=1e-5)
            assert row["frobenius_norm"] == pytest.approx(np.linalg.norm(matrix), rel=1e-9)


def ordinals(weights: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """E4M3 codes by ml_dtypes, in the order of the values."""
    codes = np.clip(weights / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    found: np.ndarray = np.where(codes & 0x80, -(codes & 0x7F).astype(int), codes.astype(int))
    return found


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_flips(path: Path, tmp_path: Path, granularity: str) -> None:
    """One scale a layer; one a row of (outputs, everything else), of each matrix of a stack."""
    first = load_file(path)
    draw = torch.Generator().manual_seed(0)
    second = {
        name: one
        + 0.02
        * (float(one.std()) if one.numel() > 1 else 1.0)
        * torch.randn(one.shape, generator=draw)
        for name, one in first.items()
    }
    for step, tensors in enumerate((first, second)):
        save_file(tensors, tmp_path / f"step_{step}.safetensors")
    results = ai.flips(tmp_path, quant=[f"e4m3:{granularity}"])
    for layer, (count, num_rows, num_cols) in LAYERS.items():
        before, after = (
            one[layer].numpy().reshape(count * num_rows, num_cols) for one in (first, second)
        )
        axis = 1 if granularity == "channel" else None
        scales = [
            np.abs(one).max(axis=axis, keepdims=True) / np.float32(448) for one in (before, after)
        ]
        scales = [np.where(scale == 0, np.float32(1), scale) for scale in scales]
        earlier = ordinals(before, scales[0])
        (row,) = rows_of(results, "flips", layer)
        assert row["num_weights"] == before.size
        assert row["num_flipped"] == np.count_nonzero(ordinals(after, scales[0]) != earlier), layer
        assert row["num_recoded"] == np.count_nonzero(ordinals(after, scales[1]) != earlier), layer
        assert row["num_flipped"] > 0
