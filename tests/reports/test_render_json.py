"""Results as JSON, JSON lines and CSV: complete, lossless, and nothing that bites."""

import csv
import io
import json
import math
from dataclasses import replace

import pyarrow as pa
import pytest

from altgrad_inspect.reports.plain_rows import dump_json, render_csv_rows
from altgrad_inspect.reports.render_csv import render_csv
from altgrad_inspect.reports.render_json import find_main_table, render_json, render_jsonl
from altgrad_inspect.tables.results import Results
from tests.reports.examples import flips_row, make_every_verdict, make_results, make_table
from tests.reports.hostile import HOSTILE


def refuse_constant(name: str) -> float:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def parse(text: str) -> dict[str, object]:
    parsed = json.loads(text, parse_constant=refuse_constant)
    assert isinstance(parsed, dict)
    return parsed


def test_the_document_holds_every_row_of_every_table(results: Results) -> None:
    document = parse(render_json(results))
    assert document["schema_version"] == 1
    assert document["subject"] == "report"
    assert document["run"] == "runs/tiny"
    assert document["settings"] == {"quantizers": ["e4m3:tensor:amax"]}
    assert document["num_failed"] == 1
    assert document["notes"] == list(results.notes)
    tables = document["tables"]
    assert isinstance(tables, dict)
    for name, table in results.tables.items():
        assert pa.Table.from_pylist(tables[name], schema=table.schema).equals(table)


def test_the_document_holds_the_blocks_of_the_report_with_every_layer() -> None:
    document = parse(render_json(make_every_verdict()))
    summary, attention = document["summary"], document["attention"]
    information = document["information"]
    assert isinstance(summary, dict)
    assert isinstance(attention, list)
    assert isinstance(information, list)
    assert summary["verdicts"]["collapsing"] == 101
    assert summary["verdicts"]["healthy"] == 1
    (gap,) = summary["gaps"]
    assert gap == {
        "look": "skipped",
        "text": "1 checkpoint left out: model-00002-of-00002.safetensors is not there yet, "
        "e.g. checkpoint-700",
        "number": 1,
        "subject": "checkpoints",
    }
    assert [block["verdict"] for block in attention][:4] == [
        *("nonfinite", "dead", "bit-stalled", "outlier-dominated"),
    ]
    (many,) = [block for block in attention if len(block["cases"]) == 101]
    assert many["step_first"] == many["step_last"] == 300
    assert many["num_since"] == 3
    assert many["cases"][2]["layer"] == "model.layers.2.mlp.down_proj.weight"
    assert many["cases"][2]["evidence"]["series"][0] == 43.9
    assert [block["verdict"] for block in information] == ["frozen", "undecided"]


def test_nothing_that_is_not_json_is_written() -> None:
    rows = [flips_row("a", 0, 5, flip_fraction=math.nan, relative_update=math.inf)]
    results = make_results("flips", flips=make_table("flips", rows))
    for text in (render_json(results), render_jsonl(results)):
        assert "NaN" not in text
        assert "Infinity" not in text
    row = parse(render_jsonl(results))
    assert row["flip_fraction"] is None
    assert row["relative_update"] is None
    assert "nan" not in render_csv(results)


def test_lines_are_the_rows_of_the_main_table(results: Results) -> None:
    flips = replace(results, subject="flips")
    rows = [parse(line) for line in render_jsonl(flips).splitlines()]
    assert rows == flips.to_arrow("flips").to_pylist()


def test_the_main_table_of_a_report_is_its_alerts(results: Results) -> None:
    assert find_main_table(results) == "alerts"
    assert len(render_jsonl(results).splitlines()) == results.tables["alerts"].num_rows
    assert find_main_table(replace(results, subject="ranks")) == "ranks"


def test_an_empty_table_is_no_lines_and_a_heading() -> None:
    results = make_results("flips", flips=make_table("flips", []))
    assert render_jsonl(results) == ""
    assert render_csv(results).count("\n") == 1


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_json_keeps_a_hostile_name_whole_and_shows_only_ascii(name: str) -> None:
    results = replace(
        make_results("flips", flips=make_table("flips", [flips_row(name, 0, 5)])), run=name
    )
    for text in (render_json(results), render_jsonl(results)):
        assert all(" " <= character <= "~" or character == "\n" for character in text)
    assert parse(render_jsonl(results))["layer"] == name
    assert parse(render_json(results))["run"] == name


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_csv_keeps_a_hostile_name_in_one_cell_that_no_spreadsheet_obeys(name: str) -> None:
    table = make_table("flips", [flips_row(name, 0, 5, reason=name)])
    text = render_csv(make_results("flips", flips=table))
    lines = list(csv.reader(io.StringIO(text)))
    assert [len(line) for line in lines] == [len(table.column_names)] * 2
    assert lines[1][0].lstrip("'")[:1] == name[:1]
    assert not lines[1][0].startswith(("=", "+", "-", "@"))
    assert all(line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_csv_marks_formulas_but_never_numbers(start: str) -> None:
    text = render_csv_rows(["a", "b", "c"], [[f"{start}1", -1.5, -2]])
    assert text == f"a,b,c\n'{start}1,-1.5,-2\n"


def test_csv_numbers_are_complete_and_undefined_is_empty() -> None:
    text = render_csv_rows(["a", "b", "c", "d"], [[0.1 + 0.2, None, math.nan, [1, 2]]])
    assert text.splitlines()[1] == '0.30000000000000004,,,"[1, 2]"'


def test_what_json_has_no_word_for_is_written_as_text() -> None:
    assert json.loads(dump_json({"a": (1, math.inf), 2: complex(1)})) == {
        "a": [1, None],
        "2": "(1+0j)",
    }
