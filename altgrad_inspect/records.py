"""What the stages hand on to each other: plain facts, no tensors, no behaviour.

    FlipCounts, FlipRecord                        one layer, one transition, one quantizer
    Spectrum, RankRecord                          one matrix at one step
    TrendPoint, Alert                             one metric of one matrix over the run
    SkippedLayer                                  what was left out, and why

Field names are the column names of the tables (``altgrad_inspect.tables.schema``),
which also says what each of them means.
"""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How much of a row can be relied on."""

    OK = "ok"  #: Every number stands.
    UNDEFINED = "undefined"  #: The definition has no value here, e.g. a zero matrix.
    SKIPPED = "skipped"  #: Left out on purpose.
    FAILED = "failed"  #: We could not do it: a read error, no memory.


class Severity(StrEnum):
    """How urgent an alert is; ``rank`` orders them."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for info, 1 for warning, 2 for critical."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRecord:
    """One row of ``checkpoints.parquet``."""

    step: int
    path: str
    layout: str
    scheme: str | None
    num_layers: int | None
    num_weights: int | None
    size_bytes: int | None
    fingerprint: str | None
    loss: float | None
    status: Status = Status.OK
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipCounts:
    """What changed in one layer from an earlier checkpoint to a later one, on one quantizer."""

    num_weights: int
    num_updated: int
    num_flipped: int
    num_recoded: int
    num_scales: int
    num_scales_changed: int
    scale_ratio_max: float | None
    num_expected_flips: float | None
    num_up: int
    num_down: int
    num_sign_flipped: int
    num_to_zero: int
    num_from_zero: int
    num_reverted: int | None
    num_saturated: int | None
    num_underflowed: int | None
    num_nonfinite: int
    code_step_mean: float | None
    code_step_max: int | None
    code_step_histogram: tuple[int, ...]
    update_norm: float | None
    relative_update: float | None
    update_mean_abs: float | None

    @property
    def flip_fraction(self) -> float | None:
        """Flipped over all, in [0, 1]; None for an empty layer."""
        return self.num_flipped / self.num_weights if self.num_weights else None

    @property
    def num_stalled(self) -> int:
        """Updated elements that kept their code."""
        return self.num_updated - self.num_flipped

    @property
    def stall_fraction(self) -> float | None:
        """Stalled over updated, in [0, 1]; None when nothing was updated."""
        return self.num_stalled / self.num_updated if self.num_updated else None

    @property
    def recode_fraction(self) -> float | None:
        """Recoded over all, in [0, 1]; None for an empty layer."""
        return self.num_recoded / self.num_weights if self.num_weights else None

    @property
    def flip_excess(self) -> float | None:
        """Flips over the flips that uniform positions would give; None below 30 expected."""
        if self.num_expected_flips is None or self.num_expected_flips < MIN_EXPECTED_FLIPS:
            return None
        return self.num_flipped / self.num_expected_flips


MIN_EXPECTED_FLIPS = 30.0
"""Below this many expected flips the ratio is noise, so ``flip_excess`` is null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipRecord:
    """One row of ``flips.parquet``."""

    layer: str
    quantizer: str
    step_from: int
    step_to: int
    counts: FlipCounts | None = None
    status: Status = Status.OK
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """What the singular values s1 >= ... >= sn >= 0 of one matrix say.

    ``outlier_share`` needs the weights too and ``frobenius_norm`` is taken from them.
    """

    stable_rank: float
    effective_rank: float
    spectral_norm: float
    frobenius_norm: float
    nuclear_norm: float
    numerical_rank: int | None
    participation_ratio: float
    outlier_share: float
    method: str
    stable_rank_error: float
    effective_rank_error: float
    singular_values: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StableRank:
    """What the largest singular value and the weights say, where no more was asked for.

    Fields are those of `Spectrum`; the columns of its others are null.
    """

    stable_rank: float
    spectral_norm: float
    frobenius_norm: float
    outlier_share: float
    method: str
    stable_rank_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Undefined:
    """A definition has no value here; ``reason`` says why, for a row with status undefined."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRecord:
    """One row of ``ranks.parquet``; ``rows`` and ``cols`` are those of the matrix."""

    layer: str
    matrix: int
    subject: str
    step: int
    rows: int
    cols: int
    step_from: int | None = None
    rounding_floor: float | None = None
    spectrum: Spectrum | StableRank | None = None
    status: Status = Status.OK
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedLayer:
    """One row of ``skipped.parquet``: nothing is dropped without one."""

    layer: str
    shape: tuple[int, ...]
    dtype: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecord:
    """One row of the layer listing: a layer over the whole run."""

    layer: str
    dtype: str
    shape: tuple[int, ...]
    num_weights: int
    num_checkpoints: int
    step_first: int
    step_last: int
    scheme: str
    recognised_by: str | None = None


class TrendState(StrEnum):
    """Where a smoothed series stands at one step."""

    WARMUP = "warmup"
    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    INSUFFICIENT = "insufficient"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendPoint:
    """One row of ``trends.parquet``: one metric of one matrix at one step."""

    layer: str
    matrix: int
    metric: str
    step: int
    value: float | None
    ema: float | None
    baseline: float | None
    drop_fraction: float | None
    threshold: float
    state: TrendState


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One row of ``alerts.parquet``: a rule, how severe, and its evidence."""

    fingerprint: str
    rule: str
    severity: Severity
    layer: str
    matrix: int
    metric: str
    step_onset: int
    step_detected: int
    value: float | None
    baseline: float | None
    drop_fraction: float | None
    message: str


class Verdict(StrEnum):
    """What a layer does, in one word; the first that holds, in this order."""

    NONFINITE = "nonfinite"  #: NaN or Inf in its weights.
    DEAD = "dead"  #: All weights zero.
    FROZEN = "frozen"  #: Bit-identical through the whole run, or stopped on its own.
    BIT_STALLED = "bit-stalled"  #: Its weights move, its codes do not.
    OUTLIER_DOMINATED = "outlier-dominated"  #: One weight became its spectral norm.
    COLLAPSING = "collapsing"  #: Losing rank.
    OSCILLATING = "oscillating"  #: Hopping over code boundaries and back.
    RESCALING = "rescaling"  #: Its scales jump, or no longer fit: weights are clipped.
    STALLING = "stalling"  #: Its codes have nearly stopped while the loss has not.
    HEALTHY = "healthy"  #: None of these, with enough checkpoints to say so.
    UNDECIDED = "undecided"  #: Too little was seen.


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRecord:
    """One row of ``verdicts.parquet``."""

    layer: str
    verdict: Verdict
    severity: Severity
    step_onset: int | None
    evidence: str
