"""`report` on ten checkpoints of MiniLM size: against scripts one would write, and its floor.

All run as whole processes, in turn, on the same files and with the same number of threads.
The straightforward script is what one writes in an afternoon: ``load_file``, log2/pow
quantization of whole tensors, and one float32 ``svdvals`` a layer and checkpoint. The
careless one asks for the singular values once per rank and quantizes with one mask per
binade. WeightWatcher, a library of power-law fits, analyzes one checkpoint, scaled by ten;
modeldelta compares one pair, scaled by nine, if it can be imported (it is not among our
development dependencies: ``PYTHONPATH=... make bench``).
"""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.benchmarks.timing import (
    TRIDIAGONAL_FLOPS_PER_SECOND,
    Usage,
    copy_bytes_per_second,
    dgemm_flops_per_second,
    run_process,
    show,
    spectrum_floor,
)

NUM_CHECKPOINTS = 10
NUM_ROUNDS = 3
WHERE_TIME_GOES = [sys.executable, str(Path(__file__).parent / "where_time_goes.py")]

LOOP = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file

{functions}

previous = {{}}
for path in sorted(Path(sys.argv[1]).glob("*.safetensors"))[:{limit}]:
    for name, w in load_file(path).items():
        if w.dim() != 2:
            continue
        scale = w.abs().max() / 448.0
        if name in previous:
            before, before_scale = previous[name]
            flips = int((quantize(w, before_scale) != quantize(before, before_scale)).sum())
        previous[name] = (w, scale)
        ranks(w)
"""

STRAIGHTFORWARD = """
def quantize(w, scale, m=3, bias=7, top=448.0):
    x = w / scale
    magnitude = x.abs().clamp(max=top)
    exponent = torch.floor(torch.log2(magnitude.clamp(min=2.0 ** (1 - bias)))).clamp(min=1 - bias)
    step = torch.pow(2.0, exponent - m)
    return torch.sign(x) * torch.round(magnitude / step) * step

def ranks(w):
    s = torch.linalg.svdvals(w)
    p = s / s.sum()
    return (s**2).sum() / s[0] ** 2, torch.exp(-(p * torch.log(p.clamp(min=1e-12))).sum())
"""

CARELESS = """
def quantize(w, scale, m=3, bias=7, top=448.0):
    x = w / scale
    out = torch.zeros_like(x)
    size = x.abs()
    small = (size < 2.0 ** (1 - bias)) & (size > 0)
    normal = (size >= 2.0 ** (1 - bias)) & (size <= top)
    large = size > top
    out[small] = torch.sign(x[small]) * torch.round(size[small] * 2.0 ** (bias + m - 1)) / 2.0 ** (bias + m - 1)
    exponent = torch.floor(torch.log2(size[normal]))
    fraction = size[normal] / torch.pow(2.0, exponent)
    fraction = torch.round(fraction * 2**m) / 2**m
    out[normal] = torch.sign(x[normal]) * fraction * torch.pow(2.0, exponent)
    out[large] = torch.sign(x[large]) * top
    return out

def stable(w):
    s = torch.linalg.svdvals(w.float())
    return float((s**2).sum() / (s[0] ** 2).clamp(min=1e-10))

def effective(w):
    s = torch.linalg.svdvals(w.float())
    p = s / s.sum().clamp(min=1e-10)
    p = p[p > 1e-10]
    return float(torch.exp(-(p * torch.log(p)).sum()))

def ranks(w):
    return stable(w), effective(w)
"""  # noqa: E501

WEIGHTWATCHER = """
import sys, warnings, logging
warnings.simplefilter("ignore")
import torch
from pathlib import Path
from safetensors.torch import load_file
import weightwatcher
logging.getLogger("weightwatcher").setLevel(logging.ERROR)
model = torch.nn.Sequential()
for i, w in enumerate(load_file(sorted(Path(sys.argv[1]).glob("*.safetensors"))[0]).values()):
    if w.dim() == 2:
        layer = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
        layer.weight = torch.nn.Parameter(w)
        model.add_module(f"layer{i}", layer)
weightwatcher.WeightWatcher(model=model).analyze(min_evals=10, plot=False)
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


def ask_report(run: Path, out: Path, *, jobs: int) -> list[str]:
    return ["report", str(run), "--layers", "weight", "--jobs", str(jobs), "--out", str(out), "-q"]


def write_script(functions: str, *, limit: int = NUM_CHECKPOINTS) -> str:
    return LOOP.format(functions=functions, limit=limit)


def print_medians(taken: dict[str, list[Usage]], threads: int) -> None:
    walls = {name: median(usage.wall for usage in usages) for name, usages in taken.items()}
    cpus = {name: median(usage.cpu for usage in usages) for name, usages in taken.items()}
    for name, cpu in cpus.items():
        show(
            "end to end",
            f"{name}, {threads} threads",
            seconds=cpu,
            floor=None,
            wall=walls[name],
            times_ours_CPU=cpu / cpus["report"],
            times_ours_wall=walls[name] / walls["report"],
            peak_MB=median(usage.peak_mb for usage in taken[name]),
        )


