"""The ranks rows of one layer's updates: each checkpoint minus an earlier one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from altgrad_inspect.engine.placement import ON_CPU, move_to_cpu
from altgrad_inspect.engine.sighting import Sighting, first_line
from altgrad_inspect.metrics.matrices import (
    MatrixPlan,
    matrices,
    matrix_shapes,
    weightless_reason,
)
from altgrad_inspect.metrics.updates import MeasuredUpdate, measure_update
from altgrad_inspect.records import RankRecord, Spectrum, Status, Undefined

UPDATE = "update"
"""Subject of the rows about a checkpoint minus the one before."""

UPDATE_TOTAL = "update_total"
"""Subject of the rows about a checkpoint minus the first that has the layer."""

Outcome = MeasuredUpdate | Undefined | str
"""What came of one matrix; text says why we could not do it."""


class UpdateRows:
    """Turns pairs of sightings of a layer into ranks rows of one subject.

    Args:
        layer: Its name.
        subject: `UPDATE` or `UPDATE_TOTAL`.
        spectra: Whether rows keep the singular values.
        compiled: Whether to use the compiled loops where they apply; needs numba.
    """

    def __init__(self, layer: str, subject: str, *, spectra: bool, compiled: bool = False) -> None:
        self.rows: list[RankRecord] = []
        self._layer = layer
        self._subject = subject
        self._spectra = spectra
        self._compiled = compiled
        self._outcomes: list[tuple[Outcome, str | None]] = []

    def see(
        self, earlier: Sighting | None, current: Sighting, *, is_repeated: bool = False
    ) -> None:
        """Measure ``current`` minus ``earlier``.

        Args:
            earlier: What is subtracted; None if there is nothing yet, and then no row.
            current: The checkpoint at hand.
            is_repeated: Whether the checkpoint before has the same bits, and ``earlier`` was
                subtracted from it: then its rows hold again.
        """
        plan = None if current.ref is None else matrix_shapes(current.ref.shape)
        if plan is None or isinstance(plan, str) or earlier is None or _is_weightless(current):
            self._outcomes = []
            return
        if not (self._outcomes and is_repeated):
            self._outcomes = self._measure(plan, earlier, current)
        for index, (outcome, note) in enumerate(self._outcomes):
            row = self._row(plan, (earlier.step, current.step), index, outcome)
            self.rows.append(row if row.reason else replace(row, reason=note))

    def _measure(
        self, plan: MatrixPlan, earlier: Sighting, current: Sighting
    ) -> list[tuple[Outcome, str | None]]:
        """Return what came of each matrix, and a note about where."""
        reason = _find_gap(earlier, current)
        if reason is not None:
            return [(reason, None)] * plan.num_matrices
        try:
            try:
                return self._measure_matrices(plan, earlier, current)
            except torch.OutOfMemoryError:  # no room for the cells of all matrices
                return self._measure_matrices(plan, move_to_cpu(earlier), move_to_cpu(current))
        except (MemoryError, RuntimeError) as error:
            return [(first_line(error), None)] * plan.num_matrices

    def _measure_matrices(
        self, plan: MatrixPlan, earlier: Sighting, current: Sighting
    ) -> list[tuple[Outcome, str | None]]:
        if earlier.weights is None or current.weights is None:
            problem = earlier.problem or current.problem or "not read"
            return [(problem, None)] * plan.num_matrices
        pairs = zip(
            matrices(earlier.weights),
            matrices(current.weights),
            _cells(earlier, plan),
            _cells(current, plan),
            strict=True,
        )
        found = [self._update((before, after), cells) for before, after, *cells in pairs]
        return [(outcome, note or current.note) for outcome, note in found]

    def _update(
        self, weights: tuple[Tensor, Tensor], cells: Sequence[Tensor | None]
    ) -> tuple[Outcome, str | None]:
        try:
            try:
                return self._measure_pair(*weights, *cells), None
            except torch.OutOfMemoryError:
                moved = (one if one is None else one.cpu() for one in (*weights, *cells))
                return self._measure_pair(*moved), ON_CPU
        except (MemoryError, RuntimeError) as error:
            return first_line(error), None

    def _measure_pair(self, earlier: Any, later: Any, *cells: Any) -> MeasuredUpdate:
        return measure_update(
            earlier,
            later,
            cells=(cells[0], cells[1]),
            keep_singular_values=self._spectra,
            compiled=self._compiled,
        )

    def _row(
        self, plan: MatrixPlan, steps: tuple[int, int], index: int, outcome: Outcome
    ) -> RankRecord:
        status, reason = Status.OK, None
        floor = outcome.rounding_floor if isinstance(outcome, MeasuredUpdate) else None
        found = outcome.spectrum if isinstance(outcome, MeasuredUpdate) else outcome
        if isinstance(found, Undefined):
            status, reason = Status.UNDEFINED, found.reason
        elif isinstance(found, str):
            status, reason = Status.FAILED, found
        return RankRecord(
            layer=self._layer,
            matrix=index,
            subject=self._subject,
            step=steps[1],
            rows=plan.rows,
            cols=plan.cols,
            step_from=steps[0],
            rounding_floor=floor,
            spectrum=found if isinstance(found, Spectrum) else None,
            status=status,
            reason=reason,
        )


def _cells(sighting: Sighting, plan: MatrixPlan) -> Sequence[Tensor | None]:
    """Widths of the codes' cells, a matrix each; None each where no codes are stored."""
    if sighting.coded is None:
        return [None] * plan.num_matrices
    cells = sighting.coded.measure_cells()
    return cells.reshape(plan.num_matrices, plan.rows, plan.cols).unbind(0)


def _is_weightless(sighting: Sighting) -> bool:
    """Whether the ranks rows already say that these are no weights."""
    return sighting.weights is not None and weightless_reason(sighting.weights.dtype) is not None


def _find_gap(earlier: Sighting, current: Sighting) -> Undefined | None:
    """Why the two have no difference, whatever is in them; None if they may have one."""
    before, after = earlier.ref, current.ref
    if after is None or before is None:
        return Undefined(reason=f"layer added: not in step {earlier.step}")
    if before.shape != after.shape:
        return Undefined(
            reason=f"shape changed from {list(before.shape)} to {list(after.shape)}: no difference"
        )
    if _is_weightless(earlier):
        return Undefined(reason=f"{before.dtype} at step {earlier.step}: codes, not weights")
    return None
