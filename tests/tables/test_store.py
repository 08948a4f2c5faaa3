"""Tables on disk, read back by us and by others, intact and damaged."""

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from altgrad_inspect.errors import OutputError
from altgrad_inspect.records import SkippedLayer
from altgrad_inspect.tables import store
from altgrad_inspect.tables.columns import TableSchema
from altgrad_inspect.tables.convert import build_table
from altgrad_inspect.tables.schema import FLIPS, RANKS, SKIPPED, TABLES
from altgrad_inspect.tables.store import read_settings, read_table, write_tables
from tests.tables.examples import (
    RANK_FIELDS,
    SKIPPED_FIELDS,
    SPECTRUM,
    flip_record,
    rank_record,
    rank_record_of,
)

LAYERS = ("lm_head.weight", "é 層", "a\nb\x1b[31m", "")


def build_flips() -> pa.Table:
    return build_table(FLIPS, [flip_record(layer, step) for layer in LAYERS for step in range(20)])


def build_ranks() -> pa.Table:
    spectra = [SPECTRUM, None, replace(SPECTRUM, numerical_rank=None, singular_values=None)]
    return build_table(
        RANKS,
        [rank_record(layer, step, spectra[step % 3]) for layer in LAYERS for step in range(20)],
    )


def key_of(fields: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(fields[name] for name in RANKS.sort_keys)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(RANK_FIELDS, max_size=3, unique_by=key_of))
def test_any_ranks_come_back_as_they_were(rows: list[dict[str, Any]]) -> None:
    table = build_table(RANKS, [rank_record_of(row) for row in rows])
    with TemporaryDirectory() as name:
        write_tables({"ranks": table}, Path(name), {})
        again = read_table(Path(name), "ranks")
    assert again.equals(table)
    assert again.schema.equals(table.schema)
    for row in rows:
        (same,) = (one for one in again.to_pylist() if key_of(one) == key_of(row))
        assert {name: same[name] for name in row if name != "spectrum"} == {
            name: value for name, value in row.items() if name != "spectrum"
        }


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(SKIPPED_FIELDS, max_size=3))
def test_any_skipped_layers_come_back_as_they_were(rows: list[dict[str, Any]]) -> None:
    table = build_table(SKIPPED, [SkippedLayer(**row) for row in rows])
    with TemporaryDirectory() as name:
        write_tables({"skipped": table}, Path(name), {})
        assert read_table(Path(name), "skipped").equals(table)


@pytest.mark.parametrize("schema", TABLES.values(), ids=lambda schema: schema.name)
def test_an_empty_table_comes_back_with_its_descriptions(
    tmp_path: Path, schema: TableSchema
) -> None:
    write_tables({schema.name: build_table(schema, [])}, tmp_path, {})
    again = read_table(tmp_path, schema.name)
    assert again.num_rows == 0
    assert all(
        again.schema.field(name).metadata == schema.arrow.field(name).metadata
        for name in schema.columns
    )


def test_a_file_says_which_settings_and_version_wrote_it(tmp_path: Path) -> None:
    (path,) = write_tables({"flips": build_flips()}, tmp_path, {"b": (1, 2), "a": None})
    metadata = pq.read_schema(path).metadata
    assert metadata is not None
    assert metadata[b"altgrad.schema"] == b"1"
    assert metadata[b"altgrad.settings"] == b'{"a": null, "b": [1, 2]}'
    assert metadata[b"altgrad.version"]
    assert read_settings(read_table(tmp_path, "flips")) == {"a": None, "b": [1, 2]}
    assert read_settings(build_flips()) == {}


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    table = build_ranks()
    in_pieces = pa.concat_tables([table.slice(0, 7), table.slice(7)])
    (first,) = write_tables({"ranks": table}, tmp_path / "1", {"a": 1, "b": 2})
    (second,) = write_tables({"ranks": in_pieces}, tmp_path / "2", {"b": 2, "a": 1})
    script = (
        "from pathlib import Path; import sys; from tests.tables.test_store import *\n"
        "write_tables({'ranks': build_ranks()}, Path(sys.argv[1]), {'a': 1, 'b': 2})"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "3")], check=True)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() == (tmp_path / "3" / "ranks.parquet").read_bytes()


