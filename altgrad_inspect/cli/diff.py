"""``altgrad-inspect diff``: what changed from one checkpoint to another."""

from pathlib import Path
from typing import Annotated

import typer

from altgrad_inspect.cli import options
from altgrad_inspect.cli.output import check_out, deliver, find_status, show_results
from altgrad_inspect.cli.progress import show_progress
from altgrad_inspect.cli.talk import ColorMode, OutputFormat, find_talk

OptionalOut = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Also write the tables here.", show_default=False),
]


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A checkpoint: a directory or a file.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one, of any run and layout.")],
    *,
    layers: options.Layers = None,
    exclude: options.Exclude = None,
    adapters: options.Adapters = "stored",
    quant: options.Quant = None,
    master_cast: options.MasterCast = "none",
    device: options.Device = "auto",
    jobs: options.Jobs = None,
    out: OptionalOut = None,
    output_format: options.Format = OutputFormat.TABLE,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    color: options.Color = ColorMode.AUTO,
) -> int:
    """Compare two checkpoints, any two.

    Layers that were added, removed, reshaped or saved in another dtype; then the changed
    ones, largest relative update first, with their flips and ranks.
    """
    del output_format, quiet, verbose, color  # the callbacks of the options took them
    if out is not None:
        check_out(out)
    talk = find_talk()
    with show_progress(talk) as listen:
        from altgrad_inspect import api

        results = api.diff(
            a,
            b,
            quant=quant or options.DEFAULT_QUANT,
            master_cast=master_cast,
            layers=layers or (),
            exclude=exclude or (),
            adapters=adapters,
            device=device,
            jobs=jobs,
            on_event=listen,
        )
    if out is not None:
        return deliver(results, out, talk)
    show_results(results, talk)
    return find_status(results)
