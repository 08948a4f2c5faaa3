"""Two runs side by side, from rows by hand."""

from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pytest

import altgrad_inspect as ai
from altgrad_inspect.records import (
    Alert,
    FlipRecord,
    RankRecord,
    Severity,
    TrendPoint,
    TrendState,
    Verdict,
    VerdictRecord,
)
from altgrad_inspect.tables.convert import Record, build_table
from altgrad_inspect.tables.results import Results
from altgrad_inspect.tables.schema import TABLES
from altgrad_inspect.trends.compare import compare_runs
from tests.tables.examples import COUNTS, SPECTRUM, flip_record, rank_record

QUANT = "e4m3:tensor:amax"


def make_results(**records: list[Record]) -> Results:
    tables = {name: build_table(TABLES[name], rows) for name, rows in records.items()}
    return Results(subject=next(iter(tables)), run="run", tables=tables)


def rank(layer: str, step: int, stable: float, *, matrix: int = 0) -> RankRecord:
    spectrum = replace(SPECTRUM, stable_rank=stable, effective_rank=2 * stable)
    return replace(rank_record(spectrum=spectrum), layer=layer, step=step, matrix=matrix)


def flip(layer: str, step: int, num_flipped: int, *, quantizer: str = QUANT) -> FlipRecord:
    counts = replace(COUNTS, num_weights=100, num_updated=50, num_flipped=num_flipped)
    return replace(
        flip_record(counts=counts),
        layer=layer,
        quantizer=quantizer,
        step_from=step - 1,
        step_to=step,
    )


def point(layer: str, metric: str, step: int, drop: float | None) -> TrendPoint:
    return TrendPoint(
        layer=layer,
        matrix=0,
        metric=metric,
        step=step,
        value=1.0,
        ema=1.0,
        baseline=1.0,
        drop_fraction=drop,
        threshold=0.3,
        state=TrendState.OK,
    )


def alert(layer: str, severity: Severity, rule: str) -> Alert:
    return Alert(
        fingerprint=f"{layer}{rule}",
        rule=rule,
        severity=severity,
        layer=layer,
        matrix=0,
        metric="stable_rank",
        step_onset=1,
        step_detected=2,
        value=1.0,
        baseline=2.0,
        drop_fraction=0.5,
        message="m",
    )


def verdict(layer: str, word: Verdict) -> VerdictRecord:
    return VerdictRecord(
        layer=layer, verdict=word, severity=Severity.INFO, step_onset=None, evidence="e"
    )


@pytest.fixture
def a() -> Results:
    update = replace(rank("w", 3, 99.0), subject="update", step_from=2)
    return make_results(
        ranks=[rank("w", 1, 8.0), rank("w", 2, 6.0), rank("w", 3, 4.0), update],
        flips=[flip("w", 2, 10), flip("w", 3, 30), flip("w", 4, 20), flip("v", 4, 5)],
        trends=[point("w", "stable_rank", 2, 0.1), point("w", "stable_rank", 3, 0.4)],
        alerts=[
            alert("w", Severity.CRITICAL, "rank-drop"),
            alert("w", Severity.WARNING, "rank-slide"),
            alert("w", Severity.WARNING, "oscillation"),
            alert("w", Severity.INFO, "flips-fading"),
        ],
        verdicts=[verdict("w", Verdict.COLLAPSING), verdict("v", Verdict.HEALTHY)],
    )


@pytest.fixture
def b() -> Results:
    return make_results(
        ranks=[rank("w", 10, 7.0), rank("only b", 10, 3.0), rank("only b", 10, 5.0, matrix=1)],
        flips=[flip("w", 10, 40), flip("w", 10, 1, quantizer="int8:channel:amax")],
        alerts=[],
        verdicts=[verdict("w", Verdict.HEALTHY), verdict("only b", Verdict.HEALTHY)],
    )


def compare_rows(a: Results, b: Results) -> dict[tuple[str, int], dict[str, Any]]:
    rows = build_table(TABLES["compare"], compare_runs(a, b).rows).to_pylist()
    return {(row["layer"], row["matrix"]): row for row in rows}


def totals(a: Results, b: Results) -> dict[str, tuple[Any, Any]]:
    return {row.measure: (row.a, row.b) for row in compare_runs(a, b).totals}


