"""The rule scale-jump: a scale that jumps, and zeros that fake it."""

from collections.abc import Sequence
from typing import Any

import pytest

from altgrad_inspect.records import Alert, RankRecord, Severity
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.rules.evidence import build_fingerprint
from altgrad_inspect.trends.rules.scale_jump import find_scale_jumps
from tests.trends.flip_runs import LAYER, QUANTIZER, evidence_of, flip_run, rank_run

ZERO = "zero matrix"


def jumps_of(
    ratios: Sequence[float],
    ranks: list[RankRecord] | None = None,
    settings: TrendSettings | None = None,
    **columns: Any,
) -> list[Alert]:
    records = flip_run([500] * len(ratios), scale_ratio_max=list(map(float, ratios)), **columns)
    return find_scale_jumps(evidence_of(records, ranks or [], settings=settings))


def test_one_alert_tells_the_largest_jump() -> None:
    (alert,) = jumps_of([1.1, 1.0, 1.2, 5.0, 8.25, 1.0])
    assert alert == Alert(
        fingerprint=build_fingerprint("scale-jump", LAYER, 0, f"scale_ratio_max[{QUANTIZER}]"),
        rule="scale-jump",
        severity=Severity.WARNING,
        layer=LAYER,
        matrix=0,
        metric=f"scale_ratio_max[{QUANTIZER}]",
        step_onset=400,
        step_detected=400,
        value=8.25,
        baseline=4.0,
        drop_fraction=None,
        message=(
            f"The scale of {LAYER} ({QUANTIZER}) changed 8.25-fold from step 400 to 500, the"
            " largest of 2 such jumps (more than 4-fold is a jump)."
        ),
    )


@pytest.mark.parametrize(("ratio", "count"), [(4.0, 0), (4.01, 1)])
def test_four_fold_is_the_limit(ratio: float, count: int) -> None:
    assert len(jumps_of([1, 1, 1, ratio])) == count
    assert jumps_of([1, 1, 1, ratio], settings=TrendSettings(scale_jump_ratio=5.0)) == []


def test_at_first_scales_find_their_size() -> None:
    (alert,) = jumps_of([50, 1, 1, 1, 1])
    assert alert.severity is Severity.INFO
    (alert,) = jumps_of([50, 6, 1, 1, 1])
    assert (alert.severity, alert.step_onset, alert.value) == (Severity.WARNING, 200, 6)


def test_vectors_may_take_the_whole_warmup() -> None:
    bias = "model.layers.0.mlp.up_proj.bias"
    records = flip_run([500] * 5, bias, scale_ratio_max=[50.0, 6.0, 1.0, 1.0, 1.0])
    (alert,) = find_scale_jumps(evidence_of(records))
    assert alert.severity is Severity.INFO
    records = flip_run([500] * 5, bias, scale_ratio_max=[50.0, 6.0, 5.0, 1.0, 1.0])
    (alert,) = find_scale_jumps(evidence_of(records))
    assert (alert.severity, alert.step_onset) == (Severity.WARNING, 300)
    early = TrendSettings(warmup_checkpoints=1, warmup_fraction=0.0)
    (alert,) = find_scale_jumps(evidence_of(records, settings=early))
    assert (alert.severity, alert.step_onset, alert.value) == (Severity.WARNING, 200, 6.0)


def test_the_largest_of_many_scales_is_for_information() -> None:
    (alert,) = jumps_of([1, 1, 1, 90], num_scales=[4096] * 4)
    assert alert.severity is Severity.INFO
    assert alert.message.startswith("One of the 4,096 scales of ")


def test_a_layer_that_dies_has_no_scale_and_no_jump() -> None:
    dying = rank_run([9.0, 9.0, 9.0, 9.0, ZERO])
    assert jumps_of([1, 1, 1, 908], dying) == []
    assert len(jumps_of([1, 1, 1, 908], rank_run([9.0] * 5))) == 1
    assert jumps_of([1, 1, 1, 908], relative_update=[0.1, 0.1, 0.1, 1.0]) == []


def test_a_layer_that_wakes_up_had_no_scale() -> None:
    waking = rank_run([9.0, 9.0, 9.0, ZERO, 9.0])
    assert jumps_of([1, 1, 1, 908], waking) == []
    assert jumps_of([1, 1, 1, 908], relative_update=[0.1, 0.1, 0.1, None]) == []


def test_a_vector_that_died_is_told_by_the_row_after() -> None:
    ratios = [1, 1, 1, 908, 1]
    assert jumps_of(ratios, relative_update=[0.1, 0.1, 0.1, 0.9, None]) == []
    assert len(jumps_of(ratios, relative_update=[0.1, 0.1, 0.1, 0.9, 0.1])) == 1


def test_one_zero_matrix_of_a_stack_fakes_no_jump_of_the_whole() -> None:
    stack = [
        *rank_run([9.0] * 5),
        *rank_run([9.0, 9.0, 9.0, 9.0, ZERO], matrix=1),
    ]
    assert len(jumps_of([1, 1, 1, 8], stack)) == 1


def test_failed_and_non_finite_rows_say_nothing() -> None:
    assert find_scale_jumps(evidence_of(flip_run([500, 500, 500, None]))) == []
    assert jumps_of([1, 1, 1, 8], num_nonfinite=[0, 0, 0, 3]) == []
    no_scale = flip_run([500] * 4, scale_ratio_max=[None] * 4)
    assert find_scale_jumps(evidence_of(no_scale)) == []
