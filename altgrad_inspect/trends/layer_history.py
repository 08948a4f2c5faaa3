"""Each layer over the run, row by row: its transitions by quantizer, its matrices by step.

Read from the tables once, so that every rule about flips and about the state of the
weights starts from the same rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import groupby
from typing import Final

import pyarrow as pa

from altgrad_inspect.records import Status

STORED_PREFIX: Final = "stored:"
"""Quantizers of stored codes: codes are compared, values are not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One row of the flips table, of one layer and quantizer; the columns are explained there.

    Attributes:
        usable: Its counts are evidence: the comparison was made, and all weights of both
            checkpoints were finite. Only ``num_nonfinite`` tells anything otherwise.
    """

    step_from: int
    step_to: int
    num_weights: int | None
    num_updated: int | None
    num_flipped: int | None
    flip_fraction: float | None
    flip_excess: float | None
    num_reverted: int | None
    num_saturated: int | None
    num_scales: int | None
    scale_ratio_max: float | None
    num_nonfinite: int | None
    update_norm: float | None
    relative_update: float | None
    usable: bool

    @property
    def num_steps(self) -> int:
        """Training steps from the earlier checkpoint to the later one."""
        return self.step_to - self.step_from

    @property
    def update_fraction(self) -> float | None:
        """Updated over all weights, in [0, 1]; None where it was not counted."""
        if not self.num_weights or self.num_updated is None:
            return None
        return self.num_updated / self.num_weights

    @property
    def starts_from_zero(self) -> bool:
        """Whether every weight of the earlier checkpoint was zero.

        Its norm is what ``relative_update`` divides by, so that is null there and
        ``update_norm`` is not.
        """
        return self.usable and self.update_norm is not None and self.relative_update is None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerHistory:
    """The transitions of one layer on one quantizer, in order; never empty."""

    layer: str
    quantizer: str
    transitions: tuple[Transition, ...]


class MatrixState(Enum):
    """What a row of the ranks table says about the weights."""

    LIVE = auto()  #: Finite and not all zero.
    ZERO = auto()  #: All zero.
    NONFINITE = auto()  #: NaN or Inf among them.
    UNKNOWN = auto()  #: It could not be read or measured.


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixHistory:
    """The states of one matrix of a layer.

    Attributes:
        layer: Name of the layer.
        matrix: Index in a stack of matrices, else 0.
        states: (step, state, reason) in order of the steps; never empty.
    """

    layer: str
    matrix: int
    states: tuple[tuple[int, MatrixState, str | None], ...]


_COLUMNS: Final = (
    "step_from",
    "step_to",
    "num_weights",
    "num_updated",
    "num_flipped",
    "flip_fraction",
    "flip_excess",
    "num_reverted",
    "num_saturated",
    "num_scales",
    "scale_ratio_max",
    "num_nonfinite",
    "update_norm",
    "relative_update",
)


def find_layer_histories(flips: pa.Table | None) -> tuple[LayerHistory, ...]:
    """Return the transitions of every layer and quantizer, sorted by layer, then quantizer.

    Args:
        flips: Table with the columns of ``FLIPS``, in any order, or None.
    """
    if flips is None:
        return ()
    names = ("layer", "quantizer", *_COLUMNS[:2], "status", *_COLUMNS[2:])
    columns = (flips.column(name).to_pylist() for name in names)
    rows = sorted(zip(*columns, strict=True), key=lambda row: row[:4])
    return tuple(
        LayerHistory(
            layer=layer,
            quantizer=quantizer,
            transitions=tuple(_build_transition(row) for row in group),
        )
        for (layer, quantizer), group in groupby(rows, key=lambda row: row[:2])
    )


def _build_transition(row: Sequence[object]) -> Transition:
    fields = dict(zip(_COLUMNS, (*row[2:4], *row[5:]), strict=True))
    codes_only = str(row[1]).startswith(STORED_PREFIX)
    compared = bool(fields["num_weights"]) and fields["num_nonfinite"] == 0
    usable = compared and (codes_only or row[4] == Status.OK)
    return Transition(**fields, usable=usable)  # type: ignore[arg-type]  # typed by the schema


def find_matrix_histories(ranks: pa.Table | None) -> tuple[MatrixHistory, ...]:
    """Return the states of every matrix of weights, sorted by layer, then matrix.

    Args:
        ranks: Table with the columns of ``RANKS``, in any order, or None; rows about updates
            are left out.
    """
    if ranks is None:
        return ()
    names = ("layer", "matrix", "step", "subject", "status", "reason")
    columns = (ranks.column(name).to_pylist() for name in names)
    rows = sorted(
        (row for row in zip(*columns, strict=True) if row[3] == "weight"), key=lambda row: row[:3]
    )
    return tuple(
        MatrixHistory(
            layer=layer,
            matrix=matrix,
            states=tuple((row[2], _find_state(row[4], row[5]), row[5]) for row in group),
        )
        for (layer, matrix), group in groupby(rows, key=lambda row: row[:2])
    )


def _find_state(status: str, reason: str | None) -> MatrixState:
    if status == Status.OK:
        return MatrixState.LIVE
    if status == Status.UNDEFINED and reason == "zero matrix":
        return MatrixState.ZERO
    if status == Status.UNDEFINED and reason is not None and " NaN and " in reason:
        return MatrixState.NONFINITE
    return MatrixState.UNKNOWN
