"""Two checkpoints, any two: what changed from A to B."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Unpack

from altgrad_inspect.api.options import (
    PairOptions,
    find_auto,
    note_approximations,
    read_quantizers,
    read_selection,
)
from altgrad_inspect.engine.diff_rows import build_diff
from altgrad_inspect.engine.events import Noted, ignore
from altgrad_inspect.engine.layer import LayerTasks
from altgrad_inspect.engine.local import resolve_device, run_units
from altgrad_inspect.engine.open_pair import open_pair
from altgrad_inspect.engine.update_rows import UPDATE
from altgrad_inspect.settings import EngineSettings
from altgrad_inspect.tables.comparisons import DIFF
from altgrad_inspect.tables.convert import build_table
from altgrad_inspect.tables.results import Results
from altgrad_inspect.tables.schema import CHECKPOINTS, FLIPS, RANKS, SKIPPED


def diff(
    a: str | Path,
    b: str | Path,
    *,
    quant: Sequence[str] = ("auto",),
    master_cast: str = "none",
    **options: Unpack[PairOptions],
) -> Results:
    """What changed from one checkpoint to another: any two, of any layouts and any runs.

    Args:
        a: A checkpoint: a directory or a file. Updates are B - A and scales are those of A.
        b: The other one. It need not be later: where its step is not (or one of them has
            none), tables call A step 0 and B step 1, and a note says so.
        quant: Quantizers, ``ELEMENT[:GRANULARITY[:SCALE]]``, names of recipes or ``auto``.
        master_cast: What weights are cast to before they are quantized, ``none`` or ``bf16``.
        options: See `PairOptions`.

    Returns:
        Results with the tables diff (differences of structure first, then layers by their
        relative update), flips, ranks (subjects weight and update), skipped and checkpoints.

    Raises:
        CheckpointError: One is missing, damaged, or a run of several checkpoints.
        NothingMatchedError: There is no checkpoint, or no layer matches.
    """
    quantizers = read_quantizers(quant, master_cast)
    engine = EngineSettings(device=options.get("device", "auto"), jobs=options.get("jobs"))
    selection = read_selection(
        {
            "layers": options.get("layers", ()),
            "exclude": options.get("exclude", ()),
            "adapters": options.get("adapters", "stored"),
        }
    )
    on_event = options.get("on_event", ignore)
    opened = open_pair(a, b, selection)
    notes = (*opened.notes, *note_approximations(quantizers))
    for note in notes:
        on_event(Noted(text=note))
    rows = run_units(
        opened.units,
        LayerTasks(
            quantizers=quantizers,
            auto=find_auto(quant, quantizers, master_cast),
            ranks=True,
            updates=(UPDATE,),
            bits=True,
        ),
        device=resolve_device(engine.device),
        num_workers=engine.num_workers,
        num_checkpoints=2,
        on_event=on_event,
    )
    found = build_diff(opened.units, rows)
    table = build_table(DIFF, found)
    order = sorted(range(len(found)), key=lambda i: (found[i].layer, found[i].quantizer or ""))
    places = sorted(range(len(found)), key=order.__getitem__)
    return Results(
        subject=DIFF.name,
        run=f"{opened.paths[0]} → {opened.paths[1]}",
        tables={
            DIFF.name: table.take(places),
            FLIPS.name: build_table(FLIPS, rows.flips),
            RANKS.name: build_table(RANKS, rows.ranks),
            SKIPPED.name: build_table(SKIPPED, rows.skipped),
            CHECKPOINTS.name: build_table(CHECKPOINTS, opened.records),
        },
        settings={
            "selection": asdict(selection),
            "quantizers": [str(quantizer) for quantizer in quantizers],
            "a": {"path": opened.paths[0], "step": opened.steps[0]},
            "b": {"path": opened.paths[1], "step": opened.steps[1]},
        },
        notes=notes,
    )
