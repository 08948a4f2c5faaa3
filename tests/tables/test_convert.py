"""Records to tables, column by column."""

import math
from dataclasses import asdict, fields, replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from altgrad_inspect.records import (
    Alert,
    CheckpointRecord,
    FlipRecord,
    LayerRecord,
    RankRecord,
    Severity,
    SkippedLayer,
    Status,
    TrendPoint,
    TrendState,
)
from altgrad_inspect.tables.columns import TableSchema
from altgrad_inspect.tables.convert import Record, build_table
from altgrad_inspect.tables.schema import (
    ALERTS,
    CHECKPOINTS,
    FLIPS,
    LAYERS,
    RANKS,
    SKIPPED,
    TABLES,
    TRENDS,
)
from tests.tables.examples import COUNTS, SPECTRUM, flip_record, rank_record

POINT = TrendPoint(
    layer="a",
    matrix=0,
    metric="stable_rank",
    step=1,
    value=2.0,
    ema=2.5,
    baseline=3.0,
    drop_fraction=0.2,
    threshold=0.3,
    state=TrendState.WARMUP,
)
ALERT = Alert(
    fingerprint="0123456789abcdef",
    rule="rank-drop",
    severity=Severity.CRITICAL,
    layer="a",
    matrix=0,
    metric="stable_rank",
    step_onset=1,
    step_detected=2,
    value=None,
    baseline=3.0,
    drop_fraction=0.7,
    message="It fell.",
)
CHECKPOINT = CheckpointRecord(
    step=1,
    path="checkpoint-1",
    layout="trainer",
    scheme=None,
    num_layers=2,
    num_weights=3,
    size_bytes=4,
    fingerprint="f",
    loss=0.5,
)
LAYER = LayerRecord(
    layer="a",
    dtype="F32",
    shape=(2, 3),
    num_weights=6,
    num_checkpoints=2,
    step_first=1,
    step_last=2,
    scheme="generic",
    recognised_by="I8 beside scale",
)
SKIPPED_LAYER = SkippedLayer(layer="a", shape=(), dtype="F32", reason="scalar")


def test_a_flip_record_fills_every_column() -> None:
    (row,) = build_table(FLIPS, [flip_record()]).to_pylist()
    expected = asdict(COUNTS) | {
        "layer": "a",
        "quantizer": "e4m3:tensor:amax",
        "step_from": 1,
        "step_to": 2,
        "flip_fraction": 0.1,
        "num_stalled": 40,
        "stall_fraction": 0.8,
        "recode_fraction": 0.2,
        "flip_excess": 0.25,
        "code_step_histogram": [9, 1, 0, 0, 0, 0, 0, 0, 0],
        "status": "ok",
        "reason": None,
    }
    assert row == expected


def test_a_rank_record_fills_every_column() -> None:
    (row,) = build_table(RANKS, [rank_record()]).to_pylist()
    expected = asdict(SPECTRUM) | {
        "layer": "a",
        "matrix": 0,
        "subject": "weight",
        "step": 1,
        "rows": 4,
        "cols": 9,
        "stable_rank_fraction": 0.5,
        "effective_rank_fraction": 0.75,
        "stable_rank_vs_random": pytest.approx(2 / (36 / 25)),
        "singular_values": [1.0, 0.5, 0.25, 0.0],
        "step_from": None,
        "rounding_floor": None,
        "status": "ok",
        "reason": None,
    }
    assert row == expected


@pytest.mark.parametrize(
    ("schema", "record"),
    [
        (TRENDS, POINT),
        (ALERTS, ALERT),
        (CHECKPOINTS, CHECKPOINT),
        (LAYERS, LAYER),
        (SKIPPED, SKIPPED_LAYER),
    ],
    ids=lambda value: value.name if isinstance(value, TableSchema) else "",
)
def test_a_flat_record_is_its_row(schema: TableSchema, record: Record) -> None:
    (row,) = build_table(schema, [record]).to_pylist()
    expected = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(record).items()
    }
    assert row == expected


