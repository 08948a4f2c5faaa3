"""The ``altgrad-inspect`` command line: parse, call the library, print, exit.

Data goes to stdout, everything else to stderr; the exit statuses are those of
`altgrad_inspect.errors.ExitCode`. Commands hold no analysis: each is a thin shell over a
function of ``altgrad_inspect.api`` that a notebook could call just as well, and imports
it when it runs, so that ``--help`` and ``--version`` never wait for torch.
"""

from typing import Annotated

import typer

from altgrad_inspect.cli import (
    check,
    compare,
    demo,
    diff,
    doctor,
    flips,
    formats,
    ls,
    rank,
    report,
    sweep,
    trend,
)
from altgrad_inspect.cli.configure import Program
from altgrad_inspect.cli.guard import run_guarded

app = Program(
    name="altgrad-inspect",
    add_completion=False,
    rich_markup_mode=None,  # plain help: twice as fast, and never an escape code in a pipe
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command(name="ls")(ls.ls)
app.command(name="flips")(flips.flips)
app.command(name="rank")(rank.rank)
app.command(name="trend")(trend.trend)
app.command(name="report")(report.report)
app.command(name="check")(check.check)
app.command(name="diff")(diff.diff)
app.command(name="sweep")(sweep.sweep)
app.command(name="compare")(compare.compare)
app.command(name="formats")(formats.formats)
app.command(name="demo")(demo.demo)
app.command(name="doctor")(doctor.doctor)


def _print_version(value: bool) -> bool:  # noqa: FBT001
    if value:
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("altgrad-inspect")
        except PackageNotFoundError:
            number = "0+unknown"
        typer.echo(f"altgrad-inspect {number}")
        raise typer.Exit
    return value


@app.callback()
def _root(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Say which layers of a training run stopped moving, oscillate or lose rank.

    Reads the checkpoints that a run saved; needs neither the model's code nor a GPU.
    Start with `altgrad-inspect demo`, or with `altgrad-inspect report RUN`.
    """


def main() -> None:
    """Run the command line and exit with its status."""
    raise SystemExit(run_guarded(app))
