"""Works units off on this machine: one worker thread a core, largest units first.

Parallelism is over layers. Each worker has its own buffers and sets torch to one thread
*inside itself* (the setting is per thread): intra-op threads gain nothing on this work
and collapse under contention. torch releases the interpreter lock while it computes.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace

import torch
from threadpoolctl import threadpool_limits

from altgrad_inspect.checkpoints.layer_reader import LayerReader
from altgrad_inspect.engine.events import LayerDone, Listener, Planned
from altgrad_inspect.engine.layer import LayerRows, LayerTasks, join_rows, measure_layer
from altgrad_inspect.engine.plan import LayerUnit, unit_seconds
from altgrad_inspect.errors import ConfigError
from altgrad_inspect.metrics.flip_kernel import worth_compiling


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


class _Workers(threading.local):
    """What each worker thread keeps for itself."""

    reader: LayerReader | None = None


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
    seconds = {
        unit.layer: unit_seconds(
            unit,
            num_quantizers=len(tasks.quantizers) + len(tasks.sweep),
            num_spectra=tasks.ranks + len(tasks.updates),
        )
        for unit in units
    }
    total = sum(seconds.values()) or 1.0
    num_weights = sum(ref.num_weights for unit in units for _, ref in unit.present)
    num_quantizers = len(tasks.quantizers) + len(tasks.sweep)
    tasks = replace(tasks, compiled=worth_compiling(num_weights * num_quantizers))
    on_event(
        Planned(
            num_checkpoints=num_checkpoints,
            num_layers=len(units),
            num_bytes=sum(unit.num_bytes for unit in units),
        )
    )
    cancelled = threading.Event()
    workers = _Workers()

    def work(unit: LayerUnit) -> LayerRows:
        if workers.reader is None:
            torch.set_num_threads(1)
            workers.reader = LayerReader(device, num_slots=tasks.num_slots)
        return measure_layer(unit, tasks, workers.reader, is_cancelled=cancelled.is_set)

    results: dict[str, LayerRows] = {}
    order = sorted(units, key=lambda unit: (-seconds[unit.layer], unit.layer))
    with (
        threadpool_limits(limits=1, user_api="blas"),  # numpy's, for the whole process
        ThreadPoolExecutor(max_workers=max(1, min(num_workers, len(units)))) as pool,
    ):
        try:
            pending: dict[Future[LayerRows], LayerUnit] = {
                pool.submit(work, unit): unit for unit in order
            }
            while pending:
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    unit = pending.pop(future)
                    results[unit.layer] = future.result()
                    on_event(
                        LayerDone(
                            layer=unit.layer,
                            num_bytes=unit.num_bytes,
                            cost=seconds[unit.layer] / total,
                        )
                    )
        except BaseException:
            cancelled.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return join_rows(results[unit.layer] for unit in units)