def test_300_flipped_bits_are_all_noticed(tmp_path: Path) -> None:
    (path,) = write_tables({"ranks": build_ranks()}, tmp_path, {"alpha": 0.3})
    data = path.read_bytes()
    chooser = random.Random(0)  # noqa: S311
    for position in chooser.sample(range(8 * len(data)), 300):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(OutputError, match=r"ranks\.parquet: damaged, or not written by"):
            read_table(tmp_path, "ranks")


def test_every_single_bit_of_a_file_counts(tmp_path: Path) -> None:
    (path,) = write_tables({"skipped": build_table(SKIPPED, [])}, tmp_path, {})
    data = bytearray(path.read_bytes())
    assert store._has_its_digest(data)
    for position in range(8 * len(data)):
        data[position // 8] ^= 1 << position % 8
        assert not store._has_its_digest(data), position
        data[position // 8] ^= 1 << position % 8


def test_how_a_table_is_chunked_in_memory_leaves_no_trace() -> None:
    steps = range(50_000)
    names = [f"layer {step}" for step in steps]
    whole = pa.table({"step": steps, "layer": names, "shape": [[step, 1] for step in steps]})
    pieces = [whole.slice(start, 777) for start in range(0, 50_000, 777)]
    assert store._serialise(whole, {}) == store._serialise(pa.concat_tables(pieces), {})


@pytest.mark.parametrize("kept", [0, 1, 4, 100, -1])
def test_a_cut_file_is_noticed(tmp_path: Path, kept: int) -> None:
    (path,) = write_tables({"ranks": build_ranks()}, tmp_path, {})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(OutputError, match=r"damaged, or not written by altgrad-inspect \(run it"):
        read_table(tmp_path, "ranks")


def test_other_programs_notice_flipped_bits_in_the_pages(tmp_path: Path) -> None:
    (path,) = write_tables({"ranks": build_ranks()}, tmp_path, {})
    column = pq.ParquetFile(path).metadata.row_group(0).column(6)
    assert column.path_in_schema == "stable_rank"
    data = bytearray(path.read_bytes())
    data[column.data_page_offset - 1] ^= 1  # the last byte of its dictionary page
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"CRC|checksum"):
        pq.read_table(path, page_checksum_verification=True)


@pytest.mark.parametrize("name", ["flips", "ranks"])
def test_duckdb_polars_and_pandas_read_the_same(tmp_path: Path, name: str) -> None:
    table = {"flips": build_flips, "ranks": build_ranks}[name]()
    (path,) = write_tables({name: table}, tmp_path, {})
    rows = table.to_pylist()
    assert pl.read_parquet(path).to_dicts() == rows
    read = duckdb.read_parquet(str(path))
    assert [dict(zip(read.columns, row, strict=True)) for row in read.fetchall()] == rows
    frame = pd.read_parquet(path, dtype_backend="pyarrow")
    assert pa.Table.from_pandas(frame, schema=table.schema).to_pylist() == rows


def test_other_programs_find_the_worst_layer_by_name(tmp_path: Path) -> None:
    write_tables({"ranks": build_ranks()}, tmp_path, {})
    found = duckdb.read_parquet(f"{tmp_path}/ranks.parquet").filter("layer = 'é 層'")
    assert len(found.fetchall()) == 20


@pytest.mark.parametrize(
    ("name", "command"),
    [("flips", "flips"), ("ranks", "rank"), ("alerts", "trend"), ("checkpoints", "report")],
)
def test_a_missing_table_names_the_command_that_makes_it(
    tmp_path: Path, name: str, command: str
) -> None:
    expected = rf"{name}\.parquet: not there \(make it with `altgrad-inspect {command} --out /"
    with pytest.raises(OutputError, match=expected):
        read_table(tmp_path, name)
    with pytest.raises(OutputError, match=expected):
        read_table(tmp_path / "nowhere", name)


def test_a_directory_in_the_place_of_a_table_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "ranks.parquet").mkdir()
    with pytest.raises(OutputError, match=r"ranks\.parquet: cannot be read: Is a directory"):
        read_table(tmp_path, "ranks")


