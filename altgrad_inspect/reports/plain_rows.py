"""Rows as JSON and CSV text: null instead of NaN, names that nothing obeys. No pyarrow.

In CSV, text that begins with ``=``, ``+``, ``-`` or ``@`` gets a leading ``'``, since
spreadsheets take it for a formula, and control characters are escaped. Numbers are never
touched. Undefined is an empty cell; a list is written as JSON.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from altgrad_inspect.display import display_name

_FORMULA_STARTS: Final = ("=", "+", "-", "@")


def dump_json(value: object, *, indent: int | None = None) -> str:
    """Write ``value`` as JSON with null for what is not finite; any text stays as it is."""
    return json.dumps(_without_nonfinite(value), indent=indent, allow_nan=False, default=str)


def render_csv_rows(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a heading line and one line a row, lines ending with a line feed."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_render_value(value) for value in row] for row in rows)
    return buffer.getvalue()


def _render_value(value: object) -> object:
    match value:
        case str():
            text = display_name(value)
            return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
        case list() | tuple():
            return dump_json(value)
        case float():
            return repr(value) if math.isfinite(value) else None
        case _:
            return value


def _without_nonfinite(value: object) -> object:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): _without_nonfinite(member) for key, member in value.items()}
        case list() | tuple():
            return [_without_nonfinite(member) for member in value]
        case _:
            return value
