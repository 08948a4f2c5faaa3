"""From tables to trends and alerts."""

from dataclasses import replace

import pyarrow as pa
import pytest

from altgrad_inspect.errors import ConfigError
from altgrad_inspect.records import Alert, RankRecord, Status, TrendPoint
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.tables.convert import build_table
from altgrad_inspect.tables.schema import ALERTS, FLIPS, RANKS, TRENDS
from altgrad_inspect.trends.detect import diagnose
from tests.tables.examples import COUNTS, SPECTRUM, flip_record, rank_record

FALLING = [40.0] * 4 + [25.0] * 6  # 37.5 % once it has settled
SETTINGS = TrendSettings(alpha=0.9)


def find_trends(
    ranks: pa.Table | None, settings: TrendSettings, flips: pa.Table | None = None
) -> tuple[list[TrendPoint], list[Alert]]:
    diagnosis = diagnose(settings, ranks=ranks, flips=flips)
    others = {"rank-break", "rank-slide", "rank-early"}
    alerts = [alert for alert in diagnosis.alerts if alert.rule not in others]
    return list(diagnosis.points), alerts


def rank_records(
    layer: str, stable: list[float], effective: list[float] | None = None, subject: str = "weight"
) -> list[RankRecord]:
    pairs = zip(stable, effective or [50.0] * len(stable), strict=True)
    return [
        replace(
            rank_record(layer, 100 * index),
            subject=subject,
            spectrum=replace(SPECTRUM, stable_rank=one, effective_rank=other),
        )
        for index, (one, other) in enumerate(pairs)
    ]


def test_both_ranks_of_the_weights_are_smoothed_and_judged() -> None:
    records = [
        *rank_records("a", FALLING),
        *rank_records("b", [50.0] * 10, FALLING),
        *rank_records("b", FALLING, FALLING, subject="update"),
    ]
    points, alerts = find_trends(build_table(RANKS, records), SETTINGS)
    assert [(alert.layer, alert.metric) for alert in alerts] == [
        ("a", "stable_rank"),
        ("b", "effective_rank"),
    ]
    assert len(points) == 2 * 2 * 10
    assert {point.metric for point in points} == {"stable_rank", "effective_rank"}
    assert [point.value for point in points if (point.layer, point.metric[0]) == ("a", "s")] == (
        FALLING
    )


def test_critical_layers_get_half_of_the_threshold() -> None:
    records = [*rank_records("h.0.attn.c_proj.weight", FALLING), *rank_records("h.0.fc", FALLING)]
    points, alerts = find_trends(build_table(RANKS, records), SETTINGS)
    assert {point.threshold for point in points if "c_proj" in point.layer} == {0.15}
    assert {point.threshold for point in points if "fc" in point.layer} == {0.3}
    assert [(alert.layer, alert.severity.value) for alert in alerts] == [
        ("h.0.attn.c_proj.weight", "critical"),
        ("h.0.fc", "warning"),
    ]


@pytest.mark.parametrize(
    ("patterns", "threshold"),
    [(("h.*.fc",), 0.1), ((r"re:^h\.\d",), 0.1), (("H",), 0.2), ((), 0.2)],
)
def test_critical_layers_are_patterns(patterns: tuple[str, ...], threshold: float) -> None:
    tuning = TrendSettings(critical_layers=patterns, rank_drop_threshold=0.2)
    points, _ = find_trends(build_table(RANKS, rank_records("h.0.fc", FALLING)), tuning)
    assert {point.threshold for point in points} == {threshold}


def test_a_pattern_that_is_no_regular_expression_is_refused() -> None:
    tuning = TrendSettings(critical_layers=("re:(",))
    with pytest.raises(ConfigError, match=r"pattern 're:\(': is no regular expression"):
        find_trends(build_table(RANKS, rank_records("a", FALLING)), tuning)


def test_each_matrix_of_a_stack_is_a_series() -> None:
    stack = [
        replace(record, matrix=matrix)
        for matrix, values in enumerate([[40.0] * 10, FALLING])
        for record in rank_records("experts", values)
    ]
    points, alerts = find_trends(build_table(RANKS, stack), SETTINGS)
    assert [(alert.matrix, alert.metric) for alert in alerts] == [(1, "stable_rank")]
    assert {point.matrix for point in points} == {0, 1}


def test_a_row_without_a_rank_is_a_point_without_a_value() -> None:
    records = rank_records("a", FALLING)
    records[5] = replace(records[5], spectrum=None, status=Status.UNDEFINED, reason="zero matrix")
    points, _ = find_trends(build_table(RANKS, records), SETTINGS)
    (gap,) = (point for point in points if point.metric == "stable_rank" and point.step == 500)
    assert gap.value is None
    assert gap.ema == points[4].ema


def test_flips_are_smoothed_for_each_quantizer_and_fade_without_a_warning() -> None:
    unclipped = replace(COUNTS, num_saturated=0)
    records = [
        replace(
            flip_record("a", step, replace(unclipped, num_flipped=flipped)), quantizer=quantizer
        )
        for quantizer in ("e4m3:tensor:amax", "int8:channel:amax")
        for step, flipped in enumerate([50, 50, 50, 50, 4, 2, 1, 0, 0, 0])
    ]
    points, alerts = find_trends(None, SETTINGS, build_table(FLIPS, records))
    assert [(alert.rule, alert.severity.value) for alert in alerts] == 2 * [
        ("flips-fading", "info")
    ]
    assert [point.metric for point in points[::10]] == [
        "flip_fraction[e4m3:tensor:amax]",
        "flip_fraction[int8:channel:amax]",
    ]
    assert [point.step for point in points[:10]] == list(range(1, 11))
    assert [point.value for point in points[:5]] == [0.5, 0.5, 0.5, 0.5, 0.04]
    assert (points[9].state.value, points[9].threshold) == ("warning", 0.9)


def test_what_is_found_goes_into_its_tables() -> None:
    ranks = build_table(RANKS, rank_records("a", FALLING))
    flips = build_table(FLIPS, [flip_record(step=step) for step in range(10)])
    points, alerts = find_trends(ranks, SETTINGS, flips)
    assert build_table(TRENDS, points).num_rows == 30
    rows = build_table(ALERTS, alerts).to_pylist()
    assert ("rank-drop", "warning", "a") in {
        (row["rule"], row["severity"], row["layer"]) for row in rows
    }


def test_no_tables_have_no_trends() -> None:
    assert find_trends(None, SETTINGS) == ([], [])
    assert find_trends(build_table(RANKS, []), SETTINGS, build_table(FLIPS, [])) == ([], [])


def test_the_order_of_the_rows_does_not_matter() -> None:
    table = build_table(RANKS, [*rank_records("b", FALLING), *rank_records("a", FALLING)])
    backwards = table.take(list(range(table.num_rows))[::-1])
    assert find_trends(table, SETTINGS) == find_trends(backwards, SETTINGS)
