"""The options that functions of the API share, and how they become settings."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict, cast, get_args

from altgrad_inspect.display import display_name
from altgrad_inspect.engine.events import Listener
from altgrad_inspect.errors import ConfigError
from altgrad_inspect.quantize.quantizer import MasterCast, Quantizer
from altgrad_inspect.quantize.recipes import RECIPES
from altgrad_inspect.quantize.spec import parse_quantizer
from altgrad_inspect.settings import (
    DEFAULT_QUANTIZER,
    Adapters,
    FlipSettings,
    MasterCastName,
    Order,
    RankMethod,
    RankMetrics,
    RankSettings,
    SelectionSettings,
    TrendSettings,
)


class LayerOptions(TypedDict, total=False):
    """Which layers to look at; shared by every function.

    Attributes:
        layers: Patterns of layers to look at: a substring, a glob, or ``re:...``.
        exclude: Patterns of layers to leave out; they win.
        adapters: ``stored``, or ``merged`` for the updates that adapters make.
    """

    layers: Sequence[str]
    exclude: Sequence[str]
    adapters: str


class SelectionOptions(LayerOptions, total=False):
    """What part of a run to look at.

    Attributes:
        steps: ``FIRST:LAST:STRIDE``, each optional.
        last: Only the last N checkpoints.
        order: ``step``; ``name`` or ``given``, which number the checkpoints from 0.
    """

    steps: str | None
    last: int | None
    order: str


class WorkOptions(TypedDict, total=False):
    """Where to compute, and who watches.

    Attributes:
        device: ``auto`` (the GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        jobs: Worker threads; one a core if None.
        on_event: Called in this thread with every event of `altgrad_inspect.engine.events`.
    """

    device: str
    jobs: int | None
    on_event: Listener


class MeasureOptions(SelectionOptions, WorkOptions, total=False):
    """The options of everything that measures a run."""


class RankOptions(MeasureOptions, total=False):
    """How ranks are computed, for `rank` and `report`.

    Attributes:
        method: ``exact``, ``estimate`` or ``auto``: see `altgrad_inspect.settings.RankSettings`.
        metrics: ``both`` or ``stable``, the stable rank alone.
        tolerance: Ranks that provably moved by less than this, relative, are carried on.
    """

    method: str
    metrics: str
    tolerance: float


class PairOptions(LayerOptions, WorkOptions, total=False):
    """The options of everything that measures two checkpoints."""


class TrendOptions(TypedDict, total=False):
    """How series are smoothed and when they raise an alert.

    Attributes:
        alpha: EMA weight of the newest value, in (0, 1].
        half_life: In training steps; replaces ``alpha`` and follows uneven spacing.
        warmup: Checkpoints before alerts are possible.
        threshold: Drop of the EMA below its baseline that raises ``rank-drop``, in (0, 1).
        critical: Patterns of layers that get half of the threshold.
        trained_layers: Patterns of layers that should learn: one that never moves is a warning.
        trend_settings: All settings of trends and rules; the options above win over it.
    """

    alpha: float
    half_life: float | None
    warmup: int
    threshold: float
    critical: Sequence[str]
    trained_layers: Sequence[str]
    trend_settings: TrendSettings


class MeasureAndTrendOptions(MeasureOptions, TrendOptions, total=False):
    """The options of `trend` and `report`."""


class ReportOptions(RankOptions, TrendOptions, total=False):
    """The options of `report`."""


def read_selection(options: SelectionOptions) -> SelectionSettings:
    """Return what part of a run the options ask for.

    Raises:
        ConfigError: A value is out of range or not known.
    """
    order = _check_choice("order", options.get("order", "step"), get_args(Order))
    return SelectionSettings(
        layers=tuple(options.get("layers", ())),
        exclude=tuple(options.get("exclude", ())),
        steps=options.get("steps"),
        last=options.get("last"),
        order=cast("Order", order),
        adapters=cast(
            "Adapters",
            _check_choice("adapters", options.get("adapters", "stored"), get_args(Adapters)),
        ),
    )


def read_rank_settings(
    options: RankOptions, *, spectra: bool = False, updates: bool = False
) -> RankSettings:
    """Return how the options ask ranks to be computed.

    Raises:
        ConfigError: A value is out of range, or two do not go together.
    """
    method, metrics = options.get("method", "exact"), options.get("metrics", "both")
    return RankSettings(
        spectra=spectra,
        updates=updates,
        method=cast("RankMethod", _check_choice("method", method, get_args(RankMethod))),
        metrics=cast("RankMetrics", _check_choice("metrics", metrics, get_args(RankMetrics))),
        tolerance=options.get("tolerance", 0.0),
    )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        expected = f"{', '.join(choices[:-1])} or {choices[-1]}"
        msg = f"{name}: {display_name(value)} is not known, expected {expected} (correct it)"
        raise ConfigError(msg)
    return value


def read_trend_settings(options: TrendOptions) -> TrendSettings:
    """Return how the options ask series to be smoothed."""
    base = options.get("trend_settings", TrendSettings())
    return replace(
        base,
        alpha=options.get("alpha", base.alpha),
        half_life_steps=options.get("half_life", base.half_life_steps),
        warmup_checkpoints=options.get("warmup", base.warmup_checkpoints),
        rank_drop_threshold=options.get("threshold", base.rank_drop_threshold),
        critical_layers=tuple(options.get("critical", base.critical_layers)),
        trained_layers=tuple(options.get("trained_layers", base.trained_layers)),
    )


def read_quantizers(specs: Sequence[str], master_cast: str = "none") -> tuple[Quantizer, ...]:
    """Parse the specifications; the same quantizer given twice counts once.

    Args:
        specs: Specifications, names of recipes, or ``auto``.
        master_cast: What weights are cast to first: ``none`` or ``bf16``, for all
            specifications that do not say so themselves.

    Raises:
        ConfigError: There is no such cast.
        FormatError: A specification is not understood.
    """
    casts = get_args(MasterCastName)
    chosen = cast("MasterCastName", _check_choice("master-cast", master_cast, casts))
    settings = FlipSettings(quantizers=tuple(specs), master_cast=chosen)
    read = (_read_quantizer(spec, settings.master_cast) for spec in settings.quantizers)
    return tuple({str(quantizer): quantizer for quantizer in read}.values())


def _read_quantizer(spec: str, master_cast: str) -> Quantizer:
    quantizer = parse_quantizer(DEFAULT_QUANTIZER if spec == "auto" else spec)
    if "@" in spec:
        return quantizer
    return replace(quantizer, master_cast=MasterCast(master_cast))


def note_approximations(quantizers: Sequence[Quantizer]) -> tuple[str, ...]:
    """Say of each recipe that is approximate that it is."""
    names = [one.name for one in quantizers if one.name and RECIPES[one.name].is_approximate]
    return tuple(
        f"{name} is approximate: what the stack does cannot be told from checkpoints alone (see "
        f"`altgrad-inspect formats {name}`)"
        for name in names
    )


def find_auto(
    specs: Sequence[str], quantizers: Sequence[Quantizer], master_cast: str = "none"
) -> Quantizer | None:
    """Return the quantizer that ``auto`` among ``specs`` became; None if it was not asked for."""
    default = _read_quantizer("auto", master_cast)
    return default if "auto" in specs and default in quantizers else None
