"""Block-scaled FP8 as DeepSeek-V3 stores it: codes, weights and flips, against numpy."""

from itertools import pairwise
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import altgrad_inspect as ai
from altgrad_inspect.checkpoints.checkpoint import open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.layer_reader import LayerReader
from altgrad_inspect.errors import CheckpointError
from tests.checkpoints.runs_on_disk import write_json
from tests.checkpoints.schemes.flip_oracle import Stored, count_flips

ROWS, COLS, BLOCK = 200, 260, 128  # ragged on both sides
NAME = "model.layers.0.mlp.up_proj"
CONFIG = {
    "quantization_config": {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "weight_block_size": [BLOCK, BLOCK],
        "activation_scheme": "dynamic",
    }
}
E4M3 = [float(one) for one in np.arange(127, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn)]
VALUES = {sign * code: sign * value for sign in (-1, 1) for code, value in enumerate(E4M3)}


def expand(blocks: np.ndarray) -> np.ndarray:
    """One scale a weight."""
    return np.repeat(np.repeat(blocks, BLOCK, 0), BLOCK, 1)[:ROWS, :COLS]


def quantize(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales, one block at a time, by ml_dtypes."""
    scales = np.zeros((-(-ROWS // BLOCK), -(-COLS // BLOCK)), dtype=np.float32)
    codes = np.zeros(weight.shape, dtype=np.uint8)
    for i, j in np.ndindex(scales.shape):
        at = np.s_[i * BLOCK : (i + 1) * BLOCK, j * BLOCK : (j + 1) * BLOCK]
        scales[i, j] = np.abs(weight[at]).max() / np.float32(448)
        codes[at] = (weight[at] / scales[i, j]).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    return codes, scales


def ordinals(codes: np.ndarray) -> np.ndarray:
    magnitude = (codes & 0x7F).astype(np.int64)
    return np.where(codes & 0x80, -magnitude, magnitude)


@pytest.fixture
def weights() -> list[np.ndarray]:
    """Three checkpoints; one block is rescaled in the second, another one in the third."""
    draw = np.random.default_rng(0)
    run = [draw.standard_normal((ROWS, COLS)).astype(np.float32)]
    for step in range(2):
        later = run[-1] + 0.02 * draw.standard_normal((ROWS, COLS)).astype(np.float32)
        later[3 + BLOCK * step, 5] = 9.0 + step  # a new outlier: another scale for its block
        run.append(later)
    return run


def save(path: Path, codes: np.ndarray, scales: Tensor, **others: Tensor) -> None:
    path.mkdir(parents=True)
    tensors = {
        f"{NAME}.weight": torch.from_numpy(codes).view(torch.float8_e4m3fn),
        f"{NAME}.weight_scale_inv": scales,
        "model.norm.weight": torch.ones(COLS),
    }
    save_file({**tensors, **others}, path / "model.safetensors")


def write_run(directory: Path, weights: list[np.ndarray], *, config: bool = True) -> list[Stored]:
    stored = []
    for step, weight in enumerate(weights):
        codes, scales = quantize(weight)
        path = directory / f"checkpoint-{step}"
        save(path, codes, torch.from_numpy(scales))
        if config:
            write_json(path / "config.json", CONFIG)
        stored.append(Stored(code=ordinals(codes), scale=expand(scales)))
    return stored


@pytest.mark.parametrize("config", [True, False])
def test_flips_of_the_stored_codes(
    tmp_path: Path, weights: list[np.ndarray], *, config: bool
) -> None:
    stored = write_run(tmp_path, weights, config=config)
    results = ai.flips(tmp_path)
    rows = results.to_pandas("flips").query(f"layer == '{NAME}.weight'")
    assert set(rows["quantizer"]) == {"stored:float8_e4m3fn"}
    for row, (earlier, later) in zip(rows.itertuples(), pairwise(stored), strict=True):
        expected = count_flips(earlier, later, VALUES)
        assert expected["num_flipped"] not in {0, expected["num_recoded"]}
        assert {name: getattr(row, name) for name in expected} == expected
        assert row.num_weights == ROWS * COLS
        changed = {
            (i // BLOCK, j // BLOCK)
            for i, j in zip(*np.nonzero(earlier.scale != later.scale), strict=True)
        }
        assert row.num_scales_changed == len(changed) > 0
    assert rows["num_saturated"].isna().all()
    assert rows["num_expected_flips"].isna().all()
    assert list(results.to_pandas("checkpoints")["scheme"]) == ["block-fp8"] * 3


def test_weights_are_codes_times_scale(tmp_path: Path, weights: list[np.ndarray]) -> None:
    stored = write_run(tmp_path, weights)
    checkpoint = open_checkpoint(discover_run([tmp_path]).checkpoints[1])
    with LayerReader(torch.device("cpu")) as reader:
        loaded = reader.load(checkpoint.layers[f"{NAME}.weight"])
    assert np.array_equal(loaded.values.numpy(), stored[1].weights(VALUES))
    assert loaded.coded is not None
    assert np.array_equal(loaded.coded.ordinals.numpy(), stored[1].code)


def test_ranks_are_those_of_the_weights(tmp_path: Path, weights: list[np.ndarray]) -> None:
    stored = write_run(tmp_path, weights)
    rows = ai.rank(tmp_path, layers=["up_proj"]).to_pandas("ranks")
    for found, one in zip(rows["stable_rank"], stored, strict=True):
        values = np.linalg.svd(one.weights(VALUES).astype(np.float64), compute_uv=False)
        assert found == pytest.approx((values**2).sum() / values[0] ** 2, rel=1e-9)


def test_a_simulated_quantizer_sees_the_decoded_weights(
    tmp_path: Path, weights: list[np.ndarray]
) -> None:
    stored = write_run(tmp_path / "codes", weights)
    for step, one in enumerate(stored):
        path = tmp_path / "plain" / f"step_{step}.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_file({f"{NAME}.weight": torch.from_numpy(one.weights(VALUES))}, path)
    found, expected = (
        ai.flips(tmp_path / which, quant=["e2m1:channel"], layers=["up_proj"]).to_pandas("flips")
        for which in ("codes", "plain")
    )
    assert list(found["num_flipped"]) == list(expected["num_flipped"])
    assert set(found["quantizer"]) == {"e2m1:channel:amax"}


def test_scales_that_are_exponents(tmp_path: Path) -> None:
    codes = np.full((ROWS, COLS), 0x38, dtype=np.uint8)  # 1.0
    exponents = torch.tensor([[126, 127, 128], [120, 0, 254]], dtype=torch.uint8)
    for dtype in (torch.uint8, torch.float8_e8m0fnu):
        path = tmp_path / str(dtype)
        save(path, codes, exponents.view(dtype))
        layer = open_checkpoint(discover_run([path]).checkpoints[0]).layers[f"{NAME}.weight"]
        with LayerReader(torch.device("cpu")) as reader:
            values = reader.load(layer).values
        assert values[0, [0, 128, 256]].tolist() == [0.5, 1.0, 2.0]
        assert values[128, [0, 128, 256]].tolist() == [2.0**-7, 2.0**-127, 2.0**127]


def test_one_scale_for_the_whole_layer_and_an_activation_scale(tmp_path: Path) -> None:
    codes = np.full((ROWS, COLS), 0x38, dtype=np.uint8)
    for step in range(2):
        others = {f"{NAME}.activation_scale": torch.tensor(3.0)}
        save(tmp_path / f"checkpoint-{step}", codes, torch.tensor(0.25), **others)
    results = ai.report(tmp_path, layers=["up_proj"])
    (row,) = results.to_pandas("flips").itertuples()
    assert (row.num_updated, row.num_flipped, row.num_scales) == (0, 0, 1)
    skipped = results.to_pandas("skipped")
    reasons = list(skipped.query("layer.str.endswith('activation_scale')")["reason"])
    assert reasons == [f"activation scale of {NAME}.weight"]


def test_scales_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "step_1", np.zeros((ROWS, COLS), dtype=np.uint8), torch.ones(3, 3, 3))
    layer = open_checkpoint(discover_run([tmp_path]).checkpoints[0]).layers[f"{NAME}.weight"]
    with (
        LayerReader(torch.device("cpu")) as reader,
        pytest.raises(CheckpointError, match=r"scales of shape \[3, 3, 3\]"),
    ):
        reader.load(layer)


def test_another_block_size_is_not_compared(tmp_path: Path, weights: list[np.ndarray]) -> None:
    write_run(tmp_path, weights[:1])
    codes, _ = quantize(weights[0])
    save(tmp_path / "checkpoint-5", codes, torch.ones(7, 9))
    (row,) = ai.flips(tmp_path, layers=["up_proj"]).to_pandas("flips").itertuples()
    assert row.status == "undefined"
    assert "share scales in another way" in str(row.reason)


def test_the_rounding_floor_of_updates_is_that_of_the_codes(
    tmp_path: Path, weights: list[np.ndarray]
) -> None:
    stored = write_run(tmp_path, weights)
    rows = ai.rank(tmp_path, layers=["up_proj"], updates=True).to_pandas("ranks")
    found = rows.query("subject == 'update'")
    assert found["reason"].str.startswith("below 2 rounding floors of the stored codes").all()
    squares = []
    for one in stored:
        magnitude = np.abs(one.weights(VALUES).astype(np.float64) / one.scale)
        exponent = np.floor(np.log2(np.maximum(magnitude, 2.0**-6)) + 1e-9)
        squares.append(((one.scale * 2.0 ** (exponent - 3)) ** 2).sum())
    expected = [np.sqrt((before + after) / 12) for before, after in pairwise(squares)]
    assert list(found["rounding_floor"]) == pytest.approx(expected, rel=1e-5)
