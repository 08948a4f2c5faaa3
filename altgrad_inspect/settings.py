"""Every setting, its default and its range, in one place.

A setting is a field of one of the frozen classes below. Ranges are checked when an
object is made, so a wrong value is a ConfigError at the door and not a wrong row later.
"""

import os
from dataclasses import dataclass
from typing import Final, Literal

from altgrad_inspect.errors import ConfigError

DEFAULT_CRITICAL_LAYERS: Final = ("lm_head", "c_proj", "o_proj", "down_proj", "output.dense")
"""Layers that lose rank first when a run goes wrong; they get half of the threshold."""

DEFAULT_QUANTIZER: Final = "e4m3:tensor:amax"
"""What ``--quant auto`` means for checkpoints that are not quantized."""

DEFAULT_SWEEP: Final = (
    *("e0m7", "e1m6", "e2m5", "e3m4", "e4m3", "e5m2", "e6m1", "e7m0", "int8"),
    *("e2m3", "e3m2", "e2m1", "int4"),
)
"""What ``sweep`` tries: every 8-bit split of exponent and mantissa, and what else is in use."""


_FLIP_SHARES: Final = (
    "flips_fading_level",
    "loss_flat_fraction",
    "stall_flip_fraction",
    "stall_peer_share",
    "stall_update_fraction",
    "oscillation_reverted",
    "saturation_fraction",
)
"""Settings of the flip rules that are shares of something, between 0 and 1."""


def _require(condition: bool, setting: str, value: object, expected: str) -> None:  # noqa: FBT001
    if not condition:
        msg = f"{setting}: {value!r} is out of range, expected {expected}"
        raise ConfigError(msg)


