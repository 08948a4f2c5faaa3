"""Two of the 32 blocks of a 7B model in bfloat16, at two checkpoints, with their true shapes.

The files are written a tensor at a time, so neither the writer nor `report` ever holds a
checkpoint. One block against two says how time and memory grow; 32 times a block is the
whole model. BENCH_LARGE=1 takes four blocks.
"""

import json
import os
import sys
from math import prod
from pathlib import Path

import torch

from tests.benchmarks.timing import dgemm_flops_per_second, run_process, show, spectrum_floor

WIDTH, HIDDEN, NUM_BLOCKS = 4096, 11008, 32
BLOCK = {
    **{f"self_attn.{name}_proj.weight": (WIDTH, WIDTH) for name in "qkvo"},
    "mlp.gate_proj.weight": (HIDDEN, WIDTH),
    "mlp.up_proj.weight": (HIDDEN, WIDTH),
    "mlp.down_proj.weight": (WIDTH, HIDDEN),
}
SOME_BLOCKS = (1, 4) if os.environ.get("BENCH_LARGE") else (1, 2)
NUM_CHECKPOINTS = 2


def write_checkpoint(path: Path, *, num_blocks: int, step: int) -> None:
    """Write a file in the safetensors format, one tensor in memory at a time."""
    shapes = {
        f"model.layers.{block}.{name}": shape
        for block in range(num_blocks)
        for name, shape in BLOCK.items()
    }
    header: dict[str, object] = {}
    offset = 0
    for name, shape in shapes.items():
        end = offset + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for index, shape in enumerate(shapes.values()):
            weights = 0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(index))
            if step:
                noise = torch.Generator().manual_seed(1000 * step + index)
                weights += 1e-4 * torch.randn(shape, generator=noise)
            file.write(weights.bfloat16().view(torch.uint8).numpy().data)


def test_memory_is_flat_and_time_is_linear(tmp_path: Path) -> None:
    peaks, cpus = [], []
    for num_blocks in SOME_BLOCKS:
        run = tmp_path / str(num_blocks)
        run.mkdir()
        for step in range(NUM_CHECKPOINTS):
            path = run / f"step_{step}.safetensors"
            write_checkpoint(path, num_blocks=num_blocks, step=step)
        arguments = ["report", str(run), "--jobs", "1", "--out", str(tmp_path / "out"), "-q"]
        usage, _ = run_process([sys.executable, "-m", "altgrad_inspect", *arguments])
        dgemm = dgemm_flops_per_second()
        floor = sum(spectrum_floor(shape, dgemm=dgemm) for shape in BLOCK.values())
        show(
            "7B",
            f"{num_blocks} of {NUM_BLOCKS} blocks, {NUM_CHECKPOINTS} checkpoints",
            seconds=usage.cpu,
            floor=floor * num_blocks * NUM_CHECKPOINTS,
            wall=usage.wall,
            peak_MB=usage.peak_mb,
        )
        peaks.append(usage.peak_mb)
        cpus.append(usage.cpu)
        for path in run.iterdir():
            path.unlink()
    a_block = (cpus[1] - cpus[0]) / (SOME_BLOCKS[1] - SOME_BLOCKS[0]) / NUM_CHECKPOINTS
    show("7B", "whole model, one checkpoint, one core", seconds=NUM_BLOCKS * a_block, floor=None)
    assert peaks[1] < 1.1 * peaks[0]
