"""One worker: a thread that computes, and a thread that reads what it needs next.

While a bundle is computed on at one checkpoint, its bytes of the next checkpoint, or those of the
next bundle, are read into a slot that is free. The queue between the two threads is a single
future: one visit ahead, not more, and what goes wrong comes out where the result is asked for.
What is too large for another copy is announced to the system instead, which may read it into
its own cache meanwhile.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from altgrad_inspect.checkpoints.layer_reader import LayerReader
from altgrad_inspect.engine.bundles import MOST_LAYERS, Bundle, BundleQueue, Course, Visit
from altgrad_inspect.engine.lanes import Lanes
from altgrad_inspect.engine.layer import LayerMeter, LayerRows, LayerTasks, read_sighting
from altgrad_inspect.engine.plan import READ_AHEAD_BYTES
from altgrad_inspect.engine.sighting import Sighting
from altgrad_inspect.engine.slots import Slots

Report = Callable[[Bundle, Sequence[LayerRows]], None]
"""Takes a bundle and the rows of its layers, in order."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """A visit whose bytes are being read into a slot, or have been."""

    visit: Visit
    slot: int
    found: Future[list[Sighting]]


class Worker:
    """Takes bundles from the queue until there is none left.

    Args:
        queue: Shared with the other workers.
        turn: Shared as well: who has it computes on small layers. They are bound by the
            interpreter, which two threads only take away from each other.
        tasks: What to measure.
        device: Where.
        report: Called in the worker's thread with what is done.
        is_cancelled: Asked before every visit; if so, the worker ends.
    """

    def __init__(
        self,
        queue: BundleQueue,
        turn: AbstractContextManager[object],
        tasks: LayerTasks,
        *,
        device: torch.device,
        report: Report,
        is_cancelled: Callable[[], bool],
    ) -> None:
        self._course = Course(queue)
        self._turn = turn
        self._tasks = tasks
        self._report = report
        self._is_cancelled = is_cancelled
        self._lanes = Lanes(device)
        self._slots = Slots(tasks.num_slots + 1)
        self._reader = LayerReader(device, num_slots=MOST_LAYERS * self._slots.count)
        self._meters: list[LayerMeter] = []

    def run(self) -> None:
        """Work until nothing is left or the run is cancelled."""
        _use_one_thread()
        thread = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="reader", initializer=_use_one_thread
        )
        with self._reader, thread:
            current = self._begin(thread, self._course.next())
            while current is not None and not self._is_cancelled():
                found = current.found.result()
                upcoming = self._course.early()
                following = None
                if upcoming is not None and upcoming.num_bytes <= READ_AHEAD_BYTES:
                    following = self._begin(thread, upcoming)
                elif upcoming is not None:
                    thread.submit(self._announce, upcoming)
                self._compute(current.visit, found)
                self._let_go(current)
                current = following or self._begin(thread, upcoming or self._course.next())

    def _begin(self, thread: ThreadPoolExecutor, visit: Visit | None) -> _Reading | None:
        if visit is None:
            return None
        slot = self._slots.take(visit.num_bytes)
        return _Reading(visit, slot, thread.submit(self._read, visit, slot))

    def _read(self, visit: Visit, slot: int) -> list[Sighting]:
        with self._lanes.copying():
            return [
                read_sighting(self._reader, unit, visit.index, place * self._slots.count + slot)
                for place, unit in enumerate(visit.bundle.units)
            ]

    def _announce(self, visit: Visit) -> None:
        for unit in visit.bundle.units:
            ref = unit.refs[visit.index]
            if ref is not None:
                self._reader.announce(ref)

    def _compute(self, visit: Visit, found: Sequence[Sighting]) -> None:
        if visit.index == 0:
            self._meters = [LayerMeter(unit.layer, self._tasks) for unit in visit.bundle.units]
        turn = self._turn if visit.bundle.is_small else nullcontext()
        with turn, self._lanes.computing():
            for meter, current in zip(self._meters, found, strict=True):
                meter.see(current)
            if visit.is_last:
                self._report(visit.bundle, [meter.build() for meter in self._meters])
                self._meters = []

    def _let_go(self, done: _Reading) -> None:
        """Free the slots of checkpoints that nobody will look at again."""
        visit = done.visit
        kept = set() if visit.is_last else {visit.index}
        if self._tasks.keeps_first and not visit.is_last:
            kept.add(visit.bundle.first_index)
        self._slots.keep(kept, visit.index, done.slot)


def _use_one_thread() -> None:
    torch.set_num_threads(1)  # of this thread: torch has one setting a thread