Order = Literal["step", "name", "given"]
Adapters = Literal["stored", "merged"]
MERGED: Final[Adapters] = "merged"
"""Each pair of matrices of an adapter is one layer: the update that it makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionSettings:
    """Which checkpoints and layers are looked at, and in which order.

    Attributes:
        layers: Patterns of the layers to look at; all layers if empty. A pattern is a
            substring, a glob if it has any of ``*?[``, or a regular expression after ``re:``.
        exclude: Patterns of layers to leave out; they win over ``layers``.
        steps: ``FIRST:LAST:STRIDE``, each part optional, both ends included; the stride
            counts checkpoints from the first one kept.
        last: Only the last N checkpoints, at least 1; all if None.
        order: What puts the checkpoints in order: ``step``, from a checkpoint's own files or
            else its name; ``name``; or ``given``, as they were named one by one. The latter two
            number them from 0, and those numbers are their steps.
        adapters: ``stored`` looks at the matrices of an adapter as they are; ``merged`` at the
            update that each pair of them makes to the base model.
    """

    layers: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    steps: str | None = None
    last: int | None = None
    order: Order = "step"
    adapters: Adapters = "stored"

    def __post_init__(self) -> None:
        _require(self.last is None or self.last >= 1, "last", self.last, "at least 1")


MasterCastName = Literal["none", "bf16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipSettings:
    """How weights are quantized for counting flips.

    Attributes:
        quantizers: Specifications ``ELEMENT[:GRANULARITY[:SCALE]]``, names of recipes, or ``auto``.
        master_cast: What weights are cast to before they are quantized: ``none``, or ``bf16`` where
            the trainer hands them to the quantizer in that. About 2 % of float32 weights then get
            another E4M3 code (1.9 to 3.4 %, as the scale falls).
    """

    quantizers: tuple[str, ...] = ("auto",)
    master_cast: MasterCastName = "none"

    def __post_init__(self) -> None:
        _require(bool(self.quantizers), "quant", self.quantizers, "at least one quantizer")


RankMethod = Literal["exact", "estimate", "auto"]
RankMetrics = Literal["both", "stable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSettings:
    """How ranks are computed.

    Attributes:
        spectra: Keep the singular values in the table.
        updates: Also the spectra of the updates: each checkpoint minus the one before, and
            minus the first.
        method: ``exact``; ``estimate``, with error bars, for matrices large enough for that to
            be faster; or ``auto``, for those alone that are too large to wait for.
        metrics: ``both`` ranks; or ``stable``, the stable rank alone, which is many times faster
            for large matrices that are nearly square.
        tolerance: Take over the ranks of an earlier checkpoint where both provably moved by
            less than this, relative, in [0, 1); 0 measures everything.
    """

    spectra: bool = False
    updates: bool = False
    method: RankMethod = "exact"
    metrics: RankMetrics = "both"
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        _require(0 <= self.tolerance < 1, "tolerance", self.tolerance, "in [0, 1)")
        if self.spectra and (self.metrics, self.method) != ("both", "exact"):
            asked = f"metrics {self.metrics}" if self.metrics != "both" else f"method {self.method}"
            msg = (
                f"spectra: need all singular values, which {asked} does not find "
                "(leave one of the two out)"
            )
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendSettings:
    """How series are smoothed and when they raise an alert.

    Attributes:
        alpha: EMA weight of the newest value, in (0, 1].
        half_life_steps: If given, the EMA forgets half in that many training steps and
            follows uneven spacing; it then replaces ``alpha``. Above 0.
        warmup_checkpoints: Checkpoints before alerts are possible, at least 1.
        warmup_fraction: The warm-up also lasts this fraction of the steps seen, in [0, 1).
        rank_drop_threshold: Drop of the EMA below its baseline that raises ``rank-drop``,
            in (0, 1).
        critical_layers: Layer patterns that get half of the threshold.
        rank_wander_fraction: A smaller drop that began in mid-run and came to rest is no fault,
            in [0, 1).
        break_deviations: ``rank-break`` needs a fall of more than this many usual residuals,
            above 0.
        slide_significance: Level of the Mann-Kendall test of ``rank-slide``, over all layers,
            in (0, 1).
        early_delta: ``rank-early``: what ln(rank) may lie below its mean at no cost, at least 0.
        early_lambda: ``rank-early``: how much more than that may come together, above 0.
        outlier_share: ``outlier-dominated`` needs the share of one weight in the spectral norm
            to rise above this, in (0, 1).
        trained_layers: Patterns of layers that should learn: one that is frozen or zero
            through the whole run is then a warning.
        flips_fading_level: Flips per step below this share of their baseline have faded, in
            (0, 1).
        loss_flat_fraction: A loss that changes by less than this share over its last third
            has flattened, in (0, 1).
        stall_flip_fraction: ``bit-stalled`` needs a flip fraction below this, in (0, 1) ...
        stall_peer_share: ... and below this share of the median of the peers, in (0, 1) ...
        stall_update_fraction: ... while at least this share of the weights moves, in (0, 1).
        oscillation_excess: ``oscillation`` needs a flip excess above this, at least 1 ...
        oscillation_reverted: ... and more than this share of the flips reverted, in (0, 1).
        saturation_fraction: More clipped weights than this share are too many, in (0, 1).
        scale_jump_ratio: A scale that changes by more than this factor jumps, above 1.
    """

    alpha: float = 0.3
    half_life_steps: float | None = None
    warmup_checkpoints: int = 3
    warmup_fraction: float = 0.1
    rank_drop_threshold: float = 0.3
    critical_layers: tuple[str, ...] = DEFAULT_CRITICAL_LAYERS
    rank_wander_fraction: float = 0.25
    break_deviations: float = 4.0
    slide_significance: float = 0.01
    early_delta: float = 0.01
    early_lambda: float = 0.1
    outlier_share: float = 0.5
    trained_layers: tuple[str, ...] = ()
    flips_fading_level: float = 0.1
    loss_flat_fraction: float = 0.01
    stall_flip_fraction: float = 1e-3
    stall_peer_share: float = 0.05
    stall_update_fraction: float = 0.01
    oscillation_excess: float = 2.0
    oscillation_reverted: float = 0.5
    saturation_fraction: float = 0.01
    scale_jump_ratio: float = 4.0

    def __post_init__(self) -> None:
        _require(0 < self.alpha <= 1, "alpha", self.alpha, "above 0 and at most 1")
        half_life = self.half_life_steps
        _require(half_life is None or half_life > 0, "half_life", half_life, "above 0")
        _require(self.warmup_checkpoints >= 1, "warmup", self.warmup_checkpoints, "at least 1")
        _require(
            0 <= self.warmup_fraction < 1, "warmup_fraction", self.warmup_fraction, "in [0, 1)"
        )
        threshold = self.rank_drop_threshold
        _require(0 < threshold < 1, "threshold", threshold, "between 0 and 1")
        self._check_rank_rules()
        for name in _FLIP_SHARES:
            share = getattr(self, name)
            _require(0 < share < 1, name, share, "between 0 and 1")
        excess, ratio = self.oscillation_excess, self.scale_jump_ratio
        _require(excess >= 1, "oscillation_excess", excess, "at least 1")
        _require(ratio > 1, "scale_jump_ratio", ratio, "above 1")

    def _check_rank_rules(self) -> None:
        wander, delta = self.rank_wander_fraction, self.early_delta
        _require(0 <= wander < 1, "rank_wander_fraction", wander, "in [0, 1)")
        _require(delta >= 0, "early_delta", delta, "at least 0")
        for name in ("break_deviations", "early_lambda"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        for name in ("slide_significance", "outlier_share"):
            share = getattr(self, name)
            _require(0 < share < 1, name, share, "between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Where and how wide the work runs; never changes a number.

    Attributes:
        device: ``auto`` (the GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        jobs: Worker threads, at least 1; None means one a core.
    """

    device: str = "auto"
    jobs: int | None = None

    def __post_init__(self) -> None:
        _require(self.jobs is None or self.jobs >= 1, "jobs", self.jobs, "at least 1")
        known = self.device in {"auto", "cpu", "cuda"} or (
            self.device.startswith("cuda:") and self.device[5:].isdigit()
        )
        _require(known, "device", self.device, "auto, cpu, cuda or cuda:N")

    @property
    def num_workers(self) -> int:
        """Worker threads to use; the cores this process may run on if not set."""
        return self.jobs or len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSettings:
    """What the command line looks at if nothing is named, and how it answers.

    Attributes:
        run: The run: a directory, a checkpoint file, a glob, or several of them. In a file,
            relative to that file.
        out: Directory of the tables. In a file, relative to that file.
        format: What goes to stdout.
        color: When to use colours.
        quiet: Nothing on stderr but errors.
        verbose: 1 shows every row, 2 also tracebacks; at least 0.
    """

    run: tuple[str, ...] = (".",)
    out: str = "altgrad-report"
    format: Literal["table", "json", "jsonl", "csv", "md"] = "table"
    color: Literal["auto", "always", "never"] = "auto"
    quiet: bool = False
    verbose: int = 0

    def __post_init__(self) -> None:
        _require(all(self.run) and bool(self.run), "run", self.run, "at least one name, none empty")
        _require(bool(self.out), "out", self.out, "the name of a directory")
        _require(self.verbose >= 0, "verbose", self.verbose, "at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSettings:
    """What ``check`` calls a finding.

    Attributes:
        fail_on: The least severity of a finding.
        rule: Only these rules and verdicts; all if empty.
        ignore: Rules and verdicts to leave out; they win over ``rule``.
        exit_zero: Exit with 0 even if there are findings.
        no_out: Write no tables.
    """

    fail_on: Literal["info", "warning", "critical"] = "warning"
    rule: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    exit_zero: bool = False
    no_out: bool = False
