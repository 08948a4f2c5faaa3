"""FP8 codes whose scale is not stored: codes are compared, and no value is ever made up."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import altgrad_inspect as ai
from tests.checkpoints.schemes.stored_layers import store

OF_VALUES = ["update_norm", "relative_update", "update_mean_abs", "num_expected_flips"]
DTYPES = {"float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2}


@pytest.fixture(params=sorted(DTYPES))
def codes(request: pytest.FixtureRequest) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    first = torch.randn(32, 48, generator=draw)
    steps = [first, *(first + 0.1 * torch.randn(32, 48, generator=draw) for _ in range(2))]
    return [one.to(DTYPES[request.param]) for one in steps]


@pytest.fixture
def run(tmp_path: Path, codes: list[Tensor]) -> Path:
    for step, one in enumerate(codes):
        tensors = {"m.weight": one, "n.weight": torch.randn(5, 6)}
        store(tmp_path / "run" / f"checkpoint-{step}", tensors)
    return tmp_path / "run"


def test_flips_of_the_codes(run: Path, codes: list[Tensor]) -> None:
    rows = ai.flips(run, layers=["m.weight"]).to_pandas("flips")
    assert set(rows["quantizer"]) == {f"stored:{str(codes[0].dtype).removeprefix('torch.')}"}
    for row, (earlier, later) in zip(rows.itertuples(), pairwise(codes), strict=True):
        before, after = (one.view(torch.uint8).numpy() for one in (earlier, later))
        assert row.num_updated == (before != after).sum()
        # A zero has two codes; every other value has one.
        flipped = (before != after) & ~((before | 0x80) == (after | 0x80)) | (
            (before != after) & ((before & 0x7F) != 0)
        )
        assert row.num_flipped == flipped.sum() > 0
        assert row.status == "undefined"
        assert "stored codes without their scale" in str(row.reason)
    assert rows[OF_VALUES].isna().all(axis=None)


def test_no_ranks(run: Path) -> None:
    results = ai.rank(run)
    assert set(results.to_pandas("ranks")["layer"]) == {"n.weight"}
    (reason,) = results.to_pandas("skipped").query("layer == 'm.weight'")["reason"]
    assert "codes without their scale" in reason
    assert "wrong by 1/scale" in reason


def test_no_value_in_a_report(run: Path) -> None:
    results = ai.report(run)
    assert "m.weight" not in set(results.to_pandas("ranks")["layer"])
    metrics = set(results.to_pandas("trends").query("layer == 'm.weight'")["metric"])
    assert {metric.partition("[")[0] for metric in metrics} == {"flip_fraction"}
    (row,) = results.to_pandas("verdicts").query("layer == 'm.weight'").itertuples()
    assert row.verdict == "undecided"


def test_no_other_format_is_tried(run: Path) -> None:
    results = ai.sweep(run)
    (reason,) = results.to_pandas("skipped").query("layer == 'm.weight'")["reason"]
    assert "codes as stored" in reason


def test_nothing_else_to_rank(run: Path) -> None:
    results = ai.rank(run, layers=["m.weight"])
    assert len(results.to_pandas("ranks")) == 0
    assert len(results.to_pandas("skipped")) == 1


def test_a_scale_makes_them_weights(tmp_path: Path, codes: list[Tensor]) -> None:
    for step, one in enumerate(codes):
        tensors = {"m.weight": one, "m.weight_scale": torch.tensor(0.125)}
        store(tmp_path / f"checkpoint-{step}", tensors)
    ranks = ai.rank(tmp_path).to_pandas("ranks")
    for found, one in zip(ranks["frobenius_norm"], codes, strict=True):
        expected = np.linalg.norm(one.float().numpy().astype(np.float64)) * 0.125
        assert found == pytest.approx(expected, rel=1e-12)
    flips = ai.flips(tmp_path).to_pandas("flips")
    assert list(flips["status"]) == ["ok", "ok"]
