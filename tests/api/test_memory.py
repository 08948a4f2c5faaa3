"""Peak memory of sweeps and updates: the number of formats and checkpoints does not matter.

Each case runs in a process of its own, which says how far its peak rose above that of a first
small run.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

MIB = 1 << 20
ROWS, COLS = 768, 2048  # 6 MiB of float32
SLACK = 24 * MIB

PROGRAM = """
import sys
import altgrad_inspect as ai

def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

def work(run):
    CALL

work(sys.argv[1])
open("/proc/self/clear_refs", "w").write("5")  # forget the peak so far
idle = peak()
work(sys.argv[2])
print(peak() - idle)
"""


def write_run(directory: Path, *, num_checkpoints: int, rows: int) -> Path:
    directory.mkdir()
    generator = torch.Generator().manual_seed(0)
    for step in range(num_checkpoints):
        weight = torch.randn(rows, COLS, generator=generator)
        save_file({"w": weight}, directory / f"step_{step}.safetensors")
    return directory


@pytest.mark.parametrize(
    ("call", "bytes_per_weight", "gram_copies"),
    [
        ("ai.sweep(run, jobs=1)", 2 * 4 + 2, 0),
        ("ai.rank(run, updates=True, jobs=1)", 3 * 4 + 8, 5),
    ],
)
def test_peak_memory_is_bounded_by_the_layer(
    tmp_path: Path, call: str, bytes_per_weight: int, gram_copies: int
) -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("this system does not let a process reset its peak")
    small = write_run(tmp_path / "small", num_checkpoints=2, rows=64)
    run = write_run(tmp_path / "run", num_checkpoints=3, rows=ROWS)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("CALL", call), str(small), str(run)],
        capture_output=True,
        text=True,
        check=True,
        env={"OMP_NUM_THREADS": "1", "PATH": "", "PYTHONPATH": ":".join(sys.path)},
    )
    bound = bytes_per_weight * ROWS * COLS + gram_copies * 8 * ROWS**2 + SLACK
    assert int(done.stdout) <= bound
