"""One layer through the whole run: see it at each checkpoint in order, emit its rows.

Every byte is read once, whatever was asked for. Two checkpoints of the layer are looked at at
a time, and the first one as well for updates since then. What we cannot do for one checkpoint
becomes a ``failed`` row and the next one goes on; what has no value becomes an ``undefined`` row.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from altgrad_inspect.checkpoints.layer_reader import LayerReader
from altgrad_inspect.engine.flip_rows import FlipRows
from altgrad_inspect.engine.placement import ON_CPU, place_together
from altgrad_inspect.engine.plan import LayerUnit
from altgrad_inspect.engine.rank_rows import RankRows
from altgrad_inspect.engine.sighting import Sighting, first_line
from altgrad_inspect.engine.sweep_rows import SweepRows
from altgrad_inspect.engine.update_rows import UPDATE_TOTAL, UpdateRows
from altgrad_inspect.errors import InspectError
from altgrad_inspect.quantize.quantizer import Quantizer
from altgrad_inspect.records import FlipRecord, RankRecord, SkippedLayer
from altgrad_inspect.settings import RankSettings
from altgrad_inspect.tables.comparisons import SweepLayerRow


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTasks:
    """What to measure.

    Attributes:
        quantizers: For flips; empty for none.
        auto: The one of them that stands for whatever is stored: a layer that is stored as
            codes is compared by these instead. None if there is no such one.
        ranks: Whether to compute spectra.
        rank_settings: How spectra are computed, and whether the rows keep them.
        updates: Subjects of the updates to measure the ranks of, beside those of the weights:
            ``update``, ``update_total``.
        sweep: Quantizers to sum the flips up for, one row each over the whole run.
        bits: Whether to find the layers whose stored bits never change.
        compiled_flips: Whether flips may use the compiled kernel; set by the engine for runs
            that are large enough.
        compiled_spectra: The same of spectra and theirs.
    """

    quantizers: tuple[Quantizer, ...] = ()
    auto: Quantizer | None = None
    ranks: bool = False
    rank_settings: RankSettings = field(default_factory=RankSettings)
    updates: tuple[str, ...] = ()
    sweep: tuple[Quantizer, ...] = ()
    bits: bool = False
    compiled_flips: bool = False
    compiled_spectra: bool = False

    @property
    def keeps_first(self) -> bool:
        """Whether the first checkpoint of a layer is looked at through the whole run."""
        return UPDATE_TOTAL in self.updates

    @property
    def num_slots(self) -> int:
        """Checkpoints of a layer that are looked at at once."""
        return 3 if self.keeps_first else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRows:
    """Rows of one layer, or of several.

    ``identical`` names the layers that were read from every checkpoint with the same bits.
    """

    flips: tuple[FlipRecord, ...] = ()
    ranks: tuple[RankRecord, ...] = ()
    skipped: tuple[SkippedLayer, ...] = ()
    sweep: tuple[SweepLayerRow, ...] = ()
    identical: frozenset[str] = frozenset()


def join_rows(parts: Iterable[LayerRows]) -> LayerRows:
    """Return the rows of several layers as one, in order."""
    listed = list(parts)
    return LayerRows(
        flips=tuple(row for part in listed for row in part.flips),
        ranks=tuple(row for part in listed for row in part.ranks),
        skipped=tuple(row for part in listed for row in part.skipped),
        sweep=tuple(row for part in listed for row in part.sweep),
        identical=frozenset(name for part in listed for name in part.identical),
    )


def read_sighting(reader: LayerReader, unit: LayerUnit, index: int, slot: int) -> Sighting:
    """Read the layer from one checkpoint; what goes wrong is in the sighting.

    Args:
        reader: Used by no other thread meanwhile.
        unit: Where the layer is in each checkpoint.
        index: Which checkpoint.
        slot: The reader's; it must hold nothing that is still looked at.
    """
    current = Sighting(step=unit.steps[index], ref=unit.refs[index])
    if current.ref is not None:
        try:
            loaded = reader.load(current.ref, slot)
            current.weights, current.coded = loaded.values, loaded.coded
            if loaded.values.device.type != reader.device.type:
                current.note = ON_CPU
        except (InspectError, MemoryError, RuntimeError) as error:
            current.problem = first_line(error)
    return current


class LayerMeter:
    """One layer on its way through the run.

    Args:
        layer: Its name.
        tasks: What to measure.
    """

    def __init__(self, layer: str, tasks: LayerTasks) -> None:
        self._rows = _Rows(layer, tasks)
        self._first: Sighting | None = None
        self._previous: Sighting | None = None

    def see(self, current: Sighting) -> None:
        """Look at the next checkpoint.

        The weights seen last, and with updates since the first checkpoint the first ones, are
        looked at again: they must stay as they are.
        """
        self._rows.see(self._first, self._previous, current)
        self._previous = current
        if self._first is None and current.ref is not None:
            self._first = current

    def build(self) -> LayerRows:
        """Return the rows of the checkpoints seen."""
        return self._rows.build()


class _Rows:
    """Everything that looks at one layer, as ``tasks`` asks for."""

    def __init__(self, layer: str, tasks: LayerTasks) -> None:
        self._layer = layer
        self._identical = tasks.bits
        self._sweep = (
            SweepRows(layer, tasks.sweep, compiled=tasks.compiled_flips) if tasks.sweep else None
        )
        self._flips = (
            FlipRows(layer, tasks.quantizers, auto=tasks.auto, compiled=tasks.compiled_flips)
            if tasks.quantizers
            else None
        )
        spectra, compiled = tasks.rank_settings.spectra, tasks.compiled_spectra
        self._ranks = (
            RankRows(layer, tasks.rank_settings, compiled=compiled) if tasks.ranks else None
        )
        self._updates = tuple(
            (subject, UpdateRows(layer, subject, spectra=spectra, compiled=compiled))
            for subject in tasks.updates
        )

    def see(self, first: Sighting | None, previous: Sighting | None, current: Sighting) -> None:
        now, (before,) = place_together(current, previous)
        if self._flips:
            self._flips.see(before, now)
        if self._ranks:
            self._ranks.see(before, now)
        if self._sweep:
            self._sweep.see(before, now)
        if before is None or not (self._identical or self._updates):
            return
        is_same = now.same_bits_as(before)
        self._identical = self._identical and is_same
        for subject, rows in self._updates:
            is_total = subject == UPDATE_TOTAL
            now, (earlier,) = place_together(current, first if is_total else previous)
            rows.see(earlier, now, is_repeated=is_total and is_same)

    def build(self) -> LayerRows:
        ranks = list(self._ranks.rows) if self._ranks else []
        return LayerRows(
            flips=tuple(self._flips.rows) if self._flips else (),
            ranks=(*ranks, *(row for _, rows in self._updates for row in rows.rows)),
            skipped=(
                *(self._flips.skipped if self._flips else ()),
                *(self._ranks.skipped if self._ranks else ()),
                *(self._sweep.skipped if self._sweep else ()),
            ),
            sweep=self._sweep.build() if self._sweep else (),
            identical=frozenset({self._layer}) if self._identical else frozenset(),
        )
