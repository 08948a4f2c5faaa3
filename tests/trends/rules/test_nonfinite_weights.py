"""The rule nonfinite-weights: NaN and Inf, from both tables."""

from altgrad_inspect.records import Alert, Severity
from altgrad_inspect.trends.rules.evidence import build_fingerprint
from altgrad_inspect.trends.rules.nonfinite_weights import find_nonfinite_weights
from tests.trends.flip_runs import FAILED, LAYER, evidence_of, flip_run, rank_run

BROKEN = "1,038 NaN and 2 Inf among 10,000 weights"


def test_one_alert_tells_how_many_since_when() -> None:
    records = flip_run([9, 9, 9, 9], num_nonfinite=[0, 0, 40, 1200])
    assert find_nonfinite_weights(evidence_of(records)) == [
        Alert(
            fingerprint=build_fingerprint("nonfinite-weights", LAYER, 0, "num_nonfinite"),
            rule="nonfinite-weights",
            severity=Severity.CRITICAL,
            layer=LAYER,
            matrix=0,
            metric="num_nonfinite",
            step_onset=300,
            step_detected=300,
            value=40.0,
            baseline=0.0,
            drop_fraction=None,
            message=f"{LAYER} holds 40 NaN or Inf since step 300, up to 1,200 later.",
        )
    ]


def test_only_the_ranks_know_the_first_checkpoint() -> None:
    records = flip_run([9, 9], num_nonfinite=[1040, 1040])
    (alert,) = find_nonfinite_weights(evidence_of(records))
    assert alert.step_onset == 100
    (alert,) = find_nonfinite_weights(evidence_of(records, rank_run([BROKEN] * 3)))
    assert (alert.step_onset, alert.value) == (0, 1040)
    (alert,) = find_nonfinite_weights(evidence_of(ranks=rank_run([9.0, BROKEN])))
    assert (alert.step_onset, alert.value) == (100, 1040)


def test_the_matrices_of_a_stack_add_up() -> None:
    stack = [*rank_run([9.0, BROKEN]), *rank_run([BROKEN, BROKEN], matrix=1)]
    (alert,) = find_nonfinite_weights(evidence_of(ranks=stack))
    assert (alert.step_onset, alert.value) == (0, 1040)
    assert "up to 2,080 later" in alert.message


def test_finite_failed_and_zero_are_not_broken() -> None:
    ranks = rank_run([9.0, FAILED, "zero matrix"])
    assert find_nonfinite_weights(evidence_of(flip_run([9, None]), ranks)) == []


def test_a_failed_row_neither_breaks_nor_mends() -> None:
    (alert,) = find_nonfinite_weights(evidence_of(ranks=rank_run([9.0, BROKEN, FAILED, BROKEN])))
    assert (alert.step_onset, alert.message[-9:]) == (100, "step 100.")


def test_a_restart_mends() -> None:
    (alert,) = find_nonfinite_weights(evidence_of(ranks=rank_run([9.0, BROKEN, 9.0])))
    assert alert.message.endswith("since step 100; it recovered at step 200.")


def test_the_ranks_know_where_the_comparison_failed() -> None:
    (alert,) = find_nonfinite_weights(evidence_of(flip_run([None]), rank_run([9.0, BROKEN])))
    assert alert.step_onset == 100
