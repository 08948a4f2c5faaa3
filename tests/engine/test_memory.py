"""Peak memory is bounded by the largest layer, whatever the file size and the run length.

Each case runs in a process of its own and reports how far its peak rose above the idle
process (everything imported, a first small run done); with compiled loops and without.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

MIB = 1 << 20
ROWS, COLS = 1024, 2048  # 8 MiB of float32

PROGRAM = """
import sys
import altgrad_inspect as ai
from altgrad_inspect.metrics import flip_kernel, spectrum_kernel

if sys.argv[3] == "compiled":
    flip_kernel.MIN_WEIGHTS = spectrum_kernel.MIN_SECONDS = 0
else:
    flip_kernel.MIN_WEIGHTS = spectrum_kernel.MIN_SECONDS = float("inf")

def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

ai.report(sys.argv[1], jobs=1)
open("/proc/self/clear_refs", "w").write("5")  # forget the peak so far
idle = peak()
ai.report(sys.argv[2], jobs=1)
print(peak() - idle)
"""


def write_run(directory: Path, *, num_layers: int, num_checkpoints: int, rows: int) -> Path:
    directory.mkdir()
    generator = torch.Generator().manual_seed(0)
    weights = {f"layer{i}": torch.randn(rows, COLS, generator=generator) for i in range(num_layers)}
    for step in range(num_checkpoints):
        save_file(weights, directory / f"step_{step}.safetensors")
        weights = {name: weight + 0.01 for name, weight in weights.items()}
    return directory


def peak_over_idle(small: Path, run: Path, way: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(small), str(run), way],
        capture_output=True,
        text=True,
        check=True,
        env={"OMP_NUM_THREADS": "1", "PATH": "", "PYTHONPATH": ":".join(sys.path)},
    )
    return int(done.stdout)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "small"
    return write_run(path, num_layers=1, num_checkpoints=2, rows=64)


@pytest.mark.parametrize("way", ["compiled", "plain"])
def test_memory_is_bounded_by_the_largest_layer_and_flat_in_everything_else(
    small: Path, tmp_path: Path, way: str
) -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("this system does not let a process reset its peak")
    stored = ROWS * COLS * 4
    bound = stored + 4 * ROWS * COLS + 3 * 8 * ROWS**2 + 64 * MIB
    few = write_run(tmp_path / "few", num_layers=2, num_checkpoints=3, rows=ROWS)  # every slot
    many = write_run(tmp_path / "many", num_layers=8, num_checkpoints=6, rows=ROWS)
    peak_few, peak_many = peak_over_idle(small, few, way), peak_over_idle(small, many, way)
    assert peak_many <= bound
    assert peak_many <= peak_few + 16 * MIB  # 8 times the bytes, 336 MiB more of them
