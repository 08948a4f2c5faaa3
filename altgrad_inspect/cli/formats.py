"""``altgrad-inspect formats``: the number formats, without torch and without a run."""

from typing import TYPE_CHECKING, Annotated

import typer

from altgrad_inspect.cli import options
from altgrad_inspect.cli.output import show_report
from altgrad_inspect.cli.talk import ColorMode, OutputFormat, Talk, find_talk, write_stdout

if TYPE_CHECKING:
    from altgrad_inspect.formats import ElementFormat, ExponentFormat


def formats(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Formats to show, e.g. e4m3; all if none."),
    ] = None,
    *,
    output_format: options.Format = OutputFormat.TABLE,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    color: options.Color = ColorMode.AUTO,
) -> int:
    """List number formats.

    Bits, exponent and mantissa, largest and smallest value, and where each is defined.
    """
    del output_format, quiet, verbose, color  # the callbacks of the options took them
    from altgrad_inspect.formats import FORMATS, find_format

    chosen = [find_format(name) for name in names] if names else list(FORMATS.values())
    _show([_describe(fmt) for fmt in chosen], find_talk())
    return 0


def _describe(fmt: "ElementFormat | ExponentFormat") -> dict[str, str | int | float | None]:
    return {
        "name": fmt.name,
        "bits": fmt.bits,
        "exponent_bits": getattr(fmt, "exponent_bits", None),
        "mantissa_bits": getattr(fmt, "mantissa_bits", None),
        "bias": getattr(fmt, "bias", None),
        "max": fmt.max,
        "smallest": fmt.smallest,
        "specials": str(fmt.specials) if hasattr(fmt, "specials") else None,
        "source": fmt.source,
    }


def _show(rows: list[dict[str, str | int | float | None]], talk: Talk) -> None:
    match talk.output_format:
        case OutputFormat.TABLE | OutputFormat.MD:
            from altgrad_inspect.reports.sections.formats import build_formats_report

            show_report(build_formats_report(rows), talk)
        case OutputFormat.JSON:
            from altgrad_inspect.reports.plain_rows import dump_json

            write_stdout(f"{dump_json({'schema_version': 1, 'formats': rows}, indent=1)}\n")
        case OutputFormat.JSONL:
            from altgrad_inspect.reports.plain_rows import dump_json

            write_stdout("".join(f"{dump_json(row)}\n" for row in rows))
        case OutputFormat.CSV:
            from altgrad_inspect.reports.plain_rows import render_csv_rows

            write_stdout(render_csv_rows(list(rows[0]), [list(row.values()) for row in rows]))
