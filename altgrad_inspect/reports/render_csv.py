"""The main table of results as CSV: every number as computed."""

from altgrad_inspect.reports.plain_rows import render_csv_rows
from altgrad_inspect.reports.render_json import find_main_table
from altgrad_inspect.tables.results import Results


def render_csv(results: Results) -> str:
    """Write the main table with a heading line; see `render_csv_rows` for its cells."""
    table = results.to_arrow(find_main_table(results))
    return render_csv_rows(table.column_names, (list(row.values()) for row in table.to_pylist()))
