"""The rule saturation: weights beyond the largest value."""

import pytest

from altgrad_inspect.records import Alert, Severity, Status
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.rules.evidence import build_fingerprint
from altgrad_inspect.trends.rules.saturation import find_saturations
from tests.trends.flip_runs import LAYER, QUANTIZER, evidence_of, flip_run


def saturations_of(saturated: list[int], settings: TrendSettings | None = None) -> list[Alert]:
    records = flip_run([500] * len(saturated), num_saturated=saturated)
    return find_saturations(evidence_of(records, settings=settings))


def test_one_alert_tells_how_many_are_clipped() -> None:
    (alert,) = saturations_of([0, 0, 200, 350, 300])
    assert alert == Alert(
        fingerprint=build_fingerprint("saturation", LAYER, 0, f"num_saturated[{QUANTIZER}]"),
        rule="saturation",
        severity=Severity.WARNING,
        layer=LAYER,
        matrix=0,
        metric=f"num_saturated[{QUANTIZER}]",
        step_onset=300,
        step_detected=300,
        value=200.0,
        baseline=100.0,
        drop_fraction=None,
        message=(
            f"{LAYER} ({QUANTIZER}) is clipped since step 300: 350 of 10,000 weights (3.5%) lie"
            " beyond the largest value at step 400, more than 0.01."
        ),
    )


@pytest.mark.parametrize(("saturated", "count"), [(100, 0), (101, 1)])
def test_one_percent_is_the_limit(saturated: int, count: int) -> None:
    assert len(saturations_of([0, saturated])) == count
    assert saturations_of([0, saturated], TrendSettings(saturation_fraction=0.02)) == []


def test_an_end_is_told() -> None:
    (alert,) = saturations_of([0, 200, 200, 100])
    assert (alert.step_onset, alert.message[-24:]) == (200, " it recovered at step 400."[-24:])


def test_infinite_weights_are_not_its_business() -> None:
    records = flip_run([500], num_saturated=[200], num_nonfinite=[200])
    assert find_saturations(evidence_of(records)) == []


def test_undefined_rows_say_nothing_unless_they_compare_stored_codes() -> None:
    from dataclasses import replace

    undefined = [replace(row, status=Status.UNDEFINED, reason="x") for row in flip_run([500])]
    (row,) = flip_run([500], num_saturated=[200], quantizer="stored:e4m3")
    stored = replace(row, status=Status.UNDEFINED, reason="stored codes without their scale")
    assert find_saturations(evidence_of(undefined)) == []
    assert len(find_saturations(evidence_of([stored]))) == 1