def test_a_newer_schema_names_the_version_that_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store, "SCHEMA_VERSION", 7)
        patch.setattr(store, "_read_program_version", lambda: "9.9")
        write_tables({"ranks": build_ranks()}, tmp_path, {})
    with pytest.raises(OutputError, match=r"by altgrad-inspect 9\.9 with schema 7, this version r"):
        read_table(tmp_path, "ranks")


def test_a_column_that_an_older_version_did_not_write_is_null(tmp_path: Path) -> None:
    older = pa.schema([field for field in RANKS.arrow if field.name != "outlier_share"])
    data = store._serialise(build_ranks().select(older.names), {})
    (tmp_path / "ranks.parquet").write_bytes(data)
    again = read_table(tmp_path, "ranks")
    assert again.column("outlier_share").null_count == again.num_rows
    assert again.drop_columns("outlier_share").equals(build_ranks().drop_columns("outlier_share"))


def test_a_table_with_other_types_is_not_taken_for_ours(tmp_path: Path) -> None:
    data = store._serialise(pa.table({"layer": ["a"], "step": ["not a number"]}), {})
    (tmp_path / "ranks.parquet").write_bytes(data)
    with pytest.raises(OutputError, match=r"ranks\.parquet: not a table of ranks \(run altgrad"):
        read_table(tmp_path, "ranks")


def test_an_intact_file_that_is_no_parquet_cannot_be_parsed(tmp_path: Path) -> None:
    data = bytearray(b"altgrad.digest" + b"\x18\x40" + b"0" * 64)
    data[16:] = store._measure_digest(data, 16)
    (tmp_path / "ranks.parquet").write_bytes(data)
    with pytest.raises(OutputError, match=r"ranks\.parquet: cannot be parsed: ArrowInvalid \(run"):
        read_table(tmp_path, "ranks")


def test_foreign_parquet_is_not_taken_for_ours(tmp_path: Path) -> None:
    pq.write_table(build_ranks(), tmp_path / "ranks.parquet")
    with pytest.raises(OutputError, match="or not written by altgrad-inspect"):
        read_table(tmp_path, "ranks")


def test_columns_that_are_not_of_the_schema_are_a_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="field names are not matching"):
        write_tables({"ranks": build_flips()}, tmp_path, {})
    assert list(tmp_path.iterdir()) == []


def test_settings_that_json_cannot_hold_are_a_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_tables({"ranks": build_ranks()}, tmp_path, {"alpha": float("nan")})


def test_a_failed_write_keeps_the_table_that_was_there(tmp_path: Path) -> None:
    (path,) = write_tables({"ranks": build_ranks()}, tmp_path, {"round": 1})
    (tmp_path / "flips.parquet").mkdir()
    with pytest.raises(OutputError, match=r"flips\.parquet: cannot be written: Is a directory"):
        write_tables({"ranks": build_ranks(), "flips": build_flips()}, tmp_path, {"round": 2})
    assert json.loads(pq.read_schema(path).metadata[b"altgrad.settings"]) == {"round": 1}


WRITER = """
import itertools, sys
from pathlib import Path
from tests.tables.test_store import build_flips, build_ranks, write_tables
tables = {"ranks": build_ranks(), "flips": build_flips()}
print("ready", flush=True)
for round in itertools.count():
    write_tables(tables, Path(sys.argv[1]), {"round": round})
"""


def test_tables_of_a_killed_writer_are_old_or_new(tmp_path: Path) -> None:
    write_tables({"ranks": build_ranks(), "flips": build_flips()}, tmp_path, {"round": -1})
    for attempt in range(4):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(0.003 + 0.004 * attempt)
            writer.send_signal(signal.SIGKILL)
        assert read_table(tmp_path, "ranks").equals(build_ranks())
        assert read_table(tmp_path, "flips").equals(build_flips())
