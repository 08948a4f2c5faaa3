"""Results as JSON and JSON lines: every number as computed, names lossless, never NaN."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from altgrad_inspect.reports.build import build_report
from altgrad_inspect.reports.model import Attention
from altgrad_inspect.reports.plain_rows import dump_json
from altgrad_inspect.tables.results import Results
from altgrad_inspect.tables.schema import SCHEMA_VERSION

MAIN_TABLES: Final[Mapping[str, str]] = {"report": "alerts"}
"""The table that ``jsonl`` and ``csv`` show, where it is not called like the subject."""


def find_main_table(results: Results) -> str:
    """Return the name of the table that ``jsonl`` and ``csv`` show."""
    return MAIN_TABLES.get(results.subject, results.subject)


def render_json(results: Results) -> str:
    """Write one JSON document, ending with a line break.

    Keys: ``schema_version``, ``subject``, ``run``, ``summary`` (how many layers have each
    verdict; what was not measured), ``attention`` and ``information`` (the blocks of the
    report, worst first, with all layers of each), ``settings``, ``notes``, ``num_failed`` and
    ``tables``: table name -> list of row objects, keyed by column. An undefined value is
    null. All characters are ASCII, others escaped, so that no terminal obeys a name.
    """
    report = build_report(results, shown=())
    document = {
        "schema_version": SCHEMA_VERSION,
        "subject": results.subject,
        "run": results.run,
        "summary": {
            "verdicts" if results.verdicts is not None else "alerts": {
                count.label: count.number for count in report.counts
            },
            "gaps": [asdict(gap) for gap in report.gaps],
        },
        "attention": [_describe(block) for block in report.attention],
        "information": [_describe(block) for block in report.information],
        "settings": results.settings,
        "notes": results.notes,
        "num_failed": results.num_failed,
        "tables": {name: table.to_pylist() for name, table in sorted(results.tables.items())},
    }
    return f"{dump_json(document, indent=1)}\n"


def _describe(block: Attention) -> dict[str, object]:
    return {"verdict": block.word, **asdict(block)}


def render_jsonl(results: Results) -> str:
    """Write the main table, one JSON object a row and line; empty if it has no rows."""
    rows = results.to_arrow(find_main_table(results)).to_pylist()
    return "".join(f"{dump_json(row)}\n" for row in rows)
