"""Layers stored as codes: a CUDA device decodes and counts them as the CPU does."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import altgrad_inspect as ai
from altgrad_inspect.checkpoints.checkpoint import open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.layer_reader import LayerReader

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

BLOCK = 128


@pytest.fixture
def run(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3 * BLOCK, 2 * BLOCK + 40, generator=generator)
    for step in range(3):
        scale = torch.rand(3, 3, generator=generator) / 100 + 1e-3
        spread = scale.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
        codes = (weight / spread[:, : weight.shape[1]]).clamp(-448, 448).to(torch.float8_e4m3fn)
        tensors = {"up.weight": codes, "up.weight_scale_inv": scale, "norm.weight": torch.ones(8)}
        save_file(tensors, tmp_path / f"step_{step}.safetensors")
        weight = weight + 1e-2 * torch.randn(weight.shape, generator=generator)
    return tmp_path


def test_the_weights_are_the_same_bits(run: Path) -> None:
    layer = open_checkpoint(discover_run([run]).checkpoints[0]).layers["up.weight"]
    decoded = []
    for name in ("cpu", "cuda"):
        with LayerReader(torch.device(name)) as reader:
            decoded.append(reader.load(layer))
    assert torch.equal(*(one.values.cpu().view(torch.int32) for one in decoded))  # noqa: PD011


@pytest.mark.parametrize("quant", ["auto", "e2m1:channel"])
def test_flips_are_identical(run: Path, quant: str) -> None:
    on_cpu, on_gpu = (
        ai.flips(run, quant=[quant], device=name, jobs=1).to_pandas("flips")
        for name in ("cpu", "cuda")
    )
    counts = [name for name in on_cpu if str(name).startswith("num_")]
    pd.testing.assert_frame_equal(
        on_cpu[counts].drop(columns="num_expected_flips"),
        on_gpu[counts].drop(columns="num_expected_flips"),
    )
