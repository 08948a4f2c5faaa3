"""What a CUDA device does with spectra, flips and copies, and where the CPU is faster.

    python tests/benchmarks/gpu.py [--budget SECONDS] [--only NAME,...] [--smoke]

Every section ends when the budget does, and a way that would not fit in it is skipped by
the time of the last smaller size. ``--smoke`` runs tiny sizes on the CPU, to test the code.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

import altgrad_inspect
from altgrad_inspect.metrics.flips import FlipMeter
from altgrad_inspect.metrics.spectrum import measure_spectrum
from altgrad_inspect.quantize.spec import parse_quantizer

SHAPES = (
    *((384, 384), (1024, 1024), (2048, 2048), (50257, 768)),
    *((4096, 4096), (11008, 4096), (8192, 8192)),
)
BATCHES = ((64, 384), (48, 768), (24, 1024), (12, 2048))
SPECS = ("e4m3", "e2m1", "e3m4", "int8", "e4m3:block=128x128")


@dataclass(slots=True)
class Bench:
    """The device, and what is left of the time.

    Attributes:
        device: Where the work runs.
        is_smoke: Whether sizes are tiny.
        deadline: By `time.perf_counter`.
        rates: Seconds per unit of work of each way, at the last size it ran.
    """

    device: torch.device
    is_smoke: bool
    deadline: float
    rates: dict[str, float] = field(default_factory=dict)

    def sync(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def left(self) -> float:
        """Seconds left."""
        return self.deadline - time.perf_counter()

    def time(self, name: str, work: Callable[[], Any], *, size: float = 1.0) -> Any:
        """Print the median of up to five calls; the last result, or None if there is none."""
        expected = self.rates.get(name, 0.0) * size
        if expected > min(30.0, self.left() / 2):
            say(f"  {name:<34} skipped, would take about {expected:.0f} s")
            return None
        try:
            first, result = self._once(work)
            repeats = 1 if first > 3 else 5
            seconds = median([self._once(work)[0] for _ in range(repeats)])
        except (RuntimeError, MemoryError) as error:
            say(f"  {name:<34} failed: {str(error).splitlines()[0][:90]}")
            return None
        self.rates[name] = seconds / size
        say(f"  {name:<34} {seconds * 1e3:10.2f} ms")
        return result

    def _once(self, work: Callable[[], Any]) -> tuple[float, Any]:
        self.sync()
        start = time.perf_counter()
        result = work()
        self.sync()
        return time.perf_counter() - start, result


def say(line: str) -> None:
    """Print one line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def gram(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """W^T W of the shorter side in ``dtype``."""
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT
    wide = tall.to(dtype)
    return wide.mT @ wide


def gram_eigenvalues(matrix: Tensor, dtype: torch.dtype, *, on_cpu: bool = False) -> Tensor:
    """Eigenvalues of the Gram matrix, found on its device or on the CPU."""
    product = gram(matrix, dtype)
    eigenvalues: Tensor = torch.linalg.eigvalsh(product.cpu() if on_cpu else product)
    return eigenvalues


def bench_spectra(bench: Bench) -> None:
    """Singular values of one matrix, by every driver and by the Gram matrix."""
    shapes = ((96, 96), (300, 64)) if bench.is_smoke else SHAPES
    drivers = ("gesvdj", "gesvd", "gesvda") if bench.device.type == "cuda" else ()
    for rows, cols in shapes:
        if bench.left() < 30 and not bench.is_smoke:
            return
        matrix = torch.randn(rows, cols, device=bench.device)
        on_cpu, size = matrix.cpu(), float(max(rows, cols)) * min(rows, cols) ** 2
        say(f"spectrum {rows} x {cols}")
        ways: dict[str, Callable[[], Any]] = {
            "ours": partial(measure_spectrum, matrix),
            "ours on one CPU thread": partial(measure_spectrum, on_cpu),
            "Gram float64": partial(gram, matrix, torch.float64),
            "Gram float64 + eigvalsh": partial(gram_eigenvalues, matrix, torch.float64),
            "Gram float32 + eigvalsh": partial(gram_eigenvalues, matrix, torch.float32),
            "Gram float64 + eigvalsh on the CPU": partial(
                gram_eigenvalues, matrix, torch.float64, on_cpu=True
            ),
            "svdvals float32": partial(torch.linalg.svdvals, matrix),
        }
        for driver in drivers:
            ways[f"svdvals float32 {driver}"] = partial(torch.linalg.svdvals, matrix, driver=driver)
        results = {name: bench.time(name, work, size=size) for name, work in ways.items()}
        ours, expected = results["ours"], results["ours on one CPU thread"]
        if ours is not None and expected is not None:
            away = abs(ours.effective_rank / expected.effective_rank - 1)
            bound = ours.effective_rank_error + expected.effective_rank_error
            say(f"  effective ranks differ by {away:.1e}, bounds {bound:.1e}")


def in_threads(count: int, work: Callable[[int], None], *, streams: bool) -> None:
    """Call ``work`` with 0 .. count-1, each in a thread, with a CUDA stream if asked for."""

    def run(index: int) -> None:
        torch.set_num_threads(1)
        stream = torch.cuda.Stream() if streams else None  # type: ignore[no-untyped-call]
        with nullcontext() if stream is None else torch.cuda.stream(stream):
            work(index)
            if stream is not None:
                stream.synchronize()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def find_share(index: int, *, grams: Tensor, workers: int) -> None:
    """Eigenvalues of every ``workers``-th matrix from ``index`` on."""
    for one in range(index, len(grams), workers):
        torch.linalg.eigvalsh(grams[one])


def find_in_pool(grams: Tensor, workers: int, *, on_cpu: bool = False) -> None:
    """Eigenvalues of all matrices on so many threads."""
    moved = grams.cpu() if on_cpu else grams
    work = partial(find_share, grams=moved, workers=workers)
    in_threads(workers, work, streams=moved.is_cuda)


def find_one_by_one(grams: Tensor) -> None:
    """Eigenvalues of all matrices in turn."""
    find_share(0, grams=grams, workers=1)


def bench_batches(bench: Bench) -> None:
    """Eigenvalues of many matrices of one shape: batched, in a loop, on streams, on the CPU."""
    cores = os.cpu_count() or 1
    for count, n in ((4, 48),) if bench.is_smoke else BATCHES:
        if bench.left() < 30 and not bench.is_smoke:
            return
        tall = torch.randn(count, 2 * n, n, dtype=torch.float64, device=bench.device)
        grams = tall.mT @ tall
        say(f"eigenvalues of {count} x ({n}, {n}) float64")
        bench.time("one batched call", partial(torch.linalg.eigvalsh, grams))
        bench.time("a loop", partial(find_one_by_one, grams))
        for workers in (2, 4, 8):
            bench.time(f"{workers} threads with streams", partial(find_in_pool, grams, workers))
        bench.time(
            f"copied to {cores} CPU threads", partial(find_in_pool, grams, cores, on_cpu=True)
        )


def bench_flips(bench: Bench) -> None:
    """One transition of one layer, counts compared with the CPU's."""
    side = 128 if bench.is_smoke else 8192
    generator = torch.Generator().manual_seed(0)
    base = 0.02 * torch.randn(side, side, generator=generator)
    moved = base + 3e-5 * torch.randn(side, side, generator=generator)
    for spec in SPECS:
        if bench.left() < 10:
            return
        say(f"flips {spec}, {side} x {side} float32")
        counts = []
        for device in (torch.device("cpu"), bench.device):
            meter = FlipMeter(parse_quantizer(spec), (side, side))
            pair = base.to(device), moved.to(device)

            def turn(meter: FlipMeter = meter, pair: tuple[Tensor, Tensor] = pair) -> int:
                meter.start(pair[0])
                return meter.advance(*pair).num_flipped

            counts.append(bench.time(f"start and one transition on {device.type}", turn))
        say(f"  counts {'agree' if counts[0] == counts[1] else f'DIFFER: {counts}'}")


def bench_copies(bench: Bench) -> None:
    """Host to device, from pinned and from pageable memory."""
    num_bytes = 1 << (16 if bench.is_smoke else 29)
    target = torch.empty(num_bytes, dtype=torch.uint8, device=bench.device)
    is_cuda = bench.device.type == "cuda"
    for name, pinned in (("pageable", False), ("pinned", is_cuda)):
        source = torch.ones(num_bytes, dtype=torch.uint8, pin_memory=pinned)
        bench.time(
            f"copy {num_bytes >> 20} MiB, {name}",
            partial(target.copy_, source, non_blocking=True),
        )


def bench_report(bench: Bench) -> None:
    """`report` on blocks shaped like a 1B model: time by device and workers, flips and ranks."""
    width, hidden, blocks = (64, 160, 1) if bench.is_smoke else (2048, 5632, 4)
    shapes = {f"attn.{name}.weight": (width, width) for name in "qkvo"}
    shapes |= {"mlp.up.weight": (hidden, width), "mlp.down.weight": (width, hidden)}
    if bench.left() < 60 and not bench.is_smoke:
        return
    generator = torch.Generator().manual_seed(0)
    with tempfile.TemporaryDirectory() as directory:
        weights = {
            f"blocks.{block}.{name}": 0.02 * torch.randn(shape, generator=generator)
            for block in range(blocks)
            for name, shape in shapes.items()
        }
        for step in range(2):
            held = {name: weight.bfloat16() for name, weight in weights.items()}
            save_file(held, Path(directory) / f"step_{step}.safetensors")
            for weight in weights.values():
                weight.add_(torch.randn(weight.shape, generator=generator), alpha=1e-4)
        results = []
        cores = os.cpu_count() or 1
        ways = [("cpu", cores), *((bench.device.type, jobs) for jobs in (1, 2, 4, cores))]
        for device, jobs in ways:
            start = time.perf_counter()
            results.append(altgrad_inspect.report(directory, device=device, jobs=jobs))
            say(
                f"report, {blocks} blocks of width {width}, {jobs} workers on {device}: "
                f"{time.perf_counter() - start:.1f} s"
            )
    for result in results[1:]:
        compare_reports([results[0], result])


def compare_reports(results: Sequence[altgrad_inspect.Results]) -> None:
    """Say whether two reports counted the same flips, and how far their ranks are apart."""
    flips = [one.to_pandas("flips")["num_flipped"].tolist() for one in results]
    say(f"  flips {'agree' if flips[0] == flips[1] else 'DIFFER'}")
    first, second = (one.to_pandas("ranks") for one in results)
    away = (first["effective_rank"] / second["effective_rank"] - 1).abs().max()
    bound = (first["effective_rank_error"] + second["effective_rank_error"]).max()
    say(f"  effective ranks differ by {away:.1e} at most, bounds {bound:.1e}")


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "copies": bench_copies,
    "flips": bench_flips,
    "spectra": bench_spectra,
    "batches": bench_batches,
    "report": bench_report,
}


def main() -> None:
    """Run the sections that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=450.0)
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--smoke", action="store_true")
    asked = parser.parse_args()
    if not asked.smoke and not torch.cuda.is_available():
        parser.error("no CUDA device: --smoke runs tiny sizes on the CPU")
    torch.set_num_threads(1)
    device = torch.device("cpu" if asked.smoke else "cuda")
    name = "CPU, smoke test" if asked.smoke else torch.cuda.get_device_name()
    say(f"{name}, torch {torch.__version__}, {os.cpu_count()} cores")
    deadline = time.perf_counter() + asked.budget
    bench = Bench(device=device, is_smoke=asked.smoke, deadline=deadline)
    for section in asked.only.split(","):
        SECTIONS[section](bench)


if __name__ == "__main__":
    main()