@pytest.mark.parametrize(
    ("schema", "record", "given_columns"),
    [
        (FLIPS, replace(flip_record(counts=None), status=Status.FAILED, reason="r"), FlipRecord),
        (
            RANKS,
            replace(
                rank_record(spectrum=None),
                step_from=0,
                rounding_floor=0.5,
                status=Status.FAILED,
                reason="r",
            ),
            RankRecord,
        ),
    ],
    ids=["flips", "ranks"],
)
def test_a_record_without_numbers_is_a_row_of_nulls(
    schema: TableSchema, record: Record, given_columns: type[FlipRecord | RankRecord]
) -> None:
    (row,) = build_table(schema, [record]).to_pylist()
    kept = {field.name for field in fields(given_columns)}
    assert {name for name, value in row.items() if value is not None} == kept & set(row)
    assert (row["status"], row["reason"]) == ("failed", "r")


@pytest.mark.parametrize("schema", TABLES.values(), ids=lambda schema: schema.name)
def test_no_records_make_an_empty_table_of_the_schema(schema: TableSchema) -> None:
    table = build_table(schema, [])
    assert table.num_rows == 0
    assert table.schema.equals(schema.arrow, check_metadata=True)


def test_rows_are_sorted_by_code_point_and_then_by_number() -> None:
    names = ["layers.10", "layers.2", "Layers", "é", "z", "\U0001f600", "\uffff"]
    records = [rank_record(layer=name, step=step) for name in names for step in (10, 9)]
    rows = build_table(RANKS, records).to_pylist()
    assert [row["step"] for row in rows] == [9, 10] * len(names)
    layers = [row["layer"] for row in rows[::2]]
    assert layers == ["Layers", "layers.10", "layers.2", "z", "é", "\uffff", "\U0001f600"]
    assert layers == sorted(layers, key=str.encode)


@given(order=st.permutations([(name, step) for name in "ab" for step in (1, 2, 3)]))
def test_the_order_of_the_records_does_not_matter(order: list[tuple[str, int]]) -> None:
    table = build_table(RANKS, [rank_record(layer=name, step=step) for name, step in order])
    assert table.equals(table.sort_by([("layer", "ascending"), ("step", "ascending")]))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused(wrong: float) -> None:
    record = flip_record(counts=replace(COUNTS, update_norm=wrong))
    with pytest.raises(ValueError, match=r"flips\.update_norm: -?(nan|inf) in a record, expected"):
        build_table(FLIPS, [record])


def test_a_singular_value_that_is_not_finite_is_refused() -> None:
    record = rank_record(spectrum=replace(SPECTRUM, singular_values=(1.0, math.nan)))
    with pytest.raises(ValueError, match=r"ranks\.singular_values: nan in a record"):
        build_table(RANKS, [record])


def test_singular_values_beyond_float32_are_null_and_not_infinite() -> None:
    record = rank_record(spectrum=replace(SPECTRUM, singular_values=(1e39, 1.0)))
    assert build_table(RANKS, [record]).column("singular_values").to_pylist() == [None]


def test_two_different_rows_with_one_key_are_refused() -> None:
    records = [rank_record(), rank_record(spectrum=None)]
    with pytest.raises(ValueError, match="ranks: two different rows for a, 0, weight, 1, expected"):
        build_table(RANKS, records)


def test_a_layer_skipped_in_every_checkpoint_is_said_once_a_shape() -> None:
    reshaped = replace(SKIPPED_LAYER, shape=(2, 3))
    table = build_table(SKIPPED, [SKIPPED_LAYER, reshaped, SKIPPED_LAYER])
    assert table.column("shape").to_pylist() == [[], [2, 3]]


def test_a_path_that_is_not_utf8_is_kept_readable() -> None:
    record = replace(CHECKPOINT, path="run/\udcff-1")
    assert build_table(CHECKPOINTS, [record]).column("path").to_pylist() == ["run/\\udcff-1"]


def test_numbers_are_stored_with_the_types_of_the_contract() -> None:
    types = {field.name: field.type for field in build_table(RANKS, [rank_record()]).schema}
    assert types["step"] == pa.int64()
    assert types["stable_rank"] == pa.float64()
    assert types["singular_values"] == pa.list_(pa.float32())
