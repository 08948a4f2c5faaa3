"""Checkpoints in memory to tables, through the code that measures those on disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor, dtype, float32

from altgrad_inspect.engine.flip_rows import FlipRows
from altgrad_inspect.engine.rank_rows import RankRows
from altgrad_inspect.engine.sighting import Sighting
from altgrad_inspect.quantize.spec import parse_quantizer
from altgrad_inspect.records import CheckpointRecord, FlipRecord, RankRecord
from altgrad_inspect.refs import FileRef, LayerRef
from altgrad_inspect.settings import DEFAULT_QUANTIZER
from altgrad_inspect.tables.convert import build_table
from altgrad_inspect.tables.schema import CHECKPOINTS, FLIPS, RANKS

_NOWHERE: Final = FileRef(path=Path("memory"), size_bytes=0, mtime_ns=0, inode=0)
_QUANTIZER: Final = parse_quantizer(DEFAULT_QUANTIZER)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRows:
    """What one layer left in the tables."""

    ranks: tuple[RankRecord, ...]
    flips: tuple[FlipRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """What a run left: the three tables that are judged."""

    ranks: pa.Table
    flips: pa.Table
    checkpoints: pa.Table

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps of the checkpoints, ascending."""
        return tuple(row["step"] for row in self.checkpoints.select(["step"]).to_pylist())

    def until(self, step: int) -> "Tables":
        """Return the tables as they were when the checkpoint of ``step`` had just come."""
        return Tables(
            ranks=_cut(self.ranks, "step", step),
            flips=_cut(self.flips, "step_to", step),
            checkpoints=_cut(self.checkpoints, "step", step),
        )


def _cut(table: pa.Table, column: str, step: int) -> pa.Table:
    return table.filter(pc.field(column) <= pc.scalar(step))


class LayerRecorder:
    """Measures one layer, checkpoint by checkpoint."""

    def __init__(self, layer: str, saved_as: dtype = float32) -> None:
        self._layer = layer
        self._dtype = saved_as
        self._flips = FlipRows(layer, [_QUANTIZER])
        self._ranks = RankRows(layer)
        self._previous: Sighting | None = None

    def see(self, step: int, weights: Tensor) -> None:
        """Save ``weights``, so to speak, and measure what was saved."""
        saved = weights.detach().to(self._dtype, copy=True)
        ref = LayerRef(
            name=self._layer,
            stored_name=self._layer,
            dtype="F32" if self._dtype is float32 else "BF16",
            shape=tuple(saved.shape),
            file=_NOWHERE,
            offset=0,
            num_bytes=saved.nbytes,
        )
        current = Sighting(step=step, ref=ref, weights=saved)
        self._flips.see(self._previous, current)
        self._ranks.see(self._previous, current)
        self._previous = current

    @property
    def rows(self) -> LayerRows:
        """All rows so far."""
        return LayerRows(ranks=tuple(self._ranks.rows), flips=tuple(self._flips.rows))


def build_tables(layers: Mapping[str, LayerRows], losses: Mapping[int, float | None]) -> Tables:
    """Build the tables of a run.

    Args:
        layers: Name to rows.
        losses: Step of every checkpoint to its mean training loss, None if not logged.
    """
    checkpoints = [
        CheckpointRecord(
            step=step,
            path=f"step_{step}",
            layout="flat",
            scheme=None,
            num_layers=len(layers),
            num_weights=None,
            size_bytes=None,
            fingerprint=None,
            loss=loss,
        )
        for step, loss in losses.items()
    ]
    return Tables(
        ranks=build_table(RANKS, [row for rows in layers.values() for row in rows.ranks]),
        flips=build_table(FLIPS, [row for rows in layers.values() for row in rows.flips]),
        checkpoints=build_table(CHECKPOINTS, checkpoints),
    )
