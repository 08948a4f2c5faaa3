"""``altgrad-inspect rank``: stable and effective rank of every layer over the run."""

from altgrad_inspect.cli import options
from altgrad_inspect.cli.output import check_out, deliver
from altgrad_inspect.cli.progress import show_progress
from altgrad_inspect.cli.talk import ColorMode, OutputFormat, find_talk
from altgrad_inspect.cli.target import choose_target


def rank(
    run: options.Run = None,
    *,
    layers: options.Layers = None,
    exclude: options.Exclude = None,
    steps: options.Steps = None,
    last: options.Last = None,
    order: options.Order = "step",
    adapters: options.Adapters = "stored",
    spectra: options.Spectra = False,
    method: options.Method = "exact",
    metrics: options.Metrics = "both",
    tolerance: options.Tolerance = 0.0,
    updates: options.Updates = False,
    device: options.Device = "auto",
    jobs: options.Jobs = None,
    out: options.Out = options.DEFAULT_OUT,
    output_format: options.Format = OutputFormat.TABLE,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    color: options.Color = ColorMode.AUTO,
) -> int:
    """Measure the stable and effective rank of every layer.

    Writes ranks.parquet.
    """
    del output_format, quiet, verbose, color  # the callbacks of the options took them
    check_out(out)
    talk = find_talk()
    with show_progress(talk) as listen:
        from altgrad_inspect import api

        results = api.rank(
            choose_target(run),
            spectra=spectra,
            method=method,
            metrics=metrics,
            tolerance=tolerance,
            updates=updates,
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
