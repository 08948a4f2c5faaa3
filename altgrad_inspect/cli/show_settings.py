"""What ``--show-settings`` prints: every setting, its value and where it came from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from altgrad_inspect.cli.output import show_report
from altgrad_inspect.cli.talk import OutputFormat, Talk, write_stdout
from altgrad_inspect.config import SETTINGS, Config, Given, Source
from altgrad_inspect.config.values import render_value
from altgrad_inspect.reports.model import ALWAYS, Column, Fact, Kind, Report, Section
from altgrad_inspect.reports.plain_rows import dump_json, render_csv_rows

SCHEMA_VERSION = 1


def show_settings(config: Config, flags: Mapping[str, Given], talk: Talk) -> None:
    """Write all settings to stdout.

    Args:
        config: What the file and the environment set.
        flags: What the command line set, which wins.
        talk: How.
    """
    rows = build_rows(config, flags)
    match talk.output_format:
        case OutputFormat.JSON:
            document = {
                "schema_version": SCHEMA_VERSION,
                "file": str(config.file) if config.file else None,
                "settings": rows,
            }
            write_stdout(f"{dump_json(document, indent=1)}\n")
        case OutputFormat.JSONL:
            write_stdout("".join(f"{dump_json(row)}\n" for row in rows))
        case OutputFormat.CSV:
            write_stdout(render_csv_rows(list(rows[0]), [list(row.values()) for row in rows]))
        case OutputFormat.TABLE | OutputFormat.MD:
            show_report(_build_report(rows, config.file), talk)


def build_rows(config: Config, flags: Mapping[str, Given]) -> list[dict[str, Any]]:
    """Return one row a setting: key, value, source, origin, default and meaning."""
    given = {**config.given, **flags}
    rows = []
    for key, setting in SETTINGS.items():
        one = given.get(key)
        rows.append(
            {
                "key": key,
                "value": setting.default if one is None else one.value,
                "source": str(Source.DEFAULT if one is None else one.source),
                "origin": None if one is None else one.origin,
                "default": setting.default,
                "meaning": setting.meaning,
            }
        )
    return rows


def _build_report(rows: list[dict[str, Any]], file: Path | None) -> Report:
    columns = (
        Column(title="setting", kind=Kind.WORD, weight=ALWAYS),
        Column(title="value", kind=Kind.TEXT, weight=ALWAYS),
        Column(title="from", kind=Kind.TEXT, weight=ALWAYS),
    )
    cells = tuple(
        (row["key"], render_value(row["value"]), row["origin"] or row["source"]) for row in rows
    )
    section = Section(title="Settings", columns=columns, rows=cells)
    fact = Fact(label="file", text=str(file) if file else "none found")
    return Report(title="settings", run="", facts=(fact,), sections=(section,))
