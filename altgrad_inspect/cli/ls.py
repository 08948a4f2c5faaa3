"""``altgrad-inspect ls``: the run as found, and what the other commands would take."""

from typing import TYPE_CHECKING, Annotated

import typer

from altgrad_inspect.cli import options
from altgrad_inspect.cli.output import find_status, show_report, show_results
from altgrad_inspect.cli.talk import ColorMode, OutputFormat, Talk, find_talk, write_stdout
from altgrad_inspect.cli.target import choose_target

if TYPE_CHECKING:
    from altgrad_inspect.engine.plan import Plan
    from altgrad_inspect.reports.model import Report


def ls(
    run: options.Run = None,
    *,
    layers: options.Layers = None,
    exclude: options.Exclude = None,
    steps: options.Steps = None,
    last: options.Last = None,
    order: options.Order = "step",
    adapters: options.Adapters = "stored",
    plan: Annotated[
        bool, typer.Option("--plan", help="Estimate what flips and rank would read and take.")
    ] = False,
    quant: options.Quant = None,
    jobs: options.Jobs = None,
    output_format: options.Format = OutputFormat.TABLE,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    color: options.Color = ColorMode.AUTO,
) -> int:
    """List the checkpoints and layers of a run.

    Nothing but headers is read.
    """
    del output_format, quiet, verbose, color  # the callbacks of the options took them
    from altgrad_inspect import api

    talk = find_talk()
    target = choose_target(run)
    selection = api.SelectionOptions(
        layers=layers or (),
        exclude=exclude or (),
        steps=steps,
        last=last,
        order=order,
        adapters=adapters,
    )
    if plan:
        estimate = api.plan(target, quant=quant or options.DEFAULT_QUANT, jobs=jobs, **selection)
        _show_plan(estimate, str(target), talk)
        return 0
    results = api.ls(target, **selection)
    show_results(results, talk)
    return find_status(results)


def _show_plan(plan: "Plan", run: str, talk: Talk) -> None:
    match talk.output_format:
        case OutputFormat.TABLE | OutputFormat.MD:
            show_report(_build_plan_report(plan, run), talk)
        case OutputFormat.JSON | OutputFormat.JSONL:
            from altgrad_inspect.reports.plain_rows import dump_json

            write_stdout(f"{dump_json(_describe_plan(plan, run))}\n")
        case OutputFormat.CSV:
            from altgrad_inspect.reports.plain_rows import render_csv_rows

            facts = _describe_plan(plan, run)
            write_stdout(render_csv_rows(list(facts), [list(facts.values())]))


def _describe_plan(plan: "Plan", run: str) -> dict[str, object]:
    from dataclasses import asdict

    return {"run": run, **asdict(plan)}


def _build_plan_report(plan: "Plan", run: str) -> "Report":
    from altgrad_inspect.reports.model import Fact, Report
    from altgrad_inspect.reports.sections.run import build_plan_section

    section = build_plan_section(
        size_bytes=plan.size_bytes,
        memory_bytes=plan.memory_bytes,
        seconds={
            "flips": plan.flips_seconds,
            "rank": plan.rank_seconds,
            "report": plan.flips_seconds + plan.rank_seconds,
        },
        footnotes=("rough, from headers alone: the disk decides too",),
    )
    facts = (
        Fact(label="checkpoints", text=f"{plan.num_checkpoints:,}"),
        Fact(label="layers", text=f"{plan.num_layers:,}"),
    )
    return Report(title="ls --plan", run=run, facts=facts, sections=(section,))
