"""``altgrad-inspect formats``: formats, recipes and storage schemes, without torch or a run."""

from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from altgrad_inspect.cli import options
from altgrad_inspect.cli.output import show_report
from altgrad_inspect.cli.talk import ColorMode, OutputFormat, Talk, find_talk, write_stdout
from altgrad_inspect.display import display_name

if TYPE_CHECKING:
    from altgrad_inspect.checkpoints.scheme_catalogue import SchemeFacts
    from altgrad_inspect.formats import ElementFormat, ExponentFormat
    from altgrad_inspect.quantize.recipes.recipe import Recipe

Fact = str | int | float | bool | None
Facts = dict[str, Fact]
Catalogue = dict[str, list[Facts]]
"""``formats``, ``recipes`` and ``schemes``: the facts of each."""


def formats(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="What to show, e.g. e4m3, mxfp8 or block-fp8; all if none."
        ),
    ] = None,
    *,
    output_format: options.Format = OutputFormat.TABLE,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    color: options.Color = ColorMode.AUTO,
) -> int:
    """List number formats, recipes and storage schemes.

    What each is, and where it is defined. A recipe is a quantizer of a training or inference
    stack, for --quant; a storage scheme is a way in which quantized weights are saved.
    """
    del output_format, quiet, verbose, color  # the callbacks of the options took them
    _show(_find(names) if names else _list_all(), find_talk(), is_chosen=bool(names))
    return 0


def _list_all() -> Catalogue:
    from altgrad_inspect.checkpoints.scheme_catalogue import SCHEME_FACTS
    from altgrad_inspect.formats import FORMATS
    from altgrad_inspect.quantize.recipes import RECIPES

    return {
        "formats": [_describe_format(fmt) for fmt in FORMATS.values()],
        "recipes": [_describe_recipe(recipe) for recipe in RECIPES.values()],
        "schemes": [_describe_scheme(scheme) for scheme in SCHEME_FACTS.values()],
    }


def _find(names: list[str]) -> Catalogue:
    """Return the facts of everything that has one of the names.

    Raises:
        FormatError: Nothing has that name, with the closest ones.
    """
    from altgrad_inspect.checkpoints.scheme_catalogue import SCHEME_FACTS
    from altgrad_inspect.errors import FormatError
    from altgrad_inspect.formats import ALIASES, FORMATS, find_format
    from altgrad_inspect.quantize.recipes import RECIPES

    found: Catalogue = {"formats": [], "recipes": [], "schemes": []}
    for name in names:
        key, before = name.lower(), sum(map(len, found.values()))
        try:
            found["formats"].append(_describe_format(find_format(key)))
        except FormatError as error:
            if "is not known" not in str(error):
                raise
        if key in RECIPES:
            found["recipes"].append(_describe_recipe(RECIPES[key]))
        if key in SCHEME_FACTS:
            found["schemes"].append(_describe_scheme(SCHEME_FACTS[key]))
        if sum(map(len, found.values())) == before:
            close = get_close_matches(key, [*FORMATS, *ALIASES, *RECIPES, *SCHEME_FACTS])
            hint = f"closest: {', '.join(close)}" if close else "see `altgrad-inspect formats`"
            msg = (
                f"formats: {display_name(name)} is not known, expected a number format, a recipe "
                f"or a storage scheme ({hint})"
            )
            raise FormatError(msg)
    return found


def _describe_format(fmt: "ElementFormat | ExponentFormat") -> Facts:
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


def _describe_recipe(recipe: "Recipe") -> Facts:
    quantizer = recipe.quantizer
    return {
        "name": recipe.name,
        "format": quantizer.fmt.name,
        "granularity": str(quantizer.granularity),
        "rule": str(quantizer.rule),
        "ties": str(quantizer.ties),
        "summary": recipe.summary,
        "edges": recipe.edges or None,
        "is_approximate": recipe.is_approximate,
        "source": recipe.source,
    }


def _describe_scheme(scheme: "SchemeFacts") -> Facts:
    return {"name": scheme.name, "summary": scheme.summary, "source": scheme.source}


def _show(found: Catalogue, talk: Talk, *, is_chosen: bool) -> None:
    rows: list[Facts] = [
        {"kind": kind.removesuffix("s"), **facts}
        for kind, listed in found.items()
        for facts in listed
    ]
    match talk.output_format:
        case OutputFormat.TABLE | OutputFormat.MD:
            from altgrad_inspect.reports.sections.formats import (
                build_details_report,
                build_formats_report,
            )

            show_report(
                build_details_report(rows) if is_chosen else build_formats_report(found), talk
            )
        case OutputFormat.JSON:
            from altgrad_inspect.reports.plain_rows import dump_json

            write_stdout(f"{dump_json({'schema_version': 1, **found}, indent=1)}\n")
        case OutputFormat.JSONL:
            from altgrad_inspect.reports.plain_rows import dump_json

            write_stdout("".join(f"{dump_json(row)}\n" for row in rows))
        case OutputFormat.CSV:
            from altgrad_inspect.reports.plain_rows import render_csv_rows

            columns = list(dict.fromkeys(name for row in rows for name in row))
            columns.append(columns.pop(columns.index("source")))
            write_stdout(render_csv_rows(columns, [[row.get(n) for n in columns] for row in rows]))
