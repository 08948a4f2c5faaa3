"""Reading every tensor once: ours, by position into one buffer, against safetensors' ways.

Each way is a process of its own, so that its peak memory is its own. Warm files are in the
page cache; cold ones were put out of it, which needs a file system that honours the advice.
"""

import os
import sys
from pathlib import Path
from statistics import median

import pytest
import torch
from safetensors.torch import save_file

from tests.benchmarks.timing import Usage, copy_bytes_per_second, run_process, show

NUM_FILES = 3
NUM_ROUNDS = 3
TENSOR_BYTES = 32 << 20
TENSORS_PER_FILE = 10

WAYS = {
    "ours": """
from altgrad_inspect.checkpoints.checkpoint import open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.layer_reader import LayerReader

def read():
    reader = LayerReader(torch.device("cpu"))
    for ref in discover_run([sys.argv[1]]).checkpoints:
        for layer in open_checkpoint(ref).layers.values():
            look(reader.read(layer))
""",
    "load_file": """
from safetensors.torch import load_file

def read():
    for path in sorted(Path(sys.argv[1]).iterdir()):
        for tensor in load_file(path).values():
            look(tensor)
""",
    "safe_open": """
from safetensors import safe_open

def read():
    for path in sorted(Path(sys.argv[1]).iterdir()):
        with safe_open(path, "pt") as file:
            for name in file.keys():
                look(file.get_tensor(name))
""",
}
SCRIPT = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
look = torch.aminmax
{way}
wall, cpu = time.perf_counter(), time.process_time()
read()
print(time.perf_counter() - wall, time.process_time() - cpu, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("reading")
    generator = torch.Generator().manual_seed(0)
    for step in range(NUM_FILES):
        tensors = {
            f"layer{index}": torch.randn(TENSOR_BYTES // 4096, 1024, generator=generator)
            for index in range(TENSORS_PER_FILE)
        }
        save_file(tensors, directory / f"step_{step}.safetensors")
    return directory


def forget(directory: Path) -> None:
    """Put the files out of the page cache."""
    for path in directory.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


@pytest.mark.parametrize("cache", ["warm", "cold"])
def test_every_tensor_once(files: Path, cache: str) -> None:
    num_bytes = sum(path.stat().st_size for path in files.iterdir())
    taken: dict[str, list[Usage]] = {name: [] for name in WAYS}
    for _ in range(NUM_ROUNDS):
        for name, way in WAYS.items():
            if cache == "cold":
                forget(files)
            script = SCRIPT.format(way=way)
            usage, said = run_process([sys.executable, "-c", script, str(files)])
            wall, cpu = map(float, said.split()[-2:])
            taken[name].append(Usage(wall=wall, cpu=cpu, peak_mb=usage.peak_mb))
    for name, usages in taken.items():
        wall = median(usage.wall for usage in usages)
        show(
            "reading",
            f"{cache} {name}",
            seconds=median(usage.cpu for usage in usages),
            floor=2 * num_bytes / copy_bytes_per_second(),
            wall=wall,
            GB_per_s_wall=num_bytes / wall / 1e9,
            peak_MB=median(usage.peak_mb for usage in usages),
        )
