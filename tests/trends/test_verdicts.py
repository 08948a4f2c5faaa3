"""One verdict a layer: which, how severe, since when, and in which words."""

from dataclasses import replace

import pytest

from altgrad_inspect.records import Alert, Severity, Status, Verdict, VerdictRecord
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.verdicts import find_verdicts
from tests.trends.flip_runs import FAILED, LAYER, evidence_of, flip_run, rank_run

ALERT = Alert(
    fingerprint="0" * 16,
    rule="rank-drop",
    severity=Severity.WARNING,
    layer=LAYER,
    matrix=0,
    metric="effective_rank",
    step_onset=300,
    step_detected=400,
    value=1.0,
    baseline=2.0,
    drop_fraction=0.5,
    message="It fell.",
)
LIVE = evidence_of(ranks=rank_run([9.0] * 5))
ORDER = (
    ("nonfinite-weights", Verdict.NONFINITE),
    ("dead-layer", Verdict.DEAD),
    ("frozen", Verdict.FROZEN),
    ("bit-stalled", Verdict.BIT_STALLED),
    ("outlier-dominated", Verdict.OUTLIER_DOMINATED),
    ("rank-drop", Verdict.COLLAPSING),
    ("rank-break", Verdict.COLLAPSING),
    ("rank-slide", Verdict.COLLAPSING),
    ("oscillation", Verdict.OSCILLATING),
    ("scale-jump", Verdict.RESCALING),
    ("saturation", Verdict.RESCALING),
    ("flips-fading", Verdict.STALLING),
)


def verdict_of(*alerts: Alert) -> VerdictRecord:
    (record,) = find_verdicts(LIVE, alerts)
    return record


@pytest.mark.parametrize(("rule", "verdict"), ORDER)
def test_every_rule_has_its_verdict(rule: str, verdict: Verdict) -> None:
    assert verdict_of(replace(ALERT, rule=rule)) == VerdictRecord(
        layer=LAYER,
        verdict=verdict,
        severity=Severity.WARNING,
        step_onset=300,
        evidence="It fell.",
    )


def test_the_first_verdict_in_order_wins() -> None:
    alerts = [replace(ALERT, rule=rule) for rule, _ in ORDER]
    names = list(Verdict)
    for rule, verdict in ORDER:
        later = [alert for alert in alerts if alert.rule == rule] + [
            alert
            for alert, (_, other) in zip(alerts, ORDER, strict=True)
            if names.index(other) >= names.index(verdict)
        ]
        assert verdict_of(*reversed(later)).verdict is verdict


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        ("nonfinite-weights", Verdict.NONFINITE),
        ("dead-layer", Verdict.DEAD),
        ("frozen", Verdict.FROZEN),
        ("outlier-dominated", Verdict.OUTLIER_DOMINATED),
        ("bit-stalled", Verdict.HEALTHY),
        ("rank-drop", Verdict.HEALTHY),
        ("scale-jump", Verdict.HEALTHY),
        ("flips-fading", Verdict.HEALTHY),
        ("a-rule-of-tomorrow", Verdict.HEALTHY),
    ],
)
def test_information_is_a_verdict_only_where_it_names_a_state(rule: str, verdict: Verdict) -> None:
    assert verdict_of(replace(ALERT, rule=rule, severity=Severity.INFO)).verdict is verdict


def test_the_worst_alert_decides_then_the_earliest() -> None:
    late = replace(ALERT, severity=Severity.CRITICAL, step_onset=900, message="Late.")
    worst = replace(late, rule="rank-break", step_onset=800, message="Worst.")
    record = verdict_of(ALERT, late, worst)
    assert (record.severity, record.step_onset, record.evidence) == (
        Severity.CRITICAL,
        800,
        "Worst.",
    )


def test_alerts_about_other_layers_and_the_run_are_left_out() -> None:
    assert verdict_of(replace(ALERT, layer="x"), replace(ALERT, layer="")).verdict is (
        Verdict.HEALTHY
    )


def test_a_rank_that_came_back_says_when() -> None:
    quick = TrendSettings(alpha=0.9)
    back = rank_run([9.0, 9.0, 9.0, 9.0, 1.0, 1.0, 9.0, 9.0])
    dropped = replace(ALERT, metric="stable_rank")
    (record,) = find_verdicts(evidence_of(ranks=back, settings=quick), [dropped])
    assert record.evidence == "It fell; it recovered at step 600."
    told = replace(dropped, message="It fell and recovered.")
    (record,) = find_verdicts(evidence_of(ranks=back, settings=quick), [told])
    assert record.evidence == told.message
    for values in ([9.0] * 4 + [1.0] * 4, [9.0] * 8):
        evidence = evidence_of(ranks=rank_run(values), settings=quick)
        assert find_verdicts(evidence, [dropped])[0].evidence == "It fell."


def test_healthy_needs_four_checkpoints_and_tells_the_numbers() -> None:
    evidence = evidence_of(
        [*flip_run([5000, 4000, 3000]), *flip_run([1, 1, 1], quantizer="e2m1")],
        rank_run([9.0, 8.0, 7.0, 6.5]),
    )
    (record,) = find_verdicts(evidence, [])
    assert record == VerdictRecord(
        layer=LAYER,
        verdict=Verdict.HEALTHY,
        severity=Severity.INFO,
        step_onset=None,
        evidence=(
            f"No rule found a fault in {LAYER} over 4 checkpoints from step 0 to 300, flip"
            " fraction 0.0001 to 0.0001, stable rank 9 to 6.5, effective rank 3 to 3."
        ),
    )


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([9.0, 9.0, 9.0], "Only 3 checkpoints of h could be measured, 4 are needed."),
        (
            [9.0, FAILED, FAILED, "other"],
            "Only 1 checkpoint of h could be measured, 4 are needed (failed).",
        ),
        (
            ["bad\x1b"] * 9,
            r"Only 0 checkpoints of h could be measured, 4 are needed (bad\x1b).",
        ),
    ],
)
def test_with_less_a_layer_is_undecided(values: list[float | str], text: str) -> None:
    ranks = rank_run(values, "h", status=Status.FAILED)
    (record,) = find_verdicts(evidence_of(ranks=ranks), [])
    assert (record.verdict, record.severity, record.step_onset) == (
        Verdict.UNDECIDED,
        Severity.INFO,
        None,
    )
    assert record.evidence == text


def test_vectors_are_known_by_their_flips_alone() -> None:
    assert find_verdicts(evidence_of(flip_run([1, 1, 1], "b")), [])[0].verdict is Verdict.HEALTHY
    three = evidence_of(flip_run([1, 1, None, None], "b"))
    assert find_verdicts(three, [])[0].verdict is Verdict.UNDECIDED


def test_every_matrix_of_a_stack_has_to_be_measured() -> None:
    stack = [*rank_run([9.0] * 4), *rank_run([9.0, 9.0, 9.0, FAILED], matrix=1)]
    assert find_verdicts(evidence_of(ranks=stack), [])[0].verdict is Verdict.UNDECIDED


def test_there_is_one_verdict_a_layer_in_order() -> None:
    evidence = evidence_of(
        [*flip_run([1, 1, 1], "b"), *flip_run([1, 1, 1], "b", quantizer="e2m1")],
        [*rank_run([9.0], "c"), *rank_run([9.0], "a"), *rank_run([9.0], "a", matrix=1)],
    )
    assert [record.layer for record in find_verdicts(evidence, [])] == ["a", "b", "c"]
    assert find_verdicts(evidence_of(), []) == []
