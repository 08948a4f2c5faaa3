"""Codes and flip counts on real weights, against ml_dtypes, for every weight of the model.

Three checkpoints: the published weights, and two steps away from them that are sized
like an optimizer's (a few parts in a thousand of each layer's own scale).
"""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from altgrad_inspect import flips, report
from altgrad_inspect.formats import element_format
from altgrad_inspect.quantize.grids import encode_ordinals

STEPS = (100, 200, 300)
DTYPES = {"e4m3": (ml_dtypes.float8_e4m3fn, 448.0), "e5m2": (ml_dtypes.float8_e5m2, 57344.0)}


@pytest.fixture(scope="module")
def minilm_run(minilm_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three checkpoints made from the published weights."""
    directory = tmp_path_factory.mktemp("minilm")
    generator = torch.Generator().manual_seed(0)
    weights = load_file(minilm_path)
    for step in STEPS:
        save_file(weights, directory / f"step_{step:06d}.safetensors")
        for name, weight in weights.items():
            if weight.is_floating_point() and weight.numel() > 1:
                noise = torch.randn(weight.shape, generator=generator)
                weights[name] = weight + 2e-3 * weight.std() * noise
    return directory


def codes(weights: torch.Tensor, scale: np.float32, dtype: type, limit: float) -> np.ndarray:
    scaled = np.clip(weights.numpy() / scale, -limit, limit)
    raw = scaled.astype(dtype).view(np.uint8)
    return np.where(raw == 0x80, 0, raw)  # -0 is +0


@pytest.mark.parametrize("name", DTYPES)
def test_flips_of_every_layer_are_those_of_ml_dtypes(minilm_run: Path, name: str) -> None:
    dtype, limit = DTYPES[name]
    measured = flips(minilm_run, quant=[name]).to_arrow().to_pylist()
    table = {(row["layer"], row["step_from"]): row for row in measured}
    files = [load_file(minilm_run / f"step_{step:06d}.safetensors") for step in STEPS]
    num_layers = 0
    for layer in files[0]:
        run = [file[layer] for file in files]
        if not run[0].is_floating_point():
            continue
        num_layers += 1
        scales = [np.float32(w.abs().max().numpy() / np.float32(limit)) for w in run]
        scales = [np.float32(1) if scale == 0 else scale for scale in scales]
        for at in (0, 1):
            row = table[layer, STEPS[at]]
            earlier = codes(run[at], scales[at], dtype, limit)
            flipped = codes(run[at + 1], scales[at], dtype, limit) != earlier
            recoded = codes(run[at + 1], scales[at + 1], dtype, limit) != earlier
            assert row["num_flipped"] == flipped.sum(), layer
            assert row["num_recoded"] == recoded.sum(), layer
            assert row["num_updated"] == (run[at + 1] != run[at]).sum(), layer
            if at:
                back = codes(run[0], scales[1], dtype, limit)
                reverted = flipped & (codes(run[2], scales[1], dtype, limit) == back)
                assert row["num_reverted"] == reverted.sum(), layer
    assert num_layers > 90


@pytest.mark.parametrize("name", DTYPES)
def test_the_code_of_every_weight_is_that_of_ml_dtypes(minilm_path: Path, name: str) -> None:
    dtype, limit = DTYPES[name]
    for weights in load_file(minilm_path).values():
        if not weights.is_floating_point():
            continue
        scale = np.float32(weights.abs().max().numpy() / np.float32(limit)) or np.float32(1)
        ours = encode_ordinals(weights / torch.tensor(scale), element_format(name)).numpy()
        raw = codes(weights, scale, dtype, limit).astype(np.int16)
        np.testing.assert_array_equal(ours, np.where(raw > 127, -(raw - 128), raw))


def test_healthy_layers_have_an_excess_near_one_and_nothing_fails(minilm_run: Path) -> None:
    results = report(minilm_run, layers=["layer.0."])
    assert results.num_failed == 0
    table = results.to_pandas("flips")
    excess = table["flip_excess"][table["num_expected_flips"] > 500]
    assert len(excess) >= 12
    assert excess.between(0.9, 1.15).all()
