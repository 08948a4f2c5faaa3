"""`report` on ten checkpoints of MiniLM size against the straightforward script.

Both run as whole processes, in turn, on the same files and with the same number of
threads; what is compared is the median of wall and CPU seconds. The straightforward
script is what one writes in an afternoon: ``load_file``, log2/pow quantization of whole
tensors, ``(a != b).sum()``, and one float32 ``svdvals`` a layer and checkpoint.
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest
import torch
from safetensors.torch import load_file, save_file

NUM_CHECKPOINTS = 10
NUM_ROUNDS = 3

STRAIGHTFORWARD = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file

def quantize(w, scale, e=4, m=3, bias=7, top=448.0):
    x = w / scale
    magnitude = x.abs().clamp(max=top)
    exponent = torch.floor(torch.log2(magnitude.clamp(min=2.0 ** (1 - bias)))).clamp(min=1 - bias)
    step = torch.pow(2.0, exponent - m)
    return torch.sign(x) * torch.round(magnitude / step) * step

previous = {}
for path in sorted(Path(sys.argv[1]).glob("*.safetensors")):
    for name, w in load_file(path).items():
        if w.dim() != 2:
            continue
        scale = w.abs().max() / 448.0
        if name in previous:
            before, before_scale = previous[name]
            same = quantize(w, before_scale) != quantize(before, before_scale)
            flips = int(same.sum())
        previous[name] = (w, scale)
        s = torch.linalg.svdvals(w)
        stable = float((s**2).sum() / s[0] ** 2)
        p = s / s.sum()
        effective = float(torch.exp(-(p * torch.log(p.clamp(min=1e-12))).sum()))
"""


@pytest.fixture(scope="module")
def run(minilm_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten checkpoints around the published weights; about 900 MB."""
    directory = tmp_path_factory.mktemp("minilm")
    generator = torch.Generator().manual_seed(0)
    weights = {k: w for k, w in load_file(minilm_path).items() if w.is_floating_point()}
    for step in range(NUM_CHECKPOINTS):
        save_file(weights, directory / f"step_{step:03d}.safetensors")
        for name, weight in weights.items():
            noise = torch.randn(weight.shape, generator=generator)
            weights[name] = weight + 2e-3 * weight.abs().mean() * noise
    return directory


def measure(arguments: list[str], threads: int) -> tuple[float, float]:
    """Wall and CPU seconds of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    subprocess.run(arguments, check=True, capture_output=True, env=environment)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return wall, cpu


@pytest.mark.parametrize("threads", [1, 2])
def test_report_against_the_straightforward_script(run: Path, tmp_path: Path, threads: int) -> None:
    ours = [sys.executable, "-m", "altgrad_inspect", "report", str(run), "--layers", "weight"]
    ours += ["--jobs", str(threads), "--out", str(tmp_path / "out"), "-q"]
    theirs = [sys.executable, "-c", STRAIGHTFORWARD, str(run)]
    times: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
    for _ in range(NUM_ROUNDS):
        times["ours"].append(measure(ours, threads))
        times["theirs"].append(measure(theirs, threads))
    walls = {name: median(wall for wall, _ in pairs) for name, pairs in times.items()}
    cpus = {name: median(cpu for _, cpu in pairs) for name, pairs in times.items()}
    print(
        f"\n{threads} threads: report {walls['ours']:.1f} s wall, {cpus['ours']:.1f} s CPU; "
        f"straightforward {walls['theirs']:.1f} s wall, {cpus['theirs']:.1f} s CPU; "
        f"ratio {walls['theirs'] / walls['ours']:.1f}x wall, {cpus['theirs'] / cpus['ours']:.1f}x CPU"
    )
