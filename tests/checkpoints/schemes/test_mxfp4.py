"""FP4 blocks as gpt-oss stores them, against numpy, ml_dtypes and transformers."""

from itertools import pairwise
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import altgrad_inspect as ai
from altgrad_inspect.errors import CheckpointError
from tests.checkpoints.runs_on_disk import write_json
from tests.checkpoints.schemes.flip_oracle import Stored, count_flips
from tests.checkpoints.schemes.stored_layers import load, open_stored, rows_of, store

EXPERTS, ROWS, COLS, BLOCK = 3, 10, 96, 32
NAME = "model.layers.0.mlp.experts.gate_up_proj"
CONFIG = {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}}
REFERENCE = Path(__file__).parents[2] / "data" / "mxfp4" / "gpt_oss.safetensors"
E2M1 = [float(one) for one in np.arange(8, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn)]
VALUES = {sign * code: sign * value for sign in (-1, 1) for code, value in enumerate(E2M1)}


def quantize(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes 0 to 15 and exponents, by ml_dtypes and the rule of OCP MX: floor(log2(amax)) - 2."""
    blocks = weight.reshape(EXPERTS, ROWS, COLS // BLOCK, BLOCK)
    exponents = np.floor(np.log2(np.abs(blocks).max(-1))).astype(np.int64) - 2
    scaled = np.clip(blocks / np.exp2(exponents)[..., None], -6, 6)
    codes = scaled.astype(ml_dtypes.float4_e2m1fn).view(np.uint8)
    return codes.reshape(weight.shape), exponents


def ordinals(codes: np.ndarray) -> np.ndarray:
    magnitude = (codes & 7).astype(np.int64)
    return np.where(codes & 8, -magnitude, magnitude)


def name_parts(codes: np.ndarray, exponents: np.ndarray) -> dict[str, Tensor]:
    packed = codes[..., ::2] | (codes[..., 1::2] << 4)
    return {
        f"{NAME}_blocks": torch.from_numpy(packed.reshape(*exponents.shape, BLOCK // 2)),
        f"{NAME}_scales": torch.from_numpy((exponents + 127).astype(np.uint8)),
        f"{NAME}_bias": torch.ones(EXPERTS, ROWS),
    }


def describe(codes: np.ndarray, exponents: np.ndarray) -> Stored:
    scale = np.repeat(np.exp2(exponents), BLOCK, -1).reshape(codes.shape).astype(np.float32)
    return Stored(code=ordinals(codes), scale=scale)


def write_run(directory: Path, weights: list[np.ndarray], *, config: bool = True) -> list[Stored]:
    stored = []
    for step, weight in enumerate(weights):
        codes, exponents = quantize(weight)
        path = store(directory / f"checkpoint-{step}", name_parts(codes, exponents))
        if config:
            write_json(path / "config.json", CONFIG)
        stored.append(describe(codes, exponents))
    return stored


@pytest.fixture
def weights() -> list[np.ndarray]:
    """Three checkpoints; each has one outlier more."""
    draw = np.random.default_rng(0)
    run = [draw.standard_normal((EXPERTS, ROWS, COLS)).astype(np.float32)]
    for step in range(2):
        later = run[-1] + 0.05 * draw.standard_normal(run[0].shape).astype(np.float32)
        later[1, 2 + step, 5] = 20.0
        run.append(later)
    return run


@pytest.mark.parametrize("config", [True, False])
def test_flips_of_the_stored_codes(
    tmp_path: Path, weights: list[np.ndarray], *, config: bool
) -> None:
    stored = write_run(tmp_path, weights, config=config)
    results = ai.flips(tmp_path)
    rows = results.to_pandas("flips").query(f"layer == '{NAME}'")
    assert set(rows["quantizer"]) == {"stored:float4_e2m1fn"}
    for row, (earlier, later) in zip(rows.itertuples(), pairwise(stored), strict=True):
        expected = count_flips(earlier, later, VALUES)
        assert expected["num_flipped"] not in {0, expected["num_recoded"]}
        assert {name: getattr(row, name) for name in expected} == expected
        changed = (earlier.scale != later.scale)[..., ::BLOCK]
        assert row.num_scales_changed == changed.sum() > 0
        assert row.num_scales == EXPERTS * ROWS * COLS // BLOCK
    layer = open_stored(tmp_path / "checkpoint-0").layers[NAME]
    assert layer.recognised_by == ("config.json: mxfp4" if config else "names and shapes")


def test_a_stack_of_matrices_with_outputs_first(tmp_path: Path, weights: list[np.ndarray]) -> None:
    (stored,) = write_run(tmp_path, weights[:1])
    loaded = load(tmp_path / "checkpoint-0", NAME)
    assert np.array_equal(loaded.values.numpy(), stored.weights(VALUES))
    rows = ai.rank(tmp_path).to_pandas("ranks").query(f"layer == '{NAME}'")
    assert list(rows["matrix"]) == list(range(EXPERTS))
    assert set(zip(rows["rows"], rows["cols"], strict=True)) == {(ROWS, COLS)}
    for found, matrix in zip(rows["stable_rank"], stored.weights(VALUES), strict=True):
        values = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
        assert found == pytest.approx((values**2).sum() / values[0] ** 2, rel=1e-9)


def test_equal_products_of_other_codes_and_scales_are_no_flips(tmp_path: Path) -> None:
    """2 * 2^0 is 4 * 2^-1: every code is another one, and no weight has moved."""
    large = np.tile(
        np.array([0, 1, 2, 4, 9, 10, 12, 8], dtype=np.uint8), EXPERTS * ROWS * COLS // 8
    )
    double = {0: 0, 1: 2, 2: 4, 4: 6, 9: 10, 10: 12, 12: 14, 8: 8}  # the code of twice the value
    small = np.array([double[code] for code in large.tolist()], dtype=np.uint8)
    shape, blocks = (EXPERTS, ROWS, COLS), (EXPERTS, ROWS, COLS // BLOCK)
    for step, (codes, exponent) in enumerate([(large, 0), (small, -1), (small, 0)]):
        parts = name_parts(codes.reshape(shape), np.full(blocks, exponent))
        store(tmp_path / f"checkpoint-{step}", parts)
    same, doubled = rows_of(ai.flips(tmp_path), "flips", NAME)
    num_nonzero = large.size * 6 // 8  # two of the eight are the zeros
    assert (same["num_updated"], same["num_flipped"]) == (0, 0)
    assert same["num_recoded"] == num_nonzero
    assert same["num_scales_changed"] == same["num_scales"]
    assert (doubled["num_updated"], doubled["num_recoded"]) == (num_nonzero, 0)
    # Twice the value at the earlier scale: 2, 4, 8 halves and so on, of which 8 is clipped to 6.
    assert doubled["num_flipped"] == num_nonzero


def test_every_code_at_every_kind_of_exponent(tmp_path: Path) -> None:
    """What transformers decodes, bit for bit in float32.

    The file was made with transformers 5.23::

        blocks = torch.arange(256, dtype=torch.uint8).repeat(2)[torch.randperm(512)]
        blocks = blocks.reshape(2, 8, 2, 16)
        scales = torch.randint(0, 255, (2, 8, 2), dtype=torch.uint8)
        scales[0, :4] = torch.tensor([[0, 1], [2, 127], [126, 128], [252, 254]])
        weights = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    """
    stored = load_file(REFERENCE)
    assert set(stored["blocks"].flatten().tolist()) == set(range(256))
    path = store(tmp_path / "step_1", {"w_blocks": stored["blocks"], "w_scales": stored["scales"]})
    values = load(path, "w").values
    assert torch.equal(values, stored["weights"].transpose(1, 2))  # the model holds [E, in, out]
    assert values.isinf().any()
    assert ((values != 0) & (values.abs() < 2.0**-126)).any()


def test_the_exponent_that_is_no_number(tmp_path: Path) -> None:
    blocks = torch.full((2, 1, 16), 0x22, dtype=torch.uint8)
    scales = torch.tensor([[255], [127]], dtype=torch.uint8)
    values = load(store(tmp_path / "step_1", {"w_blocks": blocks, "w_scales": scales}), "w").values
    assert values[0].isnan().all()
    assert torch.equal(values[1], torch.ones(32))


def test_scales_that_do_not_fit_fail_alone(tmp_path: Path, weights: list[np.ndarray]) -> None:
    for step, weight in enumerate(weights):
        parts = name_parts(*quantize(weight))
        parts["other_blocks"] = parts[f"{NAME}_blocks"].clone()
        parts["other_scales"] = torch.zeros(EXPERTS, ROWS, 5, dtype=torch.uint8)
        store(tmp_path / f"checkpoint-{step}", parts)
    with pytest.raises(
        CheckpointError, match=r"scales of shape \[3, 10, 5\], expected \[3, 10, 3\]"
    ):
        load(tmp_path / "checkpoint-0", "other")
    results = ai.flips(tmp_path)
    assert {row["status"] for row in rows_of(results, "flips", NAME)} == {"ok"}
    assert {row["status"] for row in rows_of(results, "flips", "other")} == {"failed"}


@pytest.mark.parametrize(
    "others",
    [
        {},  # no scales
        {"w_scales": torch.zeros(2, 4)},  # scales of another scheme
        {"w_scales": torch.zeros(2, 4, dtype=torch.uint8), "w": torch.zeros(2)},  # twice
    ],
)
def test_what_only_looks_like_it_stays_plain(tmp_path: Path, others: dict[str, Tensor]) -> None:
    blocks = torch.zeros(2, 4, 16, dtype=torch.uint8)
    checkpoint = open_stored(store(tmp_path / "step_1", {"w_blocks": blocks, **others}))
    assert checkpoint.scheme == "plain"
    assert set(checkpoint.layers) == {"w_blocks", *others}
