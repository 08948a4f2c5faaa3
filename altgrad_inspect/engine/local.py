"""Works units off on this machine: one worker a core, what takes longest first.

Parallelism is over layers. Each worker has its own buffers and sets torch to one thread
*inside itself* (the setting is per thread): intra-op threads gain nothing on this work
and collapse under contention. torch releases the interpreter lock while it computes.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from queue import SimpleQueue

import torch
from threadpoolctl import threadpool_limits

from altgrad_inspect.engine.bundles import Bundle, BundleQueue, cut_bundles
from altgrad_inspect.engine.events import LayerDone, Listener, Planned
from altgrad_inspect.engine.layer import LayerRows, LayerTasks, join_rows
from altgrad_inspect.engine.plan import LayerUnit, rank_seconds, unit_seconds
from altgrad_inspect.engine.worker import Worker
from altgrad_inspect.errors import ConfigError
from altgrad_inspect.metrics.flip_kernel import worth_compiling
from altgrad_inspect.metrics.spectrum_kernel import worth_compiling_spectra


def resolve_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` into a device that exists.

    Raises:
        ConfigError: The device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            msg = f"device {name}: not found, there are {count} CUDA devices (use --device cpu)"
            raise ConfigError(msg)
    return device


def run_units(
    units: Sequence[LayerUnit],
    tasks: LayerTasks,
    *,
    device: torch.device,
    num_workers: int,
    num_checkpoints: int,
    on_event: Listener,
) -> LayerRows:
    """Work off ``units`` and return their rows, in the order of ``units``.

    ``on_event`` is called in the calling thread. On an exception in a worker, or an
    interrupt, the other workers stop after the checkpoint they are at.
    """
    num_quantizers = len(tasks.quantizers) + len(tasks.sweep)
    num_spectra = tasks.ranks + len(tasks.updates)
    seconds = {
        unit.layer: unit_seconds(unit, num_quantizers=num_quantizers, num_spectra=num_spectra)
        for unit in units
    }
    tasks = _choose_compiled(units, tasks, num_quantizers=num_quantizers, num_spectra=num_spectra)
    on_event(
        Planned(
            num_checkpoints=num_checkpoints,
            num_layers=len(units),
            num_bytes=sum(unit.num_bytes for unit in units),
        )
    )
    results: dict[str, LayerRows] = {}
    bundles = cut_bundles(units, seconds)
    total = sum(seconds.values()) or 1.0
    for bundle, found in _work_off(bundles, tasks, device=device, num_workers=num_workers):
        for unit, rows in zip(bundle.units, found, strict=True):
            results[unit.layer] = rows
            cost = seconds[unit.layer] / total
            on_event(LayerDone(layer=unit.layer, num_bytes=unit.num_bytes, cost=cost))
    return join_rows(results[unit.layer] for unit in units)


def _choose_compiled(
    units: Sequence[LayerUnit], tasks: LayerTasks, *, num_quantizers: int, num_spectra: int
) -> LayerTasks:
    """Use compiled loops where the run as a whole is large enough to pay for their start."""
    refs = [ref for unit in units for _, ref in unit.present]
    num_weights = sum(ref.num_weights for ref in refs)
    seconds = num_spectra * sum(rank_seconds(ref.shape) for ref in refs) if num_spectra else 0.0
    return replace(
        tasks,
        compiled_flips=worth_compiling(num_weights * num_quantizers),
        compiled_spectra=worth_compiling_spectra(seconds),
    )


def _work_off(
    bundles: Sequence[Bundle], tasks: LayerTasks, *, device: torch.device, num_workers: int
) -> Iterator[tuple[Bundle, Sequence[LayerRows]]]:
    """Yield every bundle with its rows as soon as a worker is done with it, in any order."""
    num_workers = max(1, min(num_workers, len(bundles)))
    queue = BundleQueue(bundles, num_workers=num_workers)
    turn = threading.Lock()
    cancelled = threading.Event()
    # What is done, and at last each worker's own future, which carries what went wrong.
    done: SimpleQueue[tuple[Bundle, Sequence[LayerRows]] | Future[None]] = SimpleQueue()
    with (
        threadpool_limits(limits=1, user_api="blas"),  # numpy's, for the whole process
        ThreadPoolExecutor(max_workers=num_workers, thread_name_prefix="worker") as pool,
    ):
        try:
            for _ in range(num_workers):
                worker = Worker(
                    queue,
                    turn,
                    tasks,
                    device=device,
                    report=lambda bundle, rows: done.put((bundle, rows)),
                    is_cancelled=cancelled.is_set,
                )
                pool.submit(worker.run).add_done_callback(done.put)
            while num_workers:
                found = done.get()
                if isinstance(found, Future):
                    found.result()
                    num_workers -= 1
                else:
                    yield found
        finally:
            cancelled.set()
