"""Write the generated reference pages: columns, formats, command line.

    make docs

The gate fails when a page differs from what this program writes.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from altgrad_inspect.formats import ALIASES, FORMATS, ExponentFormat, FloatFormat
from altgrad_inspect.tables.schema import SCHEMA_VERSION, TABLES

HERE = Path(__file__).parent
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
    """The catalogue of number formats."""
    parts = [
        NOTE,
        "# Number formats\n\n",
        "Besides these, any `eEmM` of up to 16 bits, sign included, without special codes and\n",
        "with bias 2^(E-1) - 1.\n\n",
        "| format | short | bits | E | M | bias | specials | largest | smallest | source |\n",
        "|---|---|---|---|---|---|---|---|---|---|\n",
    ]
    for fmt in FORMATS.values():
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
        parts.append("| " + " | ".join(cells) + " |\n")
    return "".join(parts)


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
}

if __name__ == "__main__":
    for page, render in PAGES.items():
        (HERE / page).write_text(render())
        print(f"wrote docs/{page}")  # noqa: T201
