"""``altgrad-inspect demo``: the main job on two small runs, then how to run it on yours."""

import shlex
from pathlib import Path
from typing import Annotated, Final

import typer

import altgrad_inspect
from altgrad_inspect.cli import options
from altgrad_inspect.cli.output import check_out, deliver
from altgrad_inspect.cli.progress import show_progress
from altgrad_inspect.cli.talk import ColorMode, OutputFormat, find_talk, write_stdout
from altgrad_inspect.errors import CheckpointError, ExitCode

_RUNS: Final = ("healthy", "faulty")


def demo(
    *,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the tables are written.")
    ] = Path("altgrad-demo"),
    device: options.Device = "auto",
    jobs: options.Jobs = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    color: options.Color = ColorMode.AUTO,
) -> int:
    """Report on two small runs that come with the program.

    One is healthy, the other has faults planted in it.
    """
    del quiet, verbose, color  # the callbacks of the options took them
    samples = find_samples()
    talk = find_talk()
    talk.output_format = OutputFormat.TABLE
    talk.shown = None if talk.is_verbose else ()
    status: int = ExitCode.OK
    for name in _RUNS:
        check_out(out / name)
        with show_progress(talk) as listen:
            from altgrad_inspect import api

            results = api.report(samples / name, device=device, jobs=jobs, on_event=listen)
        status = max(status, deliver(results, out / name, talk, with_json=True))
        write_stdout("\n")
    write_stdout(_render_next_steps(samples, out))
    return status


def find_samples() -> Path:
    """Return the directory of the sample runs: in the wheel, or beside the package.

    Raises:
        CheckpointError: There are none.
    """
    package = Path(altgrad_inspect.__path__[0])
    for directory in (package / "sample_checkpoints", package.parent / "sample_checkpoints"):
        if all((directory / name).is_dir() for name in _RUNS):
            return directory
    msg = (
        f"{package / 'sample_checkpoints'}: the sample runs are missing, expected healthy and "
        "faulty in it (install the package again)"
    )
    raise CheckpointError(msg)


def _render_next_steps(samples: Path, out: Path) -> str:
    faulty, tables = shlex.quote(str(samples / "faulty")), shlex.quote(str(out / "faulty"))
    return (
        "The same once more, in parts:\n"
        f"  altgrad-inspect ls {faulty}\n"
        f"  altgrad-inspect rank {faulty} --layers lm_head\n"
        f"  altgrad-inspect report {faulty} --tables flips,ranks\n"
        f"  altgrad-inspect trend {tables}    # from the tables, without the weights\n"
        "\n"
        "Your own run, a directory that holds its checkpoints:\n"
        "  altgrad-inspect ls path/to/run --plan\n"
        "  altgrad-inspect report path/to/run\n"
    )
