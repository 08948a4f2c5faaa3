"""``altgrad-inspect flips``: which quantized weights changed between checkpoints."""

from altgrad_inspect.cli import options
from altgrad_inspect.cli.output import check_out, deliver
from altgrad_inspect.cli.progress import show_progress
from altgrad_inspect.cli.talk import ColorMode, OutputFormat, find_talk
from altgrad_inspect.cli.target import choose_target


def flips(
    run: options.Run = None,
    *,
    layers: options.Layers = None,
    exclude: options.Exclude = None,
    steps: options.Steps = None,
    last: options.Last = None,
    order: options.Order = "step",
    adapters: options.Adapters = "stored",
    quant: options.Quant = None,
    master_cast: options.MasterCast = "none",
    device: options.Device = "auto",
    jobs: options.Jobs = None,
    out: options.Out = options.DEFAULT_OUT,
    output_format: options.Format = OutputFormat.TABLE,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    color: options.Color = ColorMode.AUTO,
) -> int:
    """Count the quantized weights that changed.

    For every layer and every two consecutive checkpoints: how many weights changed their
    code, and how many were updated without changing it. Writes flips.parquet.
    """
    del output_format, quiet, verbose, color  # the callbacks of the options took them
    check_out(out)
    talk = find_talk()
    with show_progress(talk) as listen:
        from altgrad_inspect import api

        results = api.flips(
            choose_target(run),
            quant=quant or options.DEFAULT_QUANT,
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
