"""The rule outlier-dominated: one weight became the spectral norm."""

from dataclasses import replace

import pyarrow as pa
import pytest

from altgrad_inspect.records import Alert, RankRecord, Severity
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.tables.convert import build_table
from altgrad_inspect.tables.schema import RANKS
from altgrad_inspect.trends.detect import diagnose
from altgrad_inspect.trends.rules.outlier import Rise, find_outlier_shares, find_rise
from tests.tables.examples import SPECTRUM, rank_record

RANK = [9.5, 9.4, 9.3, 9.2, 9.1, 5.9, 3.9, 2.9, 2.2, 1.9]
SHARE = [0.09, 0.08, 0.07, 0.07, 0.29, 0.71, 0.82, 0.88, 0.92, 0.95]


def records_of(
    ranks: list[float], shares: list[float], *, layer: str = "h.2.v_proj", subject: str = "weight"
) -> list[RankRecord]:
    return [
        replace(
            rank_record(layer, 100 * (index + 1)),
            subject=subject,
            matrix=3,
            spectrum=replace(
                SPECTRUM, stable_rank=rank, effective_rank=30.0, outlier_share=float(share)
            ),
        )
        for index, (rank, share) in enumerate(zip(ranks, shares, strict=True))
    ]


def outliers_of(table: pa.Table) -> list[Alert]:
    found = diagnose(TrendSettings(), ranks=table).alerts
    return [alert for alert in found if alert.rule == "outlier-dominated"]


def test_an_outlier_that_takes_the_rank_is_named_since_it_rose() -> None:
    (alert,) = outliers_of(build_table(RANKS, records_of(RANK, SHARE)))
    assert alert.severity is Severity.CRITICAL
    assert (alert.layer, alert.matrix, alert.metric) == ("h.2.v_proj", 3, "outlier_share")
    assert (alert.step_onset, alert.step_detected) == (500, 600)
    assert (alert.value, alert.baseline, alert.drop_fraction) == (0.71, 0.08, None)
    assert alert.message == (
        "One weight of h.2.v_proj[3] took over its spectral norm: its share rose from 0.08 to"
        " 0.95 since step 500, while the stable rank fell (rank-break)."
    )


@pytest.mark.parametrize(
    ("ranks", "shares"),
    [
        (RANK, [0.98] * 10),  # it was there all along
        (RANK, [0.09] * 10),
        ([9.5] * 10, SHARE),  # no rank was lost
        (RANK, [*SHARE[:9], 0.4]),  # it went again
        (RANK, [0.95, *SHARE[1:5], *[0.5] * 5]),  # at the limit is not above it
    ],
)
def test_neither_alone_is_enough(ranks: list[float], shares: list[float]) -> None:
    assert outliers_of(build_table(RANKS, records_of(ranks, shares))) == []


def test_updates_have_no_say() -> None:
    rows = [
        *records_of([9.5] * 10, [0.05] * 10),
        *records_of(RANK, SHARE, subject="update"),
    ]
    table = build_table(RANKS, rows)
    assert outliers_of(table) == []
    assert [share for _, share in find_outlier_shares(table)["h.2.v_proj", 3]] == [0.05] * 10


def test_a_decline_that_is_no_fault_without_an_outlier_is_a_warning_with_one() -> None:
    slowing = [40, 25, 20, 15, 12, 10.5, 10, 9.8, 9.7, 9.6]
    ranks = [float(rank) for rank in slowing]
    (alert,) = outliers_of(build_table(RANKS, records_of(ranks, SHARE)))
    assert alert.severity is Severity.WARNING


def test_undefined_rows_are_left_out() -> None:
    rows = records_of(RANK, SHARE)
    rows[2] = replace(rows[2], spectrum=None)
    shares = find_outlier_shares(build_table(RANKS, rows))
    assert [step for step, _ in shares["h.2.v_proj", 3]] == [100, 200, *range(400, 1001, 100)]
    assert find_outlier_shares(None) == {}


@pytest.mark.parametrize(
    ("shares", "rise"),
    [
        ([], None),
        ([0.9], None),
        ([0.1, 0.9], Rise(onset=1, detected=1, before=0.1)),
        ([0.1, 0.1, 0.3, 0.9], Rise(onset=2, detected=3, before=0.1)),
        ([0.9, 0.1, 0.3, 0.9, 0.9], Rise(onset=3, detected=3, before=0.3)),
        ([0.9, 0.9, 0.1], None),
        ([0.1, 0.9, 0.2, 0.9], Rise(onset=3, detected=3, before=0.2)),
    ],
)
def test_a_rise_is_the_last_one_for_good(shares: list[float], rise: Rise | None) -> None:
    assert find_rise(shares, 0.5) == rise
