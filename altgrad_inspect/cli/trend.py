"""``altgrad-inspect trend``: which layers drift, from a run or from its tables."""

from altgrad_inspect.cli import options
from altgrad_inspect.cli.configure import find_trend_settings
from altgrad_inspect.cli.output import check_out, deliver
from altgrad_inspect.cli.progress import show_progress
from altgrad_inspect.cli.talk import ColorMode, OutputFormat, find_talk
from altgrad_inspect.cli.target import choose_target
from altgrad_inspect.settings import TrendSettings

_DEFAULTS = TrendSettings()


def trend(
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
    alpha: options.Alpha = _DEFAULTS.alpha,
    half_life: options.HalfLife = None,
    warmup: options.Warmup = _DEFAULTS.warmup_checkpoints,
    threshold: options.Threshold = _DEFAULTS.rank_drop_threshold,
    critical: options.Critical = None,
    trained_layers: options.TrainedLayers = None,
    device: options.Device = "auto",
    jobs: options.Jobs = None,
    out: options.Out = options.DEFAULT_OUT,
    output_format: options.Format = OutputFormat.TABLE,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    color: options.Color = ColorMode.AUTO,
) -> int:
    """Find the layers whose ranks or flips fall.

    RUN may also be the directory that an earlier command wrote its tables to.
    Writes trends.parquet and alerts.parquet, and the tables they are made from.
    """
    del output_format, quiet, verbose, color  # the callbacks of the options took them
    check_out(out)
    talk = find_talk()
    settings = find_trend_settings()
    with show_progress(talk) as listen:
        from altgrad_inspect import api

        results = api.trend(
            choose_target(run),
            quant=quant or options.DEFAULT_QUANT,
            master_cast=master_cast,
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
    return deliver(results, out, talk)
