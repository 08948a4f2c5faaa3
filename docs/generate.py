"""Write the generated reference pages: columns, formats, command line, settings, picture.

    make docs

The gate fails when a page differs from what this program writes.
"""

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from altgrad_inspect.checkpoints.scheme_catalogue import SCHEME_FACTS
from altgrad_inspect.config import SETTINGS
from altgrad_inspect.config.values import render_value
from altgrad_inspect.formats import ALIASES, FORMATS, ElementFormat, ExponentFormat, FloatFormat
from altgrad_inspect.quantize.recipes import RECIPES
from altgrad_inspect.quantize.recipes.caveats import CAVEATS
from altgrad_inspect.quantize.recipes.recipe import Recipe
from altgrad_inspect.tables.schema import SCHEMA_VERSION, TABLES

HERE = Path(__file__).parent
PICTURE_WIDTH = 100
NOTE = "<!-- Written by docs/generate.py; change it there or in the source it reads. -->\n\n"


def render_columns() -> str:
    """Every table and column, from the schemas."""
    parts = [
        NOTE,
        "# Tables and columns\n\n",
        f"Schema version {SCHEMA_VERSION}. Every Parquet file carries the same words as field\n",
        "metadata. Undefined numbers are null, and `status` and `reason` say why.\n",
    ]
    for table in TABLES.values():
        keys = ", ".join(f"`{key}`" for key in table.sort_keys)
        parts.append(f"\n## {table.name}\n\nSorted by {keys}.\n\n")
        parts.append("| column | type | unit | meaning |\n|---|---|---|---|\n")
        for field in table.arrow:
            metadata = {key.decode(): value.decode() for key, value in field.metadata.items()}
            kind = str(field.type).replace("list<element: ", "list<").replace("item: ", "")
            cells = [f"`{field.name}`", kind, metadata["unit"], metadata["meaning"]]
            parts.append("| " + " | ".join(cells).replace("  ", " ") + " |\n")
    return "".join(parts)


def render_formats() -> str:
    """The catalogues of number formats, recipes and storage schemes."""
    parts = [
        NOTE,
        "# Number formats, recipes and storage schemes\n\n",
        "`altgrad-inspect formats` lists all of this, `formats NAME` shows one of them.\n\n",
        "## Number formats\n\n",
        "Besides these, any `eEmM` of up to 16 bits, sign included, without special codes and\n",
        "with bias 2^(E-1) - 1.\n\n",
        "| format | short | bits | E | M | bias | specials | largest | smallest | source |\n",
        "|---|---|---|---|---|---|---|---|---|---|\n",
        *map(_render_format, FORMATS.values()),
        RECIPES_INTRODUCTION,
        *(f"- {caveat}\n" for caveat in CAVEATS),
        "\n| recipe | format | granularity | scale | ties | what it does | cut short | source |\n",
        "|---|---|---|---|---|---|---|---|\n",
        *map(_render_recipe, RECIPES.values()),
        SCHEMES_INTRODUCTION,
        "| scheme | what is stored | source |\n|---|---|---|\n",
        *(
            f"| `{facts.name}` | {_escape(facts.summary)} | {_escape(facts.source)} |\n"
            for facts in SCHEME_FACTS.values()
        ),
    ]
    return "".join(parts)


RECIPES_INTRODUCTION = """
## Recipes

A recipe is a quantizer of a training or inference stack: format, what shares a scale, how the
scale is chosen, whether weights are divided by it or multiplied by its reciprocal, and where
ties go, as its source has it, to the last bit. `--quant mxfp8` names one; tables carry that name.
The rule of a recipe can be given with another format and granularity as well:
`--quant e3m2:group=16:mx-rceil`. None of them is ever a default.

Codes and scales are compared with those of torchao 0.18, compressed-tensors 0.20, transformers
5.23, bitsandbytes 0.50 and ModelOpt 0.47 on weights that tell the rules apart; those of the
others with their formulas, written again. In the formulas `w` is a weight, `amax` the largest
magnitude of a block, `fl32` one rounding to float32, `E4M3()` rounding onto that format.

What to know when reading the results:

"""

SCHEMES_INTRODUCTION = """
## Storage schemes

Ways in which quantized weights are saved, recognised by configuration and by names, dtypes and
shapes of tensors; `altgrad-inspect ls` shows which one a layer has. `P` is the name of a module.

"""


def _render_format(fmt: ElementFormat | ExponentFormat) -> str:
    short = ", ".join(alias for alias, full in ALIASES.items() if full == fmt.name)
    split = ("", "", "", "")
    if isinstance(fmt, FloatFormat):
        split = (
            str(fmt.exponent_bits),
            str(fmt.mantissa_bits),
            str(fmt.bias),
            str(fmt.specials),
        )
    elif isinstance(fmt, ExponentFormat):
        split = (str(fmt.bits), "0", str(fmt.bias), "all ones is NaN")
    cells = [f"`{fmt.name}`", short, str(fmt.bits), *split]
    cells += [f"{fmt.max:g}", f"{fmt.smallest:g}", fmt.source]
    return "| " + " | ".join(cells) + " |\n"


