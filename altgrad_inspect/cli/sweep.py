"""``altgrad-inspect sweep``: which number format would stall this run?"""

from typing import Annotated

import typer

from altgrad_inspect.cli import options
from altgrad_inspect.cli.output import check_out, deliver
from altgrad_inspect.cli.progress import show_progress
from altgrad_inspect.cli.talk import ColorMode, OutputFormat, find_talk
from altgrad_inspect.cli.target import choose_target
from altgrad_inspect.settings import DEFAULT_SWEEP


def sweep(
    run: options.Run = None,
    *,
    layers: options.Layers = None,
    exclude: options.Exclude = None,
    steps: options.Steps = None,
    last: options.Last = None,
    order: options.Order = "step",
    adapters: options.Adapters = "stored",
    quant: Annotated[
        list[str] | None,
        typer.Option(
            "--quant",
            metavar="SPEC",
            help="Quantizer ELEMENT[:GRANULARITY[:SCALE]] or a recipe. Repeatable. "
            f"[default: {', '.join(DEFAULT_SWEEP)}]",
        ),
    ] = None,
    master_cast: options.MasterCast = "none",
    device: options.Device = "auto",
    jobs: options.Jobs = None,
    out: options.Out = options.DEFAULT_OUT,
    output_format: options.Format = OutputFormat.TABLE,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    color: options.Color = ColorMode.AUTO,
) -> int:
    """Ask which number format would stall the run.

    Flips, stalls, underflow and saturation of the same run in many formats, in one pass
    over the weights. Writes sweep.parquet and sweep_layers.parquet.
    """
    del output_format, quiet, verbose, color  # the callbacks of the options took them
    check_out(out)
    talk = find_talk()
    with show_progress(talk) as listen:
        from altgrad_inspect import api

        results = api.sweep(
            choose_target(run),
            quant=quant or DEFAULT_SWEEP,
            master_cast=master_cast,
            layers=layers or (),
            exclude=exclude or (),
            steps=steps,
            last=last,
            order=order,
            adapters=adapters,
            device=device,
            jobs=jobs,
            on_event=listen,
        )
    return deliver(results, out, talk)
