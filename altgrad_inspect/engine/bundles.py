"""Small layers travel together, large ones alone: what a worker takes, reads and reports at once.

Pure, no tensors and no bytes. How the layers are bundled changes nothing in the tables: each
layer keeps its own rows, only their cost is shared.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from altgrad_inspect.engine.plan import LayerUnit

SMALL_LAYER_BYTES: Final = 64 << 10
"""A layer up to this size, as stored, costs more to hand over than to read."""

MOST_LAYERS: Final = 64
"""Layers in a bundle: enough that handing one over costs nothing, and 4 MiB at most."""

MOST_VISITS: Final = 512
"""Layers times checkpoints in a bundle: a fraction of a second, so that work stays divisible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Layers that go through the run together.

    All of them appear at the same checkpoint first, so that what is kept of the first one can be
    let go together.

    Attributes:
        units: At least one.
        seconds: Rough time of all of them on one core.
    """

    units: tuple[LayerUnit, ...]
    seconds: float

    @property
    def num_checkpoints(self) -> int:
        """Checkpoints of the run, whether the layers are in all of them or not."""
        return len(self.units[0].steps)

    @property
    def is_small(self) -> bool:
        """Whether these are small layers, be it one or many."""
        return _is_small(self.units[0])

    @property
    def first_index(self) -> int:
        """The first checkpoint that holds the layers."""
        return _first_index(self.units[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A bundle at one checkpoint: what is read and computed on at once.

    Attributes:
        bundle: The layers.
        index: Which checkpoint of the run.
    """

    bundle: Bundle
    index: int

    @property
    def num_bytes(self) -> int:
        """Bytes that it takes in memory."""
        refs = (unit.refs[self.index] for unit in self.bundle.units)
        return sum(ref.loaded_bytes for ref in refs if ref)

    @property
    def is_last(self) -> bool:
        """Whether the run ends here."""
        return self.index + 1 == self.bundle.num_checkpoints


def cut_bundles(units: Iterable[LayerUnit], seconds: Mapping[str, float]) -> list[Bundle]:
    """Put every layer into one bundle; small neighbours in a file share one.

    Args:
        units: The layers.
        seconds: Rough time of each, by name.

    Returns:
        Those that take longest first, so that all workers end at about the same time.
    """
    bundles = [
        Bundle(units=tuple(group), seconds=sum(seconds[unit.layer] for unit in group))
        for group in _group(units)
    ]
    return sorted(bundles, key=lambda bundle: (-bundle.seconds, bundle.units[0].layer))


def _group(units: Iterable[LayerUnit]) -> Iterator[list[LayerUnit]]:
    small: list[LayerUnit] = []
    for unit in units:
        if _is_small(unit):
            small.append(unit)
        else:
            yield [unit]
    group: list[LayerUnit] = []
    for unit in sorted(small, key=_place):
        if group and not _fits(group, unit):
            yield group
            group = []
        group.append(unit)
    if group:
        yield group


def _fits(group: Sequence[LayerUnit], unit: LayerUnit) -> bool:
    most = min(MOST_LAYERS, MOST_VISITS // len(unit.steps))
    return len(group) < most and _first_index(group[0]) == _first_index(unit)


def _is_small(unit: LayerUnit) -> bool:
    return all(ref.loaded_bytes <= SMALL_LAYER_BYTES for _, ref in unit.present)


def _first_index(unit: LayerUnit) -> int:
    return next(index for index, ref in enumerate(unit.refs) if ref is not None)


def _place(unit: LayerUnit) -> tuple[int, str, int, str]:
    _, ref = unit.present[0]
    return _first_index(unit), str(ref.file.path), ref.offset, unit.layer


class BundleQueue:
    """The bundles that no worker has taken yet; any thread may take from it.

    Args:
        bundles: In the order in which they are to be taken.
        num_workers: How many take from it.
    """

    def __init__(self, bundles: Iterable[Bundle], *, num_workers: int) -> None:
        self._left = deque(bundles)
        self._num_workers = num_workers
        self._lock = threading.Lock()

    def take(self) -> Bundle | None:
        """Take the next bundle; None if there is none left."""
        with self._lock:
            return self._left.popleft() if self._left else None

    def take_early(self) -> Bundle | None:
        """Take the next bundle while still busy with another one.

        None as well if one of the other workers may be idle before: the last bundles, one a
        worker, are for whoever is free first.
        """
        with self._lock:
            return self._left.popleft() if len(self._left) > self._num_workers else None


class Course:
    """The order in which one worker reads: bundle after bundle, checkpoint after checkpoint."""

    def __init__(self, queue: BundleQueue) -> None:
        self._queue = queue
        self._last: Visit | None = None

    def next(self) -> Visit | None:
        """Return what comes next; None at the end."""
        return self._advance(self._queue.take)

    def early(self) -> Visit | None:
        """Return what comes next if that is certain already; None leaves it to `next`."""
        return self._advance(self._queue.take_early)

    def _advance(self, take: Callable[[], Bundle | None]) -> Visit | None:
        last = self._last
        if last is not None and not last.is_last:
            self._last = Visit(bundle=last.bundle, index=last.index + 1)
            return self._last
        bundle = take()
        if bundle is None:
            return None
        self._last = Visit(bundle=bundle, index=0)
        return self._last
