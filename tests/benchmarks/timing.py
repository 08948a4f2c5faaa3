"""Clocks, floors and printing for the benchmarks.

Whatever is compared runs in turn in one process or one after the other, in CPU seconds:
then what else the machine does falls on all of it, and the ratio of the medians holds.
"""

import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

RESULTS = os.environ.get("BENCH_RESULTS")
"""File that every line is appended to as JSON, if set."""

TRIDIAGONAL_FLOPS_PER_SECOND = 16e9
"""What LAPACK reaches on one core when it reduces a matrix to tridiagonal form, half of it bound by
memory. The compiled loops go below this floor, which stays as it is for the sake of comparing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one process took."""

    wall: float
    cpu: float
    peak_mb: float


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of one call, over all threads of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def interleave(
    ways: Mapping[str, Callable[[], object]], *, budget: float = 3.0, most: int = 15
) -> dict[str, float]:
    """Median CPU seconds of each way; all run in turn, after one round to warm up.

    Args:
        ways: What to compare, by name.
        budget: CPU seconds to spend, three rounds at least.
        most: The most rounds.
    """
    once = sum(cpu_seconds(work) for work in ways.values())
    rounds = max(3, min(most, round(budget / max(once, 1e-6))))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            seconds[name].append(cpu_seconds(work))
    return {name: median(times) for name, times in seconds.items()}


def run_process(arguments: Sequence[str], *, threads: int = 1) -> tuple[Usage, str]:
    """Run one process; what it took, and what it printed to stderr.

    The peak of its memory is asked for while it runs: what the kernel reports at the end
    is never below that of the process that started it.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    peak_mb = 0.0
    with tempfile.TemporaryFile("w+") as said:
        start = time.perf_counter()
        process = subprocess.Popen(
            arguments, env=environment, stdout=subprocess.DEVNULL, stderr=said
        )
        while True:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            peak_mb = max(peak_mb, _peak_mb(process.pid))
            time.sleep(0.01)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    assert process.returncode == 0, text
    return Usage(wall=wall, cpu=used.ru_utime + used.ru_stime, peak_mb=peak_mb), text


def _peak_mb(pid: int) -> float:
    """Peak resident memory of a running process so far; 0 if it is just ending."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    kibibytes = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(kibibytes[0]) * 1024 / 1e6 if kibibytes else 0.0


def dgemm_flops_per_second(size: int = 1024) -> float:
    """The peak of float64 matrix products on one thread, now."""
    matrix = torch.randn(size, size, dtype=torch.float64)
    return 2 * size**3 / interleave({"dgemm": lambda: matrix @ matrix}, budget=0.5)["dgemm"]


def copy_bytes_per_second(num_bytes: int = 1 << 28) -> float:
    """Bytes moved a second, read and written, by copying a buffer that no cache holds."""
    source = torch.ones(num_bytes // 2, dtype=torch.uint8)
    target = torch.empty_like(source)
    return num_bytes / interleave({"copy": lambda: target.copy_(source)}, budget=0.5)["copy"]


def spectrum_floor(
    shape: tuple[int, int], *, dgemm: float, reduction: float = TRIDIAGONAL_FLOPS_PER_SECOND
) -> float:
    """Seconds for all singular values: the Gram matrix at ``dgemm``, then its eigenvalues.

    Args:
        shape: Of the matrix.
        dgemm: Operations a second of a matrix product.
        reduction: Operations a second of the reduction; ``dgemm`` gives what nothing can beat.
    """
    small, large = min(shape), max(shape)
    return large * small**2 / dgemm + 4 / 3 * small**3 / reduction


def fit_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of log(value) over log(size), by least squares."""
    xs, ys = [math.log(size) for size in sizes], [math.log(value) for value in values]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return covariance / sum((x - mean_x) ** 2 for x in xs)


def show(benchmark: str, case: str, *, seconds: float, floor: float | None, **more: float) -> None:
    """Print one line: the time, its floor, their ratio, and what else was measured."""
    load = os.getloadavg()[0]
    line = f"{benchmark:<12} {case:<34} {_render_seconds(seconds):>9}"
    if floor:
        line += f"   floor {_render_seconds(floor):>9}   {seconds / floor:5.2f}x of it"
    line += "".join(f"   {name.replace('_', ' ')} {value:.3g}" for name, value in more.items())
    sys.stdout.write(f"\n{line}   (load {load:.1f})")
    if RESULTS:
        row = {"benchmark": benchmark, "case": case, "seconds": seconds, "floor": floor}
        with Path(RESULTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row | more | {"load": load}) + "\n")


def show_machine() -> None:
    """Print what the numbers below were measured on."""
    show(
        "machine",
        f"{os.cpu_count()} cores, torch {torch.__version__}, {platform.machine()}",
        seconds=0.0,
        floor=None,
        dgemm_GFLOPs=dgemm_flops_per_second() / 1e9,
        copy_GBs=copy_bytes_per_second() / 1e9,
    )


def _render_seconds(seconds: float) -> str:
    if seconds >= 100:
        return f"{seconds:.0f} s"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"
