"""Every option that more than one command has, once."""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Final

import typer

from altgrad_inspect.cli.talk import ColorMode, OutputFormat, find_talk
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import ConfigError

DEFAULT_OUT: Final = Path("altgrad-report")
DEFAULT_QUANT: Final = ("auto",)
TABLES_TO_PRINT: Final = ("verdicts", "flips", "ranks", "trends")


def _set_format(value: OutputFormat) -> OutputFormat:
    find_talk().output_format = value
    return value


def _set_quiet(value: bool) -> bool:  # noqa: FBT001
    find_talk().quiet = value
    return value


def _set_verbose(value: int) -> int:
    find_talk().verbosity = value
    return value


def _set_color(value: ColorMode) -> ColorMode:
    find_talk().color = value
    return value


def _set_shown(value: str | None) -> str | None:
    find_talk().shown = None if value is None else parse_tables(value)
    return value


def parse_tables(text: str) -> tuple[str, ...]:
    """Return the tables that are to be printed.

    Raises:
        ConfigError: There is no such table.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in {"all", "none", *TABLES_TO_PRINT}:
            close = get_close_matches(name, TABLES_TO_PRINT, n=1)
            known = f"all, none or any of {', '.join(TABLES_TO_PRINT)}"
            advice = f"did you mean {close[0]}?" if close else "all tables are in --out"
            msg = f"--tables {display_name(name)}: cannot be printed, expected {known} ({advice})"
            raise ConfigError(msg)
    if "all" in names:
        return TABLES_TO_PRINT
    return tuple(name for name in TABLES_TO_PRINT if name in names)


Run = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN",
        help="A directory, a checkpoint file, a glob, or several; the current directory if none.",
        show_default=False,
    ),
]
Layers = Annotated[
    list[str] | None,
    typer.Option(
        "--layers",
        metavar="PATTERN",
        help="Only layers whose name contains PATTERN; a glob if it has any of *?[, "
        "a regular expression after re:. Repeatable.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="PATTERN", help="Leave these layers out. Repeatable."),
]
Steps = Annotated[
    str | None,
    typer.Option(
        "--steps",
        metavar="FIRST:LAST:STRIDE",
        help="Only checkpoints from step FIRST to step LAST, every STRIDE-th; each optional.",
    ),
]
Last = Annotated[
    int | None, typer.Option("--last", metavar="N", help="Only the last N checkpoints.")
]
Order = Annotated[
    str,
    typer.Option(
        "--order",
        metavar="ORDER",
        help="step; name; or given, as named on the command line. The latter two number "
        "checkpoints from 0.",
    ),
]
Adapters = Annotated[
    str,
    typer.Option(
        "--adapters",
        metavar="VIEW",
        help="Adapters as stored, or merged: the update each pair of matrices makes.",
    ),
]
Quant = Annotated[
    list[str] | None,
    typer.Option(
        "--quant",
        metavar="SPEC",
        help="Quantizer ELEMENT[:GRANULARITY[:SCALE]], e.g. e4m3, e5m2:channel, "
        "int8:block=128x128, or a recipe, e.g. mxfp8 (see formats). Repeatable. [default: auto]",
    ),
]
MasterCast = Annotated[
    str,
    typer.Option(
        "--master-cast",
        metavar="CAST",
        help="none; or bf16: weights are cast to bfloat16 before they are quantized.",
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", metavar="N", help="Worker threads. [default: one a core]"),
]
Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Where the Parquet tables are written.")
]
Format = Annotated[
    OutputFormat,
    typer.Option("--format", callback=_set_format, is_eager=True, help="What goes to stdout."),
]
Quiet = Annotated[
    bool,
    typer.Option("-q", "--quiet", callback=_set_quiet, help="Nothing on stderr but errors."),
]
Verbose = Annotated[
    int,
    typer.Option(
        "-v",
        "--verbose",
        count=True,
        callback=_set_verbose,
        metavar="",
        help="Show every row; -vv also shows tracebacks.",
        show_default=False,
    ),
]
Color = Annotated[
    ColorMode, typer.Option("--color", callback=_set_color, help="When to use colours.")
]
Tables = Annotated[
    str | None,
    typer.Option(
        "--tables",
        callback=_set_shown,
        metavar="NAMES",
        help="Also print these tables: all, none, or any of verdicts,flips,ranks,trends.",
        show_default=False,
    ),
]
Spectra = Annotated[
    bool, typer.Option("--spectra", help="Keep the singular values in ranks.parquet.")
]
Updates = Annotated[
    bool,
    typer.Option("--updates", help="Also the ranks of each checkpoint minus earlier ones."),
]
Method = Annotated[
    str,
    typer.Option(
        "--method",
        metavar="METHOD",
        help="exact; estimate large matrices, with error bars; or auto: estimate the largest.",
    ),
]
Metrics = Annotated[
    str,
    typer.Option(
        "--metrics",
        metavar="METRICS",
        help="both ranks, or stable: the stable rank alone, which is faster for large matrices.",
    ),
]
Tolerance = Annotated[
    float,
    typer.Option(
        "--tolerance",
        metavar="X",
        help="Carry ranks on that provably moved by less than X, relative.",
    ),
]
Alpha = Annotated[
    float,
    typer.Option("--alpha", metavar="A", help="Weight of the newest value in the average, 0 to 1."),
]
HalfLife = Annotated[
    float | None,
    typer.Option(
        "--half-life",
        metavar="STEPS",
        help="Forget half in that many training steps, instead of --alpha.",
    ),
]
Warmup = Annotated[
    int, typer.Option("--warmup", metavar="N", help="Checkpoints before alerts are possible.")
]
Threshold = Annotated[
    float,
    typer.Option(
        "--threshold", metavar="T", help="Drop below the baseline that raises rank-drop, 0 to 1."
    ),
]
Critical = Annotated[
    list[str] | None,
    typer.Option(
        "--critical",
        metavar="PATTERN",
        help="Layers that get half of the threshold. Repeatable. "
        "[default: lm_head, c_proj, o_proj, down_proj, output.dense]",
    ),
]
TrainedLayers = Annotated[
    list[str] | None,
    typer.Option(
        "--trained-layers",
        metavar="PATTERN",
        help="Layers that should learn: one that never moves is then a warning. Repeatable.",
    ),
]
