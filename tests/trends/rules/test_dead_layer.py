"""The rule dead-layer: all weights zero, of matrices and of vectors."""

import pytest

from altgrad_inspect.records import Alert, Severity, Status
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.rules.dead_layer import find_dead_layers
from altgrad_inspect.trends.rules.evidence import build_fingerprint
from tests.trends.flip_runs import FAILED, LAYER, evidence_of, flip_run, rank_run

ZERO = "zero matrix"
BIAS = "model.layers.0.mlp.up_proj.bias"


def dead_in(states: list[float | str], settings: TrendSettings | None = None) -> list[Alert]:
    return find_dead_layers(evidence_of(ranks=rank_run(states), settings=settings))


def test_one_alert_tells_since_when() -> None:
    (alert,) = dead_in([9.0, 9.0, ZERO, ZERO])
    assert alert == Alert(
        fingerprint=build_fingerprint("dead-layer", LAYER, 0, "frobenius_norm"),
        rule="dead-layer",
        severity=Severity.CRITICAL,
        layer=LAYER,
        matrix=0,
        metric="frobenius_norm",
        step_onset=200,
        step_detected=200,
        value=0.0,
        baseline=None,
        drop_fraction=None,
        message=(
            f"All weights of {LAYER} are zero since step 200, in 2 checkpoints; they were not"
            " before."
        ),
    )


def test_zero_from_the_start_to_the_end_is_no_new_fault() -> None:
    (alert,) = dead_in([ZERO, ZERO, ZERO])
    assert (alert.severity, alert.step_onset) == (Severity.INFO, 0)
    assert "in every one of 3 checkpoints from step 0 on" in alert.message
    (alert,) = dead_in([ZERO, ZERO], TrendSettings(trained_layers=("up_proj",)))
    assert alert.severity is Severity.WARNING


@pytest.mark.parametrize("states", [[ZERO, 9.0, 9.0], [9.0, 9.0], [FAILED, ZERO, 9.0], [FAILED]])
def test_an_adapter_starts_from_zero(states: list[float | str]) -> None:
    assert dead_in(states) == []


def test_a_layer_that_came_back_was_dead() -> None:
    (alert,) = dead_in([9.0, ZERO, FAILED, ZERO, 9.0, 9.0])
    assert (alert.severity, alert.step_onset) == (Severity.CRITICAL, 100)
    assert alert.message.endswith(
        "in 2 checkpoints; they were not before; it recovered at step 400."
    )


def test_what_failed_is_not_dead() -> None:
    assert dead_in([9.0, FAILED, FAILED]) == []
    ranks = rank_run([9.0, ZERO], status=Status.FAILED)
    assert find_dead_layers(evidence_of(ranks=ranks)) == []


def test_each_matrix_of_a_stack_is_judged_and_named() -> None:
    stack = [*rank_run([9.0, 9.0]), *rank_run([9.0, ZERO], matrix=7)]
    (alert,) = find_dead_layers(evidence_of(ranks=stack))
    assert (alert.layer, alert.matrix) == (LAYER, 7)
    assert f"{LAYER}[7] are zero" in alert.message


def test_a_vector_is_known_by_the_norm_it_starts_from() -> None:
    records = flip_run([9, 9, 9, 0], BIAS, relative_update=[0.1, 1.0, None, None])
    (alert,) = find_dead_layers(evidence_of(records))
    assert (alert.severity, alert.step_onset) == (Severity.CRITICAL, 200)
    zeros = flip_run([0, 0], BIAS, relative_update=[None, None], update_norm=[0.0, 0.0])
    (alert,) = find_dead_layers(evidence_of(zeros))
    assert (alert.severity, alert.step_onset) == (Severity.INFO, 0)
    assert "every one of 3 checkpoints" in alert.message
    waking = flip_run([9, 9, 9], BIAS, relative_update=[0.1, 1.0, None])
    (alert,) = find_dead_layers(evidence_of(waking))
    assert alert.message.endswith("it recovered at step 300.")
    starting = flip_run([9, 9], BIAS, relative_update=[None, 0.1])
    assert find_dead_layers(evidence_of(starting)) == []


def test_vectors_without_values_say_nothing() -> None:
    stored = flip_run(
        [9, 9], BIAS, quantizer="stored:e4m3", update_norm=[None] * 2, relative_update=[None] * 2
    )
    assert find_dead_layers(evidence_of(stored)) == []
    assert find_dead_layers(evidence_of(flip_run([None, None], BIAS))) == []


def test_a_matrix_is_not_judged_twice() -> None:
    records = flip_run([0, 0], relative_update=[None, None], update_norm=[0.0, 0.0])
    assert find_dead_layers(evidence_of(records, rank_run([9.0, 9.0, 9.0]))) == []
