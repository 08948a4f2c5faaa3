"""The same run in many formats at once: which of them would stall it?"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Unpack

from altgrad_inspect.api.options import (
    MeasureOptions,
    note_approximations,
    read_quantizers,
    read_selection,
)
from altgrad_inspect.api.run import require_transition
from altgrad_inspect.engine.events import Noted, ignore
from altgrad_inspect.engine.layer import LayerTasks
from altgrad_inspect.engine.local import resolve_device, run_units
from altgrad_inspect.engine.open_run import open_run
from altgrad_inspect.engine.sweep_rows import build_sweep
from altgrad_inspect.quantize.same_grids import group_same_grids
from altgrad_inspect.refs import RunTarget
from altgrad_inspect.settings import DEFAULT_SWEEP, EngineSettings
from altgrad_inspect.tables.comparisons import SWEEP, SWEEP_LAYERS
from altgrad_inspect.tables.convert import build_table
from altgrad_inspect.tables.results import Results
from altgrad_inspect.tables.schema import CHECKPOINTS, SKIPPED


def sweep(
    run: RunTarget = ".",
    *,
    quant: Sequence[str] = DEFAULT_SWEEP,
    master_cast: str = "none",
    **options: Unpack[MeasureOptions],
) -> Results:
    """What the flips of a run would be in many formats, in one pass over the weights.

    Quantizers that are the same grid under the same scales (E0M7, E1M6 and int8 under
    ``amax``) are one row that names them all. Memory beside the two checkpoints of a layer:
    2 bytes a weight, 4 for formats of more than 8 bits, however many quantizers there are.

    Args:
        run: A directory, a checkpoint file, a glob, or a list of them.
        quant: Quantizers, ``ELEMENT[:GRANULARITY[:SCALE]]`` or names of recipes; ``auto`` is all
            the default ones.
        master_cast: As for `flips`.
        options: See `MeasureOptions`.

    Returns:
        Results with the tables sweep (one row a quantizer), sweep_layers, skipped and
        checkpoints.

    Raises:
        NothingMatchedError: There is only one checkpoint.
    """
    named = [one for spec in quant for one in (DEFAULT_SWEEP if spec == "auto" else (spec,))]
    groups = group_same_grids(read_quantizers(named, master_cast))
    selection = read_selection(options)
    engine = EngineSettings(device=options.get("device", "auto"), jobs=options.get("jobs"))
    on_event = options.get("on_event", ignore)
    opened = open_run(run, selection)
    every = [quantizer for group in groups for quantizer in group]
    notes = (*opened.notes, *note_approximations(every))
    for note in notes:
        on_event(Noted(text=note))
    require_transition(opened)
    rows = run_units(
        opened.units,
        LayerTasks(sweep=tuple(group[0] for group in groups)),
        device=resolve_device(engine.device),
        num_workers=engine.num_workers,
        num_checkpoints=len(opened.checkpoints),
        on_event=on_event,
    )
    return Results(
        subject=SWEEP.name,
        run=opened.ref.path,
        tables={
            SWEEP.name: build_table(SWEEP, build_sweep(rows.sweep, groups)),
            SWEEP_LAYERS.name: build_table(SWEEP_LAYERS, rows.sweep),
            SKIPPED.name: build_table(SKIPPED, rows.skipped),
            CHECKPOINTS.name: build_table(CHECKPOINTS, opened.records),
        },
        settings={
            "selection": asdict(selection),
            "quantizers": [str(quantizer) for quantizer in every],
        },
        notes=notes,
    )
