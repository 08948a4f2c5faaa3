"""What the rules about ranks make of many layers that fall at once."""

from dataclasses import replace

import pytest

from altgrad_inspect.records import Severity, Verdict
from altgrad_inspect.tables.convert import build_table
from altgrad_inspect.tables.schema import RANKS
from altgrad_inspect.trends.verdicts import find_verdicts
from tests.tables.examples import rank_record
from tests.trends.courses import (
    ATTENTION,
    LOSS,
    LOSS_BROKEN,
    MLP_BROKEN,
    MLP_INPUT,
    STABLE,
    accusations_of,
    alerts_of,
    evidence_of,
    peers_of,
    watch,
)


def test_a_run_that_breaks_is_one_alert_a_role() -> None:
    courses = {**peers_of(MLP_BROKEN), **peers_of(MLP_BROKEN, "h.{}.attn.c_attn")}
    (mlp, attention) = sorted(
        accusations_of(evidence_of(courses, losses=LOSS_BROKEN)), key=lambda alert: alert.layer
    )[::-1]
    assert (mlp.rule, mlp.layer, mlp.severity) == ("rank-break", "h.*.mlp.c_fc", Severity.CRITICAL)
    assert attention.layer == "h.*.attn.c_attn"
    assert (mlp.step_onset, mlp.step_detected) == (800, 800)
    assert "6 of 6 h.*.mlp.c_fc broke together at step 800" in mlp.message


def test_a_role_that_breaks_while_the_loss_improves_is_not_accused() -> None:
    evidence = evidence_of(peers_of(MLP_BROKEN), losses=LOSS[:12])
    assert accusations_of(evidence) == []
    (alert,) = (alert for alert in alerts_of(evidence) if alert.rule == "rank-break")
    assert alert.message.endswith("The loss goes on improving.")
    assert alert.severity is Severity.INFO


def test_one_layer_that_breaks_among_healthy_peers_is_named() -> None:
    courses = {**peers_of(MLP_INPUT[:12]), ("h.3.mlp.c_fc", STABLE): MLP_BROKEN}
    watched = watch(courses, losses=LOSS[:12])
    assert not any(watched[until] for until in range(1, 8))
    for until in range(8, 13):
        assert {alert.layer for alert in watched[until]} == {"h.3.mlp.c_fc"}


def test_the_layers_of_a_role_that_broke_are_collapsing_and_no_other() -> None:
    courses = {**peers_of(MLP_BROKEN), ("h.2.mlp.c_fc", STABLE): MLP_INPUT[:12]}
    evidence = evidence_of(courses, losses=LOSS_BROKEN)
    layers = sorted(layer for layer, _ in courses)
    ranks = build_table(
        RANKS, [rank_record(layer, step) for layer in layers for step in range(100, 1300, 100)]
    )
    verdicts = find_verdicts(replace(evidence, ranks=ranks), alerts_of(evidence))
    assert {row.layer: row.verdict for row in verdicts} == {
        layer: Verdict.HEALTHY if "2" in layer else Verdict.COLLAPSING for layer in layers
    }
    assert {row.step_onset for row in verdicts if row.verdict is Verdict.COLLAPSING} == {800}


def test_a_run_in_motion_excuses_a_fall_unless_the_loss_does_not_improve() -> None:
    course = [40.0] * 8 + [36, 32, 28, 24, 21, 19, 18, 17]
    others = {
        (f"layer{block}", STABLE): [
            value if block % 2 else 400 / value for value in (20 + 0.8 * at for at in range(16))
        ]
        for block in range(10)
    }
    courses = {("lm_head.weight", STABLE): course, **others}
    better, worse = [3 - 0.05 * at for at in range(16)], [2 + 0.1 * at for at in range(16)]
    assert accusations_of(evidence_of(courses)) == []
    assert accusations_of(evidence_of(courses, losses=better)) == []
    assert accusations_of(evidence_of(courses, losses=worse)) != []
    assert accusations_of(evidence_of({("lm_head.weight", STABLE): course})) != []
    deep = {("lm_head.weight", STABLE): [*course[:8], 20, 10, 5, 3, 2, 1.5, 1.2, 1], **others}
    assert accusations_of(evidence_of(deep, losses=better)) != []