def _render_recipe(recipe: Recipe) -> str:
    quantizer = recipe.quantizer
    cells = [f"`{recipe.name}`", str(quantizer.fmt), str(quantizer.granularity)]
    cells += [str(quantizer.rule), str(quantizer.ties), recipe.summary, recipe.edges]
    return "| " + " | ".join(map(_escape, [*cells, recipe.source])) + " |\n"


def _escape(text: str) -> str:
    """A cell whose asterisks are no emphasis."""
    return text.replace("*", r"\*").replace("|", r"\|")


CONFIGURATION = """# Configuration

Every setting has one key, spelled as its flag. A flag wins over an environment variable, that
over a file, that over the default. `--show-settings`, on any command, prints every setting, its
value and where it came from, also as `--format json`; `--isolated` ignores files and environment.

## The file

Either the table `[tool.altgrad-inspect]` of a `pyproject.toml`, or an `altgrad-inspect.toml`, in
which the same keys stand without that heading. The nearest one counts, from the current
directory upwards to the root of the repository or the home directory; beside each other
`altgrad-inspect.toml` wins. A `pyproject.toml` without the table is passed over. `--config FILE`
(or `ALTGRAD_INSPECT_CONFIG`) reads that file and no other.

```toml
[tool.altgrad-inspect]
run = "runs/latest"
quant = ["e4m3", "int8:channel"]
exclude = ["embed"]
fail-on = "critical"
half-life = 2000

[tool.altgrad-inspect.rules]
warmup-fraction = 0.2
```

With that, `altgrad-inspect check` is a whole gate. In a key `_` and `-` are the same. Names of
`run` and `out` are relative to the file. Where a list is expected, one value may stand alone. A
list replaces the list of a lower source, it does not add to it.

A key that is not known, a value of the wrong type and a value out of range are errors with file
and line, exit status 2.

## The environment

`ALTGRAD_INSPECT_` and the key in capitals, with `_` for `-` and for the dot of `rules.`:
`ALTGRAD_INSPECT_HALF_LIFE=2000`, `ALTGRAD_INSPECT_RULES_WARMUP_FRACTION=0.2`. Several values are
separated by commas, or written as in TOML where they hold commas themselves:
`ALTGRAD_INSPECT_LAYERS='["re:a{1,2}"]'`. A switch is `1`, `true`, `yes`, `on` or `0`, `false`,
`no`, `off`. An empty variable counts as not set. A variable with that prefix that is no setting
is an error.

## All settings

Keys that begin with `rules.` stand in the table `[tool.altgrad-inspect.rules]` and have no flag.

| key | value | default | meaning |
|---|---|---|---|
"""


def render_configuration() -> str:
    """Every setting, from the settings classes."""
    rows = []
    for setting in SETTINGS.values():
        default = f"`{render_value(setting.default)}`".replace("`none`", "none")
        meaning = setting.meaning.replace("``", "`").replace("|", r"\|")
        rows.append(f"| `{setting.key}` | {setting.kind} | {default} | {meaning} |\n")
    return f"{NOTE}{CONFIGURATION}{''.join(rows)}"


def render_picture() -> str:
    """The report on the faulty sample run, as a terminal of 100 columns shows it, as SVG."""
    from rich.console import Console
    from rich.text import Text

    from altgrad_inspect import api
    from altgrad_inspect.reports.build import build_report
    from altgrad_inspect.reports.render_terminal import Page, render_terminal

    results = api.report(HERE.parent / "sample_checkpoints" / "faulty", device="cpu")
    report = build_report(replace(results, run="runs/faulty"))
    text = render_terminal(report, Page(width=PICTURE_WIDTH, color=True))
    console = Console(
        record=True,
        width=PICTURE_WIDTH,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
    )
    console.print(Text.from_ansi(text), soft_wrap=True)
    svg = console.export_svg(title="altgrad-inspect report runs/faulty", unique_id="report")
    local = re.sub(r"\s*@font-face \{.*?\}(?=\n)", "", svg, flags=re.DOTALL)  # fetch no font
    return local.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")


def render_cli() -> str:
    """The help texts of every command, as a terminal of 100 columns shows them."""
    parts = [NOTE, "# Command line\n"]
    for command in ("", *_commands()):
        name = f"altgrad-inspect {command}".strip()
        parts.append(f"\n## {name}\n\n```\n{_help(command)}\n```\n")
    return "".join(parts)


def _commands() -> list[str]:
    text = _help("")
    listed = text[text.index("Commands:") :].splitlines()[1:]
    return [line.split()[0] for line in listed if line.startswith("  ") and line[2] != " "]


def _help(command: str) -> str:
    program = [sys.executable, "-m", "altgrad_inspect", *command.split(), "--help"]
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(  # noqa: S603  # our own program
        program, capture_output=True, text=True, check=True, env=environment
    )
    lines = [line.rstrip() for line in done.stdout.strip().splitlines()]
    return "\n".join(lines).replace("python -m altgrad_inspect", "altgrad-inspect")


PAGES: dict[str, Callable[[], str]] = {
    "columns.md": render_columns,
    "formats.md": render_formats,
    "command-line.md": render_cli,
    "configuration.md": render_configuration,
    "report.svg": render_picture,
}

if __name__ == "__main__":
    for page, render in PAGES.items():
        (HERE / page).write_text(render())
        print(f"wrote docs/{page}")  # noqa: T201
