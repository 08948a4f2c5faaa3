"""What the rules about ranks make of a run that is still learning fast."""

import pytest

from altgrad_inspect.records import Severity
from tests.trends.courses import (
    STABLE,
    Courses,
    accusations_of,
    alerts_of,
    evidence_of,
    peers_of,
    watch,
)

BROKEN: Courses = {
    **peers_of([20.0] * 9),
    ("lm_head.weight", STABLE): [10.3, 10.4, 10.3, 10.4, 10.3, 4.2, 4.1, 4.0, 4.0],
}
STEEP = [3.7, 3.5, 3.2, 2.9, 2.5, 2.2, 1.9, 1.7, 1.5]
FLAT = [2.00, 1.99, 1.98, 1.97, 1.96, 1.95, 1.94, 1.93, 1.92]

RESTED = [11.4, 11.5, 11.7, 11.8, 11.4, 10.9, 9.6, 8.1, 7.1, 6.5, 6.3, 6.1, 5.9, 5.8, 5.7, 5.6]
LATE: Courses = {("lm_head.weight", STABLE): [*RESTED, *[5.5] * 8]}
LEARNT = [3.7, 3.3, 3.0, 2.7, 2.5, 2.3, 2.1, 2.0, 1.9, 1.8, 1.7, 1.6, 1.6, 1.5, 1.5, 1.4]


def test_a_head_that_collapses_while_the_loss_falls_steeply_is_for_information() -> None:
    assert not any(watch(BROKEN, losses=STEEP).values())
    (alert,) = (
        one for one in alerts_of(evidence_of(BROKEN, losses=STEEP)) if one.rule == "rank-break"
    )
    assert alert.severity is Severity.INFO
    assert alert.message.endswith(
        "The run was still learning fast, as it is when healthy ranks fall."
    )


@pytest.mark.parametrize("losses", [(), FLAT, STEEP[::-1]])
def test_the_same_collapse_is_a_fault_once_the_loss_falls_slowly_or_is_not_known(
    losses: list[float],
) -> None:
    rules = {alert.rule for alert in accusations_of(evidence_of(BROKEN, losses=losses))}
    assert "rank-break" in rules


def test_a_fall_that_began_while_most_was_still_to_be_learnt_stays_excused() -> None:
    losses = [*LEARNT, *[1.35, 1.35, 1.3, 1.3, 1.3, 1.3, 1.3, 1.3]]
    assert accusations_of(evidence_of(LATE, losses=losses)) == []
    (alert,) = (
        one for one in alerts_of(evidence_of(LATE, losses=losses)) if one.rule == "rank-drop"
    )
    assert "It began while the run was still learning fast" in alert.message


def test_the_same_fall_in_a_run_that_had_learnt_is_accused() -> None:
    losses = [3.7, 2.0, 1.5, *[1.4] * 21]
    assert accusations_of(evidence_of(LATE, losses=losses)) != []


@pytest.mark.parametrize("bad", [0.0, -1.0, float("inf")])
def test_a_loss_without_a_logarithm_is_left_out(bad: float) -> None:
    rules = {alert.rule for alert in accusations_of(evidence_of(BROKEN, losses=[bad] * 9))}
    assert "rank-break" in rules