def test_the_drops_of_a_role_that_broke_are_left_to_the_break() -> None:
    courses = {**peers_of(MLP_BROKEN), ("h.2.mlp.c_fc", STABLE): [*MLP_BROKEN[:8], *[1.0] * 4]}
    drops = {
        alert.layer: alert
        for alert in alerts_of(evidence_of(courses, losses=LOSS_BROKEN))
        if alert.rule == "rank-drop"
    }
    own = drops.pop("h.2.mlp.c_fc")
    assert own.severity is Severity.CRITICAL
    assert {alert.severity for alert in drops.values()} == {Severity.INFO}
    for alert in drops.values():
        assert alert.message.endswith("Its whole role broke at step 800, which rank-break judges.")


@pytest.mark.parametrize(
    ("after", "severity"),
    [
        ([1.9, 1.8, 1.7, 1.6, 1.5], Severity.INFO),
        ([2.0, 1.8, 1.7, 1.6, 1.5], Severity.CRITICAL),  # it jumped and came back
        ([1.8, 1.8, 1.8, 2.0, 2.1], Severity.CRITICAL),  # it got worse later
    ],
)
def test_the_loss_decides_about_a_shared_break(after: list[float], severity: Severity) -> None:
    evidence = evidence_of(peers_of(MLP_BROKEN), losses=[*LOSS[:7], *after])
    (alert,) = (alert for alert in alerts_of(evidence) if alert.rule == "rank-break")
    assert alert.severity is severity


def test_the_worst_break_of_a_role_is_the_one_reported() -> None:
    course = [20.0] * 5 + [9.0] * 5 + [3.0] * 3
    losses = [*LOSS[:10], 2.0, 2.0, 2.0]
    (alert,) = (
        alert
        for alert in alerts_of(evidence_of(peers_of(course), losses=losses))
        if alert.rule == "rank-break"
    )
    assert (alert.severity, alert.step_onset) == (Severity.CRITICAL, 1100)


def test_the_first_break_of_a_layer_that_its_peers_did_not_make_is_reported() -> None:
    late = [40, 39, 38, 37, 8.5, 7.5, 6.8, 6.5, 6.3, 2.0, 2.0]
    peers = {
        key: course
        for key, course in peers_of(ATTENTION, "h.{}.attn.c_attn").items()
        if "h.0" not in key[0]
    }
    courses = {("h.0.attn.c_attn", STABLE): late, **peers}
    for until, step, severity in ((9, 500, Severity.INFO), (11, 1000, Severity.CRITICAL)):
        alerts = alerts_of(evidence_of(courses, until=until))
        (found,) = (alert for alert in alerts if alert.rule == "rank-break")
        assert (found.step_onset, found.severity) == (step, severity)


def test_a_layer_without_peers_that_breaks_with_the_run_is_judged_like_the_run() -> None:
    courses = {("lm_head.weight", STABLE): MLP_BROKEN, **peers_of(MLP_BROKEN)}
    for losses, severity in ((LOSS, Severity.INFO), (LOSS_BROKEN, Severity.CRITICAL)):
        alerts = alerts_of(evidence_of(courses, losses=losses[:12]))
        found = [alert for alert in alerts if alert.rule == "rank-break"]
        assert [alert.layer for alert in found] == ["lm_head.weight", "h.*.mlp.c_fc"]
        assert {alert.severity for alert in found} == {severity}


def test_what_all_peers_do_late_is_left_to_the_loss() -> None:
    courses = peers_of([20.0] * 8 + [20 * 0.9**age for age in range(1, 9)])
    better, worse = [3 - 0.05 * at for at in range(16)], [2 + 0.1 * at for at in range(16)]
    assert accusations_of(evidence_of(courses, losses=better)) == []
    assert len({alert.layer for alert in accusations_of(evidence_of(courses, losses=worse))}) == 6
    assert len({alert.layer for alert in accusations_of(evidence_of(courses))}) == 6
