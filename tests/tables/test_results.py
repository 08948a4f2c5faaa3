"""What a command hands back."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from altgrad_inspect.errors import NothingMatchedError, OutputError
from altgrad_inspect.records import SkippedLayer, Status
from altgrad_inspect.tables.convert import build_table
from altgrad_inspect.tables.results import Results
from altgrad_inspect.tables.schema import FLIPS, LAYERS, RANKS, SKIPPED
from tests.tables.examples import flip_record, rank_record

RANK_TABLE = build_table(RANKS, [rank_record(step=1), rank_record(step=2, spectrum=None)])
FLIP_TABLE = build_table(FLIPS, [flip_record()])


def build_results(**tables: pa.Table) -> Results:
    return Results(
        subject=next(iter(tables)), run="runs/one", tables=tables, settings={"alpha": 0.3}
    )


def test_the_main_table_is_meant_if_none_is_named() -> None:
    results = build_results(ranks=RANK_TABLE, flips=FLIP_TABLE)
    assert results.to_arrow() is RANK_TABLE
    assert results.to_arrow("flips") is FLIP_TABLE


def test_a_table_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(NothingMatchedError, match=r"alerts: no such table .* one of: ranks, flips"):
        build_results(ranks=RANK_TABLE, flips=FLIP_TABLE).to_arrow("alerts")


def test_tables_that_were_not_made_are_none() -> None:
    results = build_results(ranks=RANK_TABLE)
    assert results.ranks is RANK_TABLE
    others = (results.flips, results.trends, results.alerts, results.skipped, results.checkpoints)
    assert others == (None,) * 5


def test_integers_stay_integers_in_pandas_with_and_without_nulls() -> None:
    frame = build_results(ranks=RANK_TABLE).to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert frame["numerical_rank"].dtype == pd.Int64Dtype()
    assert frame["step"].dtype == pd.Int64Dtype()
    assert frame["numerical_rank"][0] == 4
    assert frame["numerical_rank"][1] is pd.NA
    assert frame["stable_rank"].dtype == "float64"
    assert pd.isna(frame["stable_rank"][1])
    assert len(build_results(flips=FLIP_TABLE).to_pandas("flips")) == 1


def test_failed_rows_are_counted_over_all_tables() -> None:
    failed = replace(rank_record(step=3, spectrum=None), status=Status.FAILED, reason="no memory")
    skipped = build_table(SKIPPED, [SkippedLayer(layer="a", shape=(), dtype="F32", reason="0-D")])
    ranks = build_table(RANKS, [rank_record(), failed])
    flips = build_table(FLIPS, [replace(flip_record(counts=None), status=Status.FAILED)])
    assert build_results(ranks=ranks, flips=flips, skipped=skipped).num_failed == 2
    assert build_results(ranks=RANK_TABLE, skipped=skipped).num_failed == 0


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    results = build_results(flips=FLIP_TABLE, ranks=RANK_TABLE)
    assert results.write(tmp_path) == [tmp_path / "flips.parquet", tmp_path / "ranks.parquet"]
    again = Results.read(str(tmp_path))
    assert (again.subject, again.run, again.settings) == ("flips", "runs/one", {"alpha": 0.3})
    assert again.notes == ()
    assert set(again.tables) == {"flips", "ranks"}
    assert again.to_arrow().equals(FLIP_TABLE)
    assert Results.read(tmp_path, "ranks").to_arrow().equals(RANK_TABLE)


def test_the_listing_of_layers_has_no_file(tmp_path: Path) -> None:
    results = build_results(ranks=RANK_TABLE, layers=build_table(LAYERS, []))
    assert results.write(tmp_path) == [tmp_path / "ranks.parquet"]


def test_tables_of_another_run_are_noted(tmp_path: Path) -> None:
    build_results(flips=FLIP_TABLE).write(tmp_path)
    replace(build_results(ranks=RANK_TABLE), run="runs/two").write(tmp_path)
    (note,) = Results.read(tmp_path).notes
    assert note == f"{tmp_path}/ranks.parquet is of another run: runs/two, not runs/one"


def test_a_directory_without_tables_names_the_command_that_makes_them(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(OutputError, match="no tables there, expected at least one of flips"):
            Results.read(directory)


def test_a_main_table_that_is_missing_names_the_command_that_makes_it(tmp_path: Path) -> None:
    build_results(ranks=RANK_TABLE).write(tmp_path)
    with pytest.raises(OutputError, match=r"flips\.parquet: not there"):
        Results.read(tmp_path, "flips")


def test_results_introduce_themselves_in_one_line() -> None:
    results = Results(subject="ranks", run="run/", tables={"ranks": build_table(RANKS, [])})
    assert repr(results) == "<Results ranks of run/; ranks: 0 rows>"
