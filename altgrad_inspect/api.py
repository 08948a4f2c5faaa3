"""The Python API: everything the command line can do, without printing.

    import altgrad_inspect as ai

    ai.flips("run/").to_pandas()
    ai.rank("run/", layers=["lm_head"]).to_arrow()
    ai.report("run/", quant=["e4m3", "int8:channel"]).write("altgrad-report")

A run is a directory, a checkpoint file, a glob, or a list of them. Every function raises
`altgrad_inspect.errors.InspectError`, whose ``exit_code`` says of which kind it is.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict, Unpack

import pyarrow as pa

from altgrad_inspect.engine.events import Listener, Noted, ignore
from altgrad_inspect.engine.layer import LayerRows, LayerTasks
from altgrad_inspect.engine.local import resolve_device, run_units
from altgrad_inspect.engine.open_run import OpenRun, RunTarget, open_run
from altgrad_inspect.engine.plan import Plan, build_plan, describe_layer
from altgrad_inspect.errors import NothingMatchedError
from altgrad_inspect.quantize.spec import Quantizer, parse_quantizer
from altgrad_inspect.settings import (
    DEFAULT_CRITICAL_LAYERS,
    DEFAULT_QUANTIZER,
    EngineSettings,
    FlipSettings,
    RankSettings,
    SelectionSettings,
    TrendSettings,
)
from altgrad_inspect.tables.convert import build_table
from altgrad_inspect.tables.results import Results
from altgrad_inspect.tables.schema import (
    ALERTS,
    CHECKPOINTS,
    FLIPS,
    LAYERS,
    RANKS,
    SKIPPED,
    TRENDS,
    VERDICTS,
)
from altgrad_inspect.trends.detect import diagnose


class SelectionOptions(TypedDict, total=False):
    """What part of a run to look at; shared by every function.

    Attributes:
        layers: Patterns of layers to look at: a substring, a glob, or ``re:...``.
        exclude: Patterns of layers to leave out; they win.
        steps: ``FIRST:LAST:STRIDE``, each optional.
        last: Only the last N checkpoints.
    """

    layers: Sequence[str]
    exclude: Sequence[str]
    steps: str | None
    last: int | None


class MeasureOptions(SelectionOptions, total=False):
    """Where to compute, and who watches.

    Attributes:
        device: ``auto`` (the GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        jobs: Worker threads; one a core if None.
        on_event: Called in this thread with every event of `altgrad_inspect.engine.events`.
    """

    device: str
    jobs: int | None
    on_event: Listener


class TrendOptions(TypedDict, total=False):
    """How series are smoothed and when they raise an alert.

    Attributes:
        alpha: EMA weight of the newest value, in (0, 1].
        half_life: In training steps; replaces ``alpha`` and follows uneven spacing.
        warmup: Checkpoints before alerts are possible.
        threshold: Drop of the EMA below its baseline that raises ``rank-drop``, in (0, 1).
        critical: Patterns of layers that get half of the threshold.
    """

    alpha: float
    half_life: float | None
    warmup: int
    threshold: float
    critical: Sequence[str]


class MeasureAndTrendOptions(MeasureOptions, TrendOptions, total=False):
    """The options of `trend` and `report`."""


def flips(
    run: RunTarget = ".", *, quant: Sequence[str] = ("auto",), **options: Unpack[MeasureOptions]
) -> Results:
    """Flips of quantized weights between consecutive checkpoints.

    Args:
        run: A directory, a checkpoint file, a glob, or a list of them.
        quant: Quantizers, ``ELEMENT[:GRANULARITY[:SCALE]]`` or ``auto``.
        options: See `MeasureOptions`.

    Returns:
        Results with the tables flips, skipped and checkpoints.

    Raises:
        NothingMatchedError: There is only one checkpoint.
    """
    quantizers = _quantizers(quant)
    return _measure("flips", run, LayerTasks(quantizers=quantizers), options)


def rank(
    run: RunTarget = ".", *, spectra: bool = False, **options: Unpack[MeasureOptions]
) -> Results:
    """Stable and effective rank of every matrix at every checkpoint.

    Args:
        run: As for `flips`.
        spectra: Keep the singular values in the table.
        options: See `MeasureOptions`.

    Returns:
        Results with the tables ranks, skipped and checkpoints.
    """
    settings = RankSettings(spectra=spectra)
    return _measure("ranks", run, LayerTasks(ranks=True, spectra=settings.spectra), options)


def trend(
    run: RunTarget = ".",
    *,
    quant: Sequence[str] = ("auto",),
    **options: Unpack[MeasureAndTrendOptions],
) -> Results:
    """EMA trends of ranks and flips over the run, and the alerts they raise.

    Args:
        run: A run, or a directory with the tables of one: then nothing is computed again.
        quant: As for `flips`.
        options: See `TrendOptions` and `MeasureOptions`.

    Returns:
        Results with the tables trends and alerts, and those they were made from.
    """
    settings = _trend_settings(options)
    if isinstance(run, str | Path) and (Path(run) / RANKS.file_name).is_file():
        return _with_trends("trends", Results.read(run), settings)
    tasks = LayerTasks(quantizers=_quantizers(quant), ranks=True)
    return _with_trends("trends", _measure("trends", run, tasks, options), settings)


def report(
    run: RunTarget = ".",
    *,
    quant: Sequence[str] = ("auto",),
    spectra: bool = False,
    **options: Unpack[MeasureAndTrendOptions],
) -> Results:
    """Flips, ranks, trends and alerts in one pass over the weights.

    Args:
        run: As for `flips`.
        quant: As for `flips`.
        spectra: As for `rank`.
        options: See `TrendOptions` and `MeasureOptions`.

    Returns:
        Results with all tables.
    """
    settings = _trend_settings(options)
    tasks = LayerTasks(quantizers=_quantizers(quant), ranks=True, spectra=spectra)
    return _with_trends("report", _measure("report", run, tasks, options), settings)


def ls(run: RunTarget = ".", **options: Unpack[SelectionOptions]) -> Results:
    """The run as found: checkpoints in order, and the layers that the patterns match.

    Args:
        run: As for `flips`.
        options: See `SelectionOptions`.

    Returns:
        Results with the tables checkpoints and layers; nothing but headers is read.
    """
    selection = _selection(options)
    opened = open_run(run, selection)
    tables = {
        CHECKPOINTS.name: build_table(CHECKPOINTS, opened.records),
        LAYERS.name: build_table(LAYERS, map(describe_layer, opened.units)),
    }
    return Results(
        subject="checkpoints",
        run=opened.ref.path,
        tables=tables,
        settings={"selection": asdict(selection)},
        notes=opened.notes,
    )


def plan(
    run: RunTarget = ".",
    *,
    quant: Sequence[str] = ("auto",),
    jobs: int | None = None,
    **options: Unpack[SelectionOptions],
) -> Plan:
    """What the other functions would read, hold and take, from headers alone.

    Args:
        run: As for `flips`.
        quant: As for `flips`.
        jobs: Worker threads; one a core if None.
        options: See `SelectionOptions`.
    """
    opened = open_run(run, _selection(options))
    return build_plan(
        opened.units,
        num_checkpoints=len(opened.checkpoints),
        num_quantizers=len(_quantizers(quant)),
        num_workers=EngineSettings(jobs=jobs).num_workers,
    )


def _selection(options: SelectionOptions) -> SelectionSettings:
    return SelectionSettings(
        layers=tuple(options.get("layers", ())),
        exclude=tuple(options.get("exclude", ())),
        steps=options.get("steps"),
        last=options.get("last"),
    )


def _trend_settings(options: TrendOptions) -> TrendSettings:
    default = TrendSettings()
    return TrendSettings(
        alpha=options.get("alpha", default.alpha),
        half_life_steps=options.get("half_life"),
        warmup_checkpoints=options.get("warmup", default.warmup_checkpoints),
        rank_drop_threshold=options.get("threshold", default.rank_drop_threshold),
        critical_layers=tuple(options.get("critical", DEFAULT_CRITICAL_LAYERS)),
    )


def _quantizers(specs: Sequence[str]) -> tuple[Quantizer, ...]:
    """Parse the specifications; the same quantizer given twice counts once."""
    settings = FlipSettings(quantizers=tuple(specs))
    named = [DEFAULT_QUANTIZER if spec == "auto" else spec for spec in settings.quantizers]
    return tuple({str(q): q for q in map(parse_quantizer, named)}.values())


def _measure(subject: str, run: RunTarget, tasks: LayerTasks, options: MeasureOptions) -> Results:
    """Open the run, work its layers off and build the tables of ``subject``."""
    selection = _selection(options)
    engine = EngineSettings(device=options.get("device", "auto"), jobs=options.get("jobs"))
    on_event = options.get("on_event", ignore)
    opened = open_run(run, selection)
    for note in opened.notes:
        on_event(Noted(text=note))
    if subject == "flips":
        _require_transition(opened)
    rows = run_units(
        opened.units,
        tasks,
        device=resolve_device(engine.device),
        num_workers=engine.num_workers,
        num_checkpoints=len(opened.checkpoints),
        on_event=on_event,
    )
    return Results(
        subject=subject,
        run=opened.ref.path,
        tables=_tables(opened, rows, tasks),
        settings={
            "selection": asdict(selection),
            "quantizers": [str(quantizer) for quantizer in tasks.quantizers],
            "spectra": tasks.spectra,
        },
        notes=opened.notes,
    )


def _require_transition(opened: OpenRun) -> None:
    if len(opened.checkpoints) < 2:
        msg = (
            f"{opened.ref.path}: one checkpoint (step {opened.checkpoints[0].ref.step}), "
            "flips need at least two to compare (name the directory that holds the run)"
        )
        raise NothingMatchedError(msg)


def _tables(opened: OpenRun, rows: LayerRows, tasks: LayerTasks) -> dict[str, pa.Table]:
    tables = {
        CHECKPOINTS.name: build_table(CHECKPOINTS, opened.records),
        SKIPPED.name: build_table(SKIPPED, rows.skipped),
    }
    if tasks.quantizers:
        tables[FLIPS.name] = build_table(FLIPS, rows.flips)
    if tasks.ranks:
        tables[RANKS.name] = build_table(RANKS, rows.ranks)
    return tables


def _with_trends(subject: str, measured: Results, settings: TrendSettings) -> Results:
    diagnosis = diagnose(
        settings,
        ranks=measured.ranks,
        flips=measured.flips,
        checkpoints=measured.checkpoints,
    )
    return Results(
        subject=subject,
        run=measured.run,
        tables={
            **measured.tables,
            TRENDS.name: build_table(TRENDS, diagnosis.points),
            ALERTS.name: build_table(ALERTS, diagnosis.alerts),
            VERDICTS.name: build_table(VERDICTS, diagnosis.verdicts),
        },
        settings={**measured.settings, "trends": asdict(settings)},
        notes=measured.notes,
    )
