"""``altgrad-inspect compare``: two analysed runs side by side."""

from typing import Annotated

import typer

from altgrad_inspect.cli import options
from altgrad_inspect.cli.diff import OptionalOut
from altgrad_inspect.cli.output import check_out, deliver, find_status, show_results
from altgrad_inspect.cli.talk import ColorMode, OutputFormat, find_talk


def compare(
    a: Annotated[
        str, typer.Argument(metavar="A", help="The tables of a run, or a run to analyse first.")
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="Those of another run.")],
    *,
    out: OptionalOut = None,
    output_format: options.Format = OutputFormat.TABLE,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    color: options.Color = ColorMode.AUTO,
) -> int:
    """Compare two analysed runs.

    Final ranks, drops, flips, verdicts and alerts, in total and per layer. A and B are
    directories that `altgrad-inspect report` wrote to.
    """
    del output_format, quiet, verbose, color  # the callbacks of the options took them
    if out is not None:
        check_out(out)
    talk = find_talk()
    from altgrad_inspect import api

    results = api.compare(a, b)
    if out is not None:
        return deliver(results, out, talk)
    show_results(results, talk)
    return find_status(results)
