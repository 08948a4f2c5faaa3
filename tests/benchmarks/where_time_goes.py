"""Run one command line in this process and print where its CPU seconds go, as JSON.

    python tests/benchmarks/where_time_goes.py report RUN --jobs 1 -q

Each phase is a function of the program, wrapped with the CPU clock of its thread. Time is
given to the innermost phase; what no phase claims is ``other``.
"""

import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from typing import Any

PHASES = {
    "read": ("altgrad_inspect.checkpoints.layer_reader:LayerReader.read",),
    "open": ("altgrad_inspect.api.run:open_run",),
    "scales": ("altgrad_inspect.metrics.flips:fit_scales",),
    "encode first": ("altgrad_inspect.metrics.flips:FlipMeter.start",),
    "numba's own tables": ("numba.core.base:BaseContext.refresh",),
    "flips, kernel": ("altgrad_inspect.metrics.flips:FlipKernel.add",),
    "flips, rest": ("altgrad_inspect.metrics.flips:FlipMeter.advance",),
    "same bits": ("altgrad_inspect.engine.sighting:Sighting.same_bits_as",),
    "Gram": ("altgrad_inspect.metrics.singular_values:accumulate_gram",),
    "eigenvalues": ("altgrad_inspect.metrics.singular_values:find_eigenvalues",),
    "SVD fall-back": ("altgrad_inspect.metrics.spectrum:find_by_svd",),
    "spectrum, rest": ("altgrad_inspect.engine.matrix_ranks:measure_ranks",),
    "tables": ("altgrad_inspect.api.run:_tables", "altgrad_inspect.api.run:Results"),
    "trends": ("altgrad_inspect.api.run:add_diagnosis",),
    "write, render": ("altgrad_inspect.cli.report:deliver",),
}


class Clock:
    """CPU seconds per phase, over all threads."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._local = threading.local()

    def wrap(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            stack: list[float] = self._local.__dict__.setdefault("stack", [])
            stack.append(0.0)
            start = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.thread_time() - start
                self.seconds[phase] += spent - stack.pop()
                if stack:
                    stack[-1] += spent

        return timed


def instrument(clock: Clock) -> None:
    """Wrap every function of `PHASES`."""
    for phase, targets in PHASES.items():
        for target in targets:
            module, _, path = target.partition(":")
            owner: Any = import_module(module)
            *parents, name = path.split(".")
            for parent in parents:
                owner = getattr(owner, parent)
            setattr(owner, name, clock.wrap(phase, getattr(owner, name)))


def main() -> None:
    cli = import_module("altgrad_inspect.cli")
    import_module("torch")
    torch_imported = time.process_time()
    import_module("numba")  # a run of this size compiles
    numba_imported = time.process_time()
    clock = Clock()
    instrument(clock)
    imported = time.process_time()
    sys.argv[0] = "altgrad-inspect"
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            raise
    total = time.process_time()
    seconds = {
        "start, import torch": torch_imported,
        "import numba": numba_imported - torch_imported,
        "import the rest": imported - numba_imported,
    }
    seconds |= dict(clock.seconds)
    seconds["other"] = total - sum(seconds.values())
    sys.stderr.write(json.dumps(seconds) + "\n")


if __name__ == "__main__":
    main()
