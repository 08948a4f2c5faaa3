"""Runs that change how they store a layer: said where it happens, and the rest is compared."""

from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

import pytest
import torch
from torch import Tensor

import altgrad_inspect as ai
from tests.checkpoints.schemes.stored_layers import rows_of, store

ROWS, COLS = 8, 64
NAME = "m.weight"
Store = Callable[[Tensor], dict[str, Tensor]]
COUNTS = ["num_flipped", "num_updated", "num_recoded", "num_scales_changed"]


def plain(weight: Tensor) -> dict[str, Tensor]:
    return {NAME: weight}


def plain_bf16(weight: Tensor) -> dict[str, Tensor]:
    return {NAME: weight.bfloat16()}


def int8(weight: Tensor) -> dict[str, Tensor]:
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return {NAME: (weight / scale).round().to(torch.int8), "m.weight.qscale": scale}


def int8_in_groups(weight: Tensor) -> dict[str, Tensor]:
    scale = weight.reshape(ROWS, -1, 16).abs().amax(dim=-1) / 127
    codes = (weight / scale.repeat_interleave(16, dim=1)).round().to(torch.int8)
    return {NAME: codes, "m.weight.qscale": scale}


def int8_with_zero_points(weight: Tensor) -> dict[str, Tensor]:
    return {**int8(weight), "m.weight.zero_point": torch.zeros(ROWS, 1, dtype=torch.int8)}


def fp8(weight: Tensor) -> dict[str, Tensor]:
    scale = weight.abs().amax(dim=1, keepdim=True) / 448
    return {NAME: (weight / scale).to(torch.float8_e4m3fn), "m.weight.qscale": scale}


def fp8_e5m2(weight: Tensor) -> dict[str, Tensor]:
    stored = fp8(weight)
    return {**stored, NAME: (weight / stored["m.weight.qscale"]).to(torch.float8_e5m2)}


def fp8_alone(weight: Tensor) -> dict[str, Tensor]:
    return {NAME: weight.to(torch.float8_e4m3fn)}


def quanto(weight: Tensor) -> dict[str, Tensor]:
    stored = int8(weight)
    return {"m.weight._data": stored[NAME], "m.weight._scale": stored["m.weight.qscale"]}


@pytest.fixture
def weights() -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    run = [torch.randn(ROWS, COLS, generator=draw)]
    for _ in range(5):
        run.append(run[-1] + 0.05 * torch.randn(ROWS, COLS, generator=draw))
    return run


@pytest.mark.parametrize(
    ("early", "late", "reason"),
    [
        (plain, int8, "storage scheme changed from plain to generic"),
        (int8, plain, "storage scheme changed from generic to plain"),
        (int8, quanto, "storage scheme changed from generic to quanto"),
        (plain, plain_bf16, "dtype changed from F32 to BF16"),
        (int8, fp8, "dtype changed from int8 to float8_e4m3fn"),
        (fp8, fp8_e5m2, "dtype changed from float8_e4m3fn to float8_e5m2"),
        (fp8, fp8_alone, "storage scheme changed from generic to plain"),
        (fp8_alone, fp8, "storage scheme changed from plain to generic"),
        (
            int8,
            int8_in_groups,
            "the weights share scales in another way: "
            + ", then ".join(f"blocks of 1 x {size} in 8 x 64" for size in (64, 16)),
        ),
        (
            int8,
            int8_with_zero_points,
            "the codes of int8 changed from -128 ... 127 to -255 ... 255",
        ),
    ],
)
def test_it_is_said_where_it_happens(
    tmp_path: Path, weights: list[Tensor], early: Store, late: Store, reason: str
) -> None:
    for step, weight in enumerate(weights):
        stored = (early if step < 3 else late)(weight)
        store(tmp_path / f"checkpoint-{step}", {**stored, "n.weight": weight})
    results = ai.flips(tmp_path)
    rows = sorted(rows_of(results, "flips", NAME), key=itemgetter("step_from"))
    changed = rows.pop(2)
    assert (changed["step_from"], changed["step_to"]) == (2, 3)
    assert (changed["status"], changed["reason"]) == ("undefined", reason)
    assert all(changed[name] is None for name in COUNTS)
    assert [row["step_from"] for row in rows] == [0, 1, 3, 4]
    for row in rows:
        assert row["num_flipped"] > 0
        assert row["num_weights"] == ROWS * COLS
    assert [row["status"] for row in rows_of(results, "flips", "n.weight")] == ["ok"] * 5
    assert list(results.to_pandas("checkpoints")["status"]) == ["ok"] * 6


def test_reverts_do_not_reach_across(tmp_path: Path, weights: list[Tensor]) -> None:
    """After a change the first transition has no checkpoint before it."""
    for step, weight in enumerate(weights):
        store(tmp_path / f"checkpoint-{step}", (int8 if step < 3 else int8_in_groups)(weight))
    reverted = [row["num_reverted"] for row in rows_of(ai.flips(tmp_path), "flips", NAME)]
    assert [one is None for one in reverted] == [True, False, True, True, False]


def test_one_layer_that_changes_says_nothing_about_another(
    tmp_path: Path, weights: list[Tensor]
) -> None:
    for step, weight in enumerate(weights[:3]):
        first = (plain if step < 1 else int8)(weight)
        second = {name.replace("m.", "k."): one for name, one in int8(weight).items()}
        store(tmp_path / f"checkpoint-{step}", {**first, **second})
    results = ai.flips(tmp_path)
    rows, others = (rows_of(results, "flips", name) for name in (NAME, "k.weight"))
    assert [row["status"] for row in rows] == ["undefined", "ok"]
    assert [row["status"] for row in others] == ["ok", "ok"]
    assert {row["quantizer"] for row in others} == {"stored:int8"}
