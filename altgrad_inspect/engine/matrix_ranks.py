"""The ranks of one matrix through the run: measured, or taken over where they provably hold."""

from dataclasses import replace

import torch
from torch import Tensor

from altgrad_inspect.engine.placement import ON_CPU
from altgrad_inspect.engine.sighting import first_line
from altgrad_inspect.metrics.reuse import (
    carry_ranks,
    find_power_of_two,
    measure_drift,
    rescale_ranks,
)
from altgrad_inspect.metrics.spectrum import measure_spectrum
from altgrad_inspect.metrics.spectrum_estimate import (
    AUTO_SIDE,
    MIN_ESTIMATED_SIDE,
    estimate_spectrum,
    measure_stable_rank,
)
from altgrad_inspect.records import Spectrum, StableRank, Undefined
from altgrad_inspect.settings import RankSettings

Outcome = Spectrum | StableRank | Undefined | str
"""What came of one matrix; text says why we could not do it."""


class MatrixRanks:
    """One matrix, checkpoint after checkpoint.

    What is carried is always what was measured last, and the drift adds up since then, so that
    errors cannot creep from checkpoint to checkpoint.

    Args:
        settings: How ranks are computed.
        compiled: Whether to use the compiled loops where they apply; needs numba.

    Attributes:
        note: That the ranks were measured on the CPU for want of memory, else None.
    """

    def __init__(self, settings: RankSettings, *, compiled: bool = False) -> None:
        self._settings = settings
        self._compiled = compiled
        self.note: str | None = None
        self._measured: Spectrum | StableRank | None = None
        self._drift = 0.0

    def see(self, previous: Tensor | None, current: Tensor, note: str | None = None) -> Outcome:
        """Return the ranks of ``current``.

        Args:
            previous: The matrix at the checkpoint before; None if it cannot be compared.
            current: The matrix.
            note: Why it is on the CPU, if it should not be.
        """
        found: Outcome | None
        try:
            found = None if previous is None else self._reuse_anywhere(previous, current)
            if found is None:
                found = self._measure(current)
                self.note = self.note or note
        except (MemoryError, RuntimeError) as error:
            self._measured = None
            found = first_line(error)
        return found

    def _reuse_anywhere(self, previous: Tensor, current: Tensor) -> Spectrum | StableRank | None:
        try:
            return self._reuse(previous, current)
        except torch.OutOfMemoryError:  # comparing changes nothing before it is at its end
            return self._reuse(previous.cpu(), current.cpu())

    def _reuse(self, previous: Tensor, current: Tensor) -> Spectrum | StableRank | None:
        """Return ranks that hold without measuring, or None."""
        if self._measured is None:
            return None
        factor = find_power_of_two(previous, current)
        rescaled = None if factor is None else rescale_ranks(self._measured, factor)
        if factor is not None and rescaled is not None:
            self._measured, self._drift = rescaled, self._drift * abs(factor)
        elif self._settings.tolerance > 0:
            self._drift += measure_drift(previous, current)
        else:
            return None
        if self._drift == 0:
            return self._trim(self._measured)
        rows, cols = current.shape
        return carry_ranks(
            self._measured,
            self._drift,
            tolerance=self._settings.tolerance,
            shape=(rows, cols),
        )

    def _measure(self, matrix: Tensor) -> Outcome:
        settings = self._settings
        keep = settings.spectra or settings.tolerance > 0
        compiled = self._compiled
        try:
            found = measure_ranks(matrix, settings, keep_singular_values=keep, compiled=compiled)
            self.note = None
        except torch.OutOfMemoryError:
            moved = matrix.cpu()
            found = measure_ranks(moved, settings, keep_singular_values=keep, compiled=compiled)
            self.note = ON_CPU
        self._drift = 0.0
        self._measured = None if isinstance(found, Undefined) else found
        return found if isinstance(found, Undefined) else self._trim(found)

    def _trim(self, found: Spectrum | StableRank) -> Spectrum | StableRank:
        """Return the ranks without the values, where they were kept for later only."""
        if isinstance(found, StableRank) or self._settings.spectra:
            return found
        return replace(found, singular_values=None)


def measure_ranks(
    matrix: Tensor, settings: RankSettings, *, keep_singular_values: bool, compiled: bool = False
) -> Spectrum | StableRank | Undefined:
    """Measure a matrix of shape (rows, cols) the way the settings ask for."""
    if settings.metrics == "stable":
        return measure_stable_rank(matrix, compiled=compiled)
    least = {"estimate": MIN_ESTIMATED_SIDE, "auto": AUTO_SIDE}.get(settings.method)
    if least is not None and min(matrix.shape) >= least:
        return estimate_spectrum(matrix, compiled=compiled)
    return measure_spectrum(matrix, keep_singular_values=keep_singular_values, compiled=compiled)
