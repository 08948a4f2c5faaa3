"""One run: its flips, ranks and trends, and what is there before anything is computed."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Unpack

import pyarrow as pa

from altgrad_inspect.api.diagnosis import add_diagnosis
from altgrad_inspect.api.options import (
    MeasureAndTrendOptions,
    MeasureOptions,
    RankOptions,
    ReportOptions,
    SelectionOptions,
    find_auto,
    note_approximations,
    read_quantizers,
    read_rank_settings,
    read_selection,
    read_trend_settings,
)
from altgrad_inspect.engine.events import Noted, ignore
from altgrad_inspect.engine.layer import LayerRows, LayerTasks
from altgrad_inspect.engine.local import resolve_device, run_units
from altgrad_inspect.engine.open_run import OpenRun, open_run
from altgrad_inspect.engine.plan import Plan, build_plan, describe_layer
from altgrad_inspect.engine.update_rows import UPDATE, UPDATE_TOTAL
from altgrad_inspect.errors import NothingMatchedError
from altgrad_inspect.refs import RunTarget
from altgrad_inspect.settings import EngineSettings
from altgrad_inspect.tables.convert import build_table
from altgrad_inspect.tables.results import Results
from altgrad_inspect.tables.schema import (
    CHECKPOINTS,
    FLIPS,
    LAYERS,
    RANKS,
    SKIPPED,
)


def flips(
    run: RunTarget = ".",
    *,
    quant: Sequence[str] = ("auto",),
    master_cast: str = "none",
    **options: Unpack[MeasureOptions],
) -> Results:
    """Flips of quantized weights between consecutive checkpoints.

    Args:
        run: A directory, a checkpoint file, a glob, or a list of them.
        quant: Quantizers, ``ELEMENT[:GRANULARITY[:SCALE]]``, names of recipes or ``auto``.
        master_cast: What weights are cast to before they are quantized, ``none`` or ``bf16``.
        options: See `MeasureOptions`.

    Returns:
        Results with the tables flips, skipped and checkpoints.

    Raises:
        NothingMatchedError: There is only one checkpoint.
    """
    quantizers = read_quantizers(quant, master_cast)
    tasks = LayerTasks(quantizers=quantizers, auto=find_auto(quant, quantizers, master_cast))
    return measure_run("flips", run, tasks, options)


def rank(
    run: RunTarget = ".",
    *,
    spectra: bool = False,
    updates: bool = False,
    **options: Unpack[RankOptions],
) -> Results:
    """Stable and effective rank of every matrix at every checkpoint.

    Args:
        run: As for `flips`.
        spectra: Keep the singular values in the table.
        updates: Also the ranks of what training did: of each checkpoint minus the one before
            (subject ``update``) and minus the first (``update_total``). Every byte is still
            read once; three checkpoints of a layer are held instead of two. Updates are
            measured exactly, whatever the method.
        options: See `RankOptions`.

    Returns:
        Results with the tables ranks, skipped and checkpoints.
    """
    settings = read_rank_settings(options, spectra=spectra, updates=updates)
    tasks = LayerTasks(
        ranks=True,
        rank_settings=settings,
        updates=(UPDATE, UPDATE_TOTAL) if settings.updates else (),
    )
    return measure_run("ranks", run, tasks, options)


def trend(
    run: RunTarget = ".",
    *,
    quant: Sequence[str] = ("auto",),
    master_cast: str = "none",
    **options: Unpack[MeasureAndTrendOptions],
) -> Results:
    """EMA trends of ranks and flips over the run, and the alerts they raise.

    Args:
        run: A run, or a directory with the tables of one: then nothing is computed again.
        quant: As for `flips`.
        master_cast: As for `flips`.
        options: See `TrendOptions` and `MeasureOptions`.

    Returns:
        Results with the tables trends and alerts, and those they were made from.
    """
    settings = read_trend_settings(options)
    if isinstance(run, str | Path) and (Path(run) / RANKS.file_name).is_file():
        return add_diagnosis("trends", Results.read(run), settings)
    quantizers = read_quantizers(quant, master_cast)
    tasks = LayerTasks(
        quantizers=quantizers, auto=find_auto(quant, quantizers, master_cast), ranks=True
    )
    return add_diagnosis("trends", measure_run("trends", run, tasks, options), settings)


def report(
    run: RunTarget = ".",
    *,
    quant: Sequence[str] = ("auto",),
    master_cast: str = "none",
    spectra: bool = False,
    **options: Unpack[ReportOptions],
) -> Results:
    """Flips, ranks, trends and alerts in one pass over the weights.

    Args:
        run: As for `flips`.
        quant: As for `flips`.
        master_cast: As for `flips`.
        spectra: As for `rank`.
        options: See `TrendOptions` and `RankOptions`.

    Returns:
        Results with all tables.
    """
    settings = read_trend_settings(options)
    quantizers = read_quantizers(quant, master_cast)
    tasks = LayerTasks(
        quantizers=quantizers,
        auto=find_auto(quant, quantizers, master_cast),
        ranks=True,
        rank_settings=read_rank_settings(options, spectra=spectra),
    )
    return add_diagnosis("report", measure_run("report", run, tasks, options), settings)


def ls(run: RunTarget = ".", **options: Unpack[SelectionOptions]) -> Results:
    """The run as found: checkpoints in order, and the layers that the patterns match.

    Args:
        run: As for `flips`.
        options: See `SelectionOptions`.

    Returns:
        Results with the tables checkpoints and layers; nothing but headers is read.
    """
    selection = read_selection(options)
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
    opened = open_run(run, read_selection(options))
    return build_plan(
        opened.units,
        num_checkpoints=len(opened.checkpoints),
        num_quantizers=len(read_quantizers(quant)),
        num_workers=EngineSettings(jobs=jobs).num_workers,
    )


def measure_run(
    subject: str, run: RunTarget, tasks: LayerTasks, options: MeasureOptions
) -> Results:
    """Open the run, work its layers off and build the tables of ``subject``."""
    selection = read_selection(options)
    engine = EngineSettings(device=options.get("device", "auto"), jobs=options.get("jobs"))
    on_event = options.get("on_event", ignore)
    opened = open_run(run, selection)
    notes = (*opened.notes, *note_approximations(tasks.quantizers))
    for note in notes:
        on_event(Noted(text=note))
    if subject == "flips":
        require_transition(opened)
    device = resolve_device(engine.device)
    rows = run_units(
        opened.units,
        tasks,
        device=device,
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
            "spectra": tasks.rank_settings.spectra,
            "method": tasks.rank_settings.method,
            "metrics": tasks.rank_settings.metrics,
            "tolerance": tasks.rank_settings.tolerance,
            "updates": list(tasks.updates),
        },
        notes=notes,
        device=str(device),
    )


def require_transition(opened: OpenRun) -> None:
    """Refuse a run in which nothing can be compared.

    Raises:
        NothingMatchedError: It has one checkpoint only.
    """
    if len(opened.checkpoints) < 2:
        msg = (
            f"{opened.ref.path}: one checkpoint (step {opened.checkpoints[0].ref.step}), "
            "flips need at least two to compare (name the directory that holds the run)"
        )
        raise NothingMatchedError(msg)


def _tables(opened: OpenRun, rows: LayerRows, tasks: LayerTasks) -> dict[str, pa.Table]:
    tables = {
        CHECKPOINTS.name: build_table(CHECKPOINTS, opened.records),
        SKIPPED.name: build_table(SKIPPED, (*opened.left_out, *rows.skipped)),
    }
    if tasks.quantizers:
        tables[FLIPS.name] = build_table(FLIPS, rows.flips)
    if tasks.ranks:
        tables[RANKS.name] = build_table(RANKS, rows.ranks)
    return tables
