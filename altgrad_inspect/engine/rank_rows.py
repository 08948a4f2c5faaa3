"""The ranks rows of one layer: one a matrix and checkpoint."""

from altgrad_inspect.engine.matrix_ranks import MatrixRanks, Outcome
from altgrad_inspect.engine.sighting import Sighting, SkipList
from altgrad_inspect.metrics.matrices import (
    MatrixPlan,
    matrices,
    matrix_shapes,
    weightless_reason,
)
from altgrad_inspect.records import (
    RankRecord,
    SkippedLayer,
    Spectrum,
    StableRank,
    Status,
    Undefined,
)
from altgrad_inspect.settings import RankSettings


class RankRows:
    """Turns a layer's sightings into ranks rows.

    Args:
        layer: Its name.
        settings: How ranks are computed.
        compiled: Whether to use the compiled loops where they apply; needs numba.
    """

    def __init__(
        self, layer: str, settings: RankSettings | None = None, *, compiled: bool = False
    ) -> None:
        self.rows: list[RankRecord] = []
        self._layer = layer
        self._settings = RankSettings() if settings is None else settings
        self._compiled = compiled
        self._matrices: list[MatrixRanks] = []
        self._skips = SkipList(layer)
        self._outcomes: list[Outcome] = []

    @property
    def skipped(self) -> tuple[SkippedLayer, ...]:
        """Why the layer has no rows, where it has none."""
        return self._skips.rows

    def see(self, previous: Sighting | None, current: Sighting) -> None:
        """Measure the matrices of ``current``; ``previous`` is the checkpoint before."""
        ref = current.ref
        if ref is None:
            self._outcomes = []
            return
        weightless = None if current.weights is None else weightless_reason(current.weights.dtype)
        plan = matrix_shapes(ref.shape)
        if weightless or isinstance(plan, str):
            self._skips.add(ref, f"ranks: {weightless or plan}")
            self._outcomes = []
            return
        self._outcomes = self._measure(plan, previous, current)
        for index, outcome in enumerate(self._outcomes):
            self.rows.append(self._row(plan, current.step, index, outcome))

    def _measure(
        self, plan: MatrixPlan, previous: Sighting | None, current: Sighting
    ) -> list[Outcome]:
        if current.weights is None:
            return [current.problem or "not read"] * plan.num_matrices
        if previous and self._outcomes and current.same_bits_as(previous):
            return self._outcomes  # bit-identical: the same numbers, without the work
        before = None if previous is None else previous.weights
        if (
            before is None
            or not self._outcomes
            or (before.shape, before.dtype) != (current.weights.shape, current.weights.dtype)
        ):
            self._matrices = [
                MatrixRanks(self._settings, compiled=self._compiled)
                for _ in range(plan.num_matrices)
            ]
            new = zip(self._matrices, matrices(current.weights), strict=True)
            return [one.see(None, matrix, current.note) for one, matrix in new]
        both = zip(self._matrices, matrices(before), matrices(current.weights), strict=True)
        return [one.see(earlier, later, current.note) for one, earlier, later in both]

    def _row(self, plan: MatrixPlan, step: int, index: int, outcome: Outcome) -> RankRecord:
        spectrum, status, reason = None, Status.OK, None
        match outcome:
            case Spectrum() | StableRank():
                spectrum, reason = outcome, self._matrices[index].note
            case Undefined():
                status, reason = Status.UNDEFINED, outcome.reason
            case str():
                status, reason = Status.FAILED, outcome
        return RankRecord(
            layer=self._layer,
            matrix=index,
            subject="weight",
            step=step,
            rows=plan.rows,
            cols=plan.cols,
            spectrum=spectrum,
            status=status,
            reason=reason,
        )
