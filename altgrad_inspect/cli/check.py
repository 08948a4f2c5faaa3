"""``altgrad-inspect check``: the gate of a pipeline, with an exit status that says it all."""

from typing import TYPE_CHECKING, Annotated

import typer

from altgrad_inspect.cli import options
from altgrad_inspect.cli.configure import find_trend_settings
from altgrad_inspect.cli.output import check_out, say_notes, show_report, write_results
from altgrad_inspect.cli.progress import show_progress
from altgrad_inspect.cli.talk import (
    ColorMode,
    OutputFormat,
    Talk,
    describe_files,
    find_talk,
    write_stdout,
)
from altgrad_inspect.cli.target import choose_target
from altgrad_inspect.errors import ExitCode
from altgrad_inspect.records import Severity
from altgrad_inspect.settings import TrendSettings

if TYPE_CHECKING:
    from altgrad_inspect.api.gate import CheckOutcome

_DEFAULTS = TrendSettings()


def check(
    run: options.Run = None,
    *,
    fail_on: Annotated[
        Severity,
        typer.Option("--fail-on", help="The least severity of a finding."),
    ] = Severity.WARNING,
    rule: Annotated[
        list[str] | None,
        typer.Option("--rule", metavar="NAME", help="Only this rule or verdict. Repeatable."),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="NAME", help="Not this rule or verdict. Repeatable."),
    ] = None,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Exit with 0 even if there are findings.")
    ] = False,
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
    no_out: Annotated[bool, typer.Option("--no-out", help="Write no tables.")] = False,
    output_format: options.Format = OutputFormat.TABLE,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    color: options.Color = ColorMode.AUTO,
) -> int:
    """Exit with 1 if a layer needs attention, else with 0.

    Prints what was found, one line each, and nothing but a summary if there is nothing.
    RUN may also be the directory that an earlier command wrote its tables to; then nothing
    is written. Exits with 6 if there are no findings but some work failed.
    """
    del output_format, quiet, verbose, color  # the callbacks of the options took them
    talk, target = find_talk(), choose_target(run)
    settings = find_trend_settings()
    with show_progress(talk) as listen:
        from altgrad_inspect import api
        from altgrad_inspect.api.gate import find_tables

        is_written = not no_out and find_tables(target) is None
        if is_written:
            check_out(out)
        outcome = api.check(
            target,
            fail_on=fail_on,
            rule=rule or (),
            ignore=ignore or (),
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
    paths = write_results(outcome.results, out, with_json=True) if is_written else []
    _show(outcome, fail_on, talk)
    if paths:
        talk.say(describe_files(paths))
    is_excused = exit_zero and outcome.exit_code is ExitCode.FINDINGS
    return ExitCode.OK if is_excused else outcome.exit_code


def _show(outcome: "CheckOutcome", fail_on: str, talk: Talk) -> None:
    from altgrad_inspect.reports import render_findings as renderers
    from altgrad_inspect.reports.plain_rows import dump_json, render_csv_rows

    findings, results = outcome.findings, outcome.results
    if talk.output_format is not OutputFormat.MD:
        say_notes(results, talk)
    match talk.output_format:
        case OutputFormat.TABLE:
            page = talk.build_page()
            write_stdout(renderers.render_findings(findings, results, fail_on=fail_on, page=page))
        case OutputFormat.MD:
            show_report(renderers.build_findings_report(findings, results, fail_on=fail_on), talk)
        case OutputFormat.JSON:
            document = renderers.describe_findings(findings, results, fail_on=fail_on)
            document["exit_code"] = int(outcome.exit_code)
            write_stdout(f"{dump_json(document, indent=1)}\n")
        case OutputFormat.JSONL:
            write_stdout("".join(f"{dump_json(row)}\n" for row in findings.to_pylist()))
        case OutputFormat.CSV:
            rows = [list(row.values()) for row in findings.to_pylist()]
            write_stdout(render_csv_rows(findings.column_names, rows))