@pytest.mark.parametrize("threads", [1, 2])
def test_report_against_the_straightforward_script(run: Path, tmp_path: Path, threads: int) -> None:
    if threads > 1 and os.getloadavg()[0] > 1:
        pytest.skip("cores are busy: threads that wait for each other would be measured")
    ours = [sys.executable, "-m", "altgrad_inspect", *ask_report(run, tmp_path, jobs=threads)]
    theirs = [sys.executable, "-c", write_script(STRAIGHTFORWARD), str(run)]
    taken: dict[str, list[Usage]] = {"report": [], "straightforward": []}
    for _ in range(NUM_ROUNDS):
        taken["report"].append(run_process(ours, threads=threads)[0])
        taken["straightforward"].append(run_process(theirs, threads=threads)[0])
    print_medians(taken, threads)


def test_report_against_slower_ways(run: Path, tmp_path: Path) -> None:
    """One round each: the careless script on three checkpoints, the library on one."""
    ours = [sys.executable, "-m", "altgrad_inspect", *ask_report(run, tmp_path, jobs=1)]
    taken = {"report": [run_process(ours)[0]]}
    scale = NUM_CHECKPOINTS / 3
    usage, _ = run_process([sys.executable, "-c", write_script(CARELESS, limit=3), str(run)])
    taken["careless, 3 checkpoints scaled"] = [scaled(usage, scale)]
    usage, _ = run_process([sys.executable, "-c", WEIGHTWATCHER, str(run)])
    taken["WeightWatcher, 1 checkpoint scaled"] = [scaled(usage, NUM_CHECKPOINTS)]
    if find_spec("modeldelta"):
        arguments = [sys.executable, "-m", "modeldelta"]
        for file in sorted(run.glob("*.safetensors"))[:2]:  # it wants directories
            directory = tmp_path / file.stem
            directory.mkdir()
            (directory / "model.safetensors").symlink_to(file)
            arguments.append(str(directory))
        usage, _ = run_process([*arguments, "-o", str(tmp_path / "modeldelta.json")])
        taken["modeldelta, 1 pair scaled"] = [scaled(usage, NUM_CHECKPOINTS - 1)]
    print_medians(taken, 1)


def scaled(usage: Usage, factor: float) -> Usage:
    return Usage(wall=usage.wall * factor, cpu=usage.cpu * factor, peak_mb=usage.peak_mb)


def test_report_against_its_floor(run: Path, tmp_path: Path, minilm_path: Path) -> None:
    """Arithmetic at its peaks and every byte moved once, against all but the start."""
    layers = load_file(minilm_path).values()
    shapes = [(w.shape[0], w.shape[1]) for w in layers if w.dim() == 2]
    num_bytes = NUM_CHECKPOINTS * sum(4 * rows * cols for rows, cols in shapes)
    passes: list[dict[str, float]] = []
    floors, peaks = [], []
    for _ in range(NUM_ROUNDS):
        dgemm, copy = dgemm_flops_per_second(), copy_bytes_per_second()
        # Read into a buffer, then one pass of 12 bytes a weight for the flips.
        moving = (2 * num_bytes + 3 * num_bytes) / copy
        spectra = sum(spectrum_floor(shape, dgemm=dgemm) for shape in shapes)
        floors.append(NUM_CHECKPOINTS * spectra + moving)
        fastest = sum(spectrum_floor(shape, dgemm=dgemm, reduction=dgemm) for shape in shapes)
        peaks.append(NUM_CHECKPOINTS * fastest + moving)
        _, said = run_process([*WHERE_TIME_GOES, *ask_report(run, tmp_path, jobs=1)])
        passes.append(json.loads(said.splitlines()[-1]))
    phases = {name: median(one.get(name, 0.0) for one in passes) for name in passes[0]}
    start = ("start, import torch", "import numba", "import the rest", "numba's own tables")
    total = sum(phases.values()) - sum(phases.get(name, 0.0) for name in start)
    show("floor", "report but its start", seconds=total, floor=median(floors))
    show("floor", "the same, all at the dgemm peak", seconds=total, floor=median(peaks))
    gram_floor = sum(max(shape) * min(shape) ** 2 for shape in shapes) * NUM_CHECKPOINTS
    eigen_floor = sum(4 / 3 * min(shape) ** 3 for shape in shapes) * NUM_CHECKPOINTS
    known = {"Gram": gram_floor / dgemm, "eigenvalues": eigen_floor / TRIDIAGONAL_FLOPS_PER_SECOND}
    known["read"] = 2 * num_bytes / copy
    known["flips, kernel"] = 3 * num_bytes / copy
    for name, seconds in phases.items():
        show("floor", f"  {name}", seconds=seconds, floor=known.get(name))
