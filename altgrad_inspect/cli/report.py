"""``altgrad-inspect report``: flips, ranks, trends and alerts in one pass over the weights."""

from altgrad_inspect.cli import options
from altgrad_inspect.cli.configure import find_trend_settings
from altgrad_inspect.cli.output import check_out, deliver
from altgrad_inspect.cli.progress import show_progress
from altgrad_inspect.cli.talk import ColorMode, OutputFormat, find_talk
from altgrad_inspect.cli.target import choose_target
from altgrad_inspect.settings import TrendSettings

_DEFAULTS = TrendSettings()


def report(
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
    spectra: options.Spectra = False,
    method: options.Method = "exact",
    metrics: options.Metrics = "both",
    tolerance: options.Tolerance = 0.0,
    alpha: options.Alpha = _DEFAULTS.alpha,
    half_life: options.HalfLife = None,
    warmup: options.Warmup = _DEFAULTS.warmup_checkpoints,
    threshold: options.Threshold = _DEFAULTS.rank_drop_threshold,
    critical: options.Critical = None,
    trained_layers: options.TrainedLayers = None,
    device: options.Device = "auto",
    jobs: options.Jobs = None,
    out: options.Out = options.DEFAULT_OUT,
    tables: options.Tables = None,
    output_format: options.Format = OutputFormat.TABLE,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    color: options.Color = ColorMode.AUTO,
) -> int:
    """Flips, ranks, trends and verdicts in one pass.

    Prints what was looked at and the layers that need attention, and writes every table as
    Parquet, and report.json.
    """
    del tables, output_format, quiet, verbose, color  # the callbacks of the options took them
    check_out(out)
    talk = find_talk()
    settings = find_trend_settings()
    with show_progress(talk) as listen:
        from altgrad_inspect import api

        results = api.report(
            choose_target(run),
            quant=quant or options.DEFAULT_QUANT,
            master_cast=master_cast,
            spectra=spectra,
            method=method,
            metrics=metrics,
            tolerance=tolerance,
            alpha=alpha,
            half_life=half_life,
            warmup=warmup,
            threshold=threshold,
            critical=critical or settings.critical_layers,
            trained_layers=trained_layers or settings.trained_layers,
            trend_settings=settings,
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
    return deliver(results, out, talk, with_json=True)
