"""One layer through the whole run: read it from each checkpoint in order, emit its rows.

Every byte is read once, whatever was asked for. Two checkpoints of the layer are held at
a time. What we cannot do for one checkpoint becomes a ``failed`` row and the next one goes
on; what has no value becomes an ``undefined`` row.
"""

from collections.abc import Callable
from dataclasses import dataclass

from altgrad_inspect.checkpoints.layer_reader import LayerReader
from altgrad_inspect.engine.flip_rows import FlipRows
from altgrad_inspect.engine.plan import LayerUnit
from altgrad_inspect.engine.rank_rows import RankRows
from altgrad_inspect.engine.sighting import Sighting, first_line
from altgrad_inspect.errors import InspectError
from altgrad_inspect.quantize.spec import Quantizer
from altgrad_inspect.records import FlipRecord, RankRecord, SkippedLayer


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTasks:
    """What to measure.

    Attributes:
        quantizers: For flips; empty for none.
        ranks: Whether to compute spectra.
        spectra: Whether the rank rows keep the singular values.
    """

    quantizers: tuple[Quantizer, ...] = ()
    ranks: bool = False
    spectra: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRows:
    """Rows of one layer, or of several."""

    flips: tuple[FlipRecord, ...] = ()
    ranks: tuple[RankRecord, ...] = ()
    skipped: tuple[SkippedLayer, ...] = ()


def measure_layer(
    unit: LayerUnit,
    tasks: LayerTasks,
    reader: LayerReader,
    *,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> LayerRows:
    """Read the layer from every checkpoint in order and return its rows.

    Args:
        unit: Where the layer is in each checkpoint.
        tasks: What to measure.
        reader: This worker's own; two of its slots are used in turn.
        is_cancelled: Asked before each checkpoint; if so, the rows so far are returned.
    """
    flips = FlipRows(unit.layer, tasks.quantizers) if tasks.quantizers else None
    ranks = RankRows(unit.layer, spectra=tasks.spectra) if tasks.ranks else None
    previous: Sighting | None = None
    slot = 0
    for step, ref in zip(unit.steps, unit.refs, strict=True):
        if is_cancelled():
            break
        current = Sighting(step=step, ref=ref)
        if ref is not None:
            try:
                current.weights = reader.read(ref, slot)
            except (InspectError, MemoryError, RuntimeError) as error:
                current.problem = first_line(error)
            slot = 1 - slot
        if flips:
            flips.see(previous, current)
        if ranks:
            ranks.see(previous, current)
        previous = current
    return LayerRows(
        flips=tuple(flips.rows) if flips else (),
        ranks=tuple(ranks.rows) if ranks else (),
        skipped=(*(flips.skipped if flips else ()), *(ranks.skipped if ranks else ())),
    )