def test_a_layer_is_compared_at_the_end_of_both_runs(a: Results, b: Results) -> None:
    row = compare_rows(a, b)["w", 0]
    assert row["present"] == "both"
    assert (row["step_a"], row["step_b"]) == (3, 10)
    assert (row["stable_rank_a"], row["stable_rank_b"]) == (4.0, 7.0)
    assert (row["effective_rank_a"], row["effective_rank_b"]) == (8.0, 14.0)
    assert (row["stable_rank_drop_a"], row["stable_rank_drop_b"]) == (0.4, None)
    assert (row["flip_fraction_a"], row["flip_fraction_b"]) == (0.2, 0.4)
    assert (row["stall_fraction_a"], row["stall_fraction_b"]) == (0.6, 0.2)
    assert (row["verdict_a"], row["verdict_b"]) == ("collapsing", "healthy")
    assert (row["num_critical_a"], row["num_critical_b"]) == (1, 0)
    assert (row["num_warning_a"], row["num_warning_b"]) == (2, 0)
    assert row["quantizer"] == QUANT


def test_layers_of_one_run_say_which(a: Results, b: Results) -> None:
    rows = compare_rows(a, b)
    assert rows["v", 0]["present"] == "a"
    assert rows["v", 0]["step_a"] == 4
    assert rows["v", 0]["stable_rank_a"] is None
    assert rows["only b", 0]["present"] == rows["only b", 1]["present"] == "b"
    assert rows["only b", 1]["stable_rank_b"] == 5.0
    assert rows["only b", 1]["verdict_b"] == "healthy"
    assert rows["only b", 0]["num_critical_a"] is None
    assert set(rows) == {("w", 0), ("v", 0), ("only b", 0), ("only b", 1)}


def test_totals_count_layers_alerts_and_verdicts(a: Results, b: Results) -> None:
    found = totals(a, b)
    assert found["num_layers"] == (2, 2)
    assert found["num_critical"] == (1, 0)
    assert found["num_warning"] == (2, 0)
    assert found["num_info"] == (1, 0)
    assert found["verdict collapsing"] == (1, 0)
    assert found["verdict healthy"] == (1, 2)
    assert found["median stable_rank"] == (4, 5)
    assert found["median flip_fraction"] == (median([0.2, 0.05]), 0.4)


def test_the_quantizer_of_most_layers_is_compared() -> None:
    """A run of stored codes has the default quantizer for its few plain layers."""
    coded = "stored:float8_e4m3fn"
    flips: list[Record] = [
        flip("norm", 2, 3),
        flip("up", 2, 5, quantizer=coded),
        flip("down", 2, 5, quantizer=coded),
    ]
    compared = compare_runs(make_results(flips=flips), make_results(flips=flips))
    assert {row.layer for row in compared.rows if row.quantizer} == {"up", "down"}
    assert {row.quantizer for row in compared.rows if row.layer == "up"} == {"stored:float8_e4m3fn"}
    assert any("stored:float8_e4m3fn" in note for note in compared.notes)


def test_flips_of_quantizers_that_only_one_run_has_are_not_compared(a: Results) -> None:
    other = make_results(flips=[flip("w", 2, 1, quantizer="int8:tensor:amax")])
    compared = compare_runs(a, other)
    assert any("share no quantizer (e4m3:tensor:amax and int8" in note for note in compared.notes)
    assert all(row.quantizer is None for row in compared.rows)
    assert compare_rows(a, other)["w", 0]["flip_fraction_a"] is None


def test_missing_tables_are_named_and_are_no_zeros(a: Results) -> None:
    other = make_results(ranks=[rank("w", 1, 8.0)])
    assert compare_runs(a, other).notes == (
        "B has no table flips: analyse the run with `altgrad-inspect report`",
        "B has no table verdicts: analyse the run with `altgrad-inspect report`",
    )
    found = totals(a, other)
    assert found["num_critical"] == (1, None)
    assert found["verdict collapsing"] == (1, None)


def test_a_run_against_itself_shows_no_difference(a: Results, tmp_path: Path) -> None:
    a.write(tmp_path)
    results = ai.compare(tmp_path, tmp_path)
    table = results.to_arrow()
    assert table.num_rows == 2
    for name in table.column_names:
        if name.endswith("_a"):
            twin = table.column(f"{name.removesuffix('_a')}_b")
            assert table.column(name).equals(twin), name
    assert set(table.column("present").to_pylist()) == {"both"}
    sums: pa.Table = results.to_arrow("compare_totals")
    assert sums.column("a").equals(sums.column("b"))
    assert results.notes == ()
