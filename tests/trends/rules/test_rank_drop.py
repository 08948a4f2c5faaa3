"""The rule rank-drop: when it fires, since when, how badly, and in which words."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altgrad_inspect.records import Alert, Severity
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.rules import RULES
from altgrad_inspect.trends.rules.evidence import Evidence, build_fingerprint
from altgrad_inspect.trends.rules.rank_drop import find_rank_drops
from altgrad_inspect.trends.series import Series, build_series
from altgrad_inspect.trends.smooth import find_thresholds

SETTINGS = TrendSettings(alpha=0.5, warmup_fraction=0.0)


def series_of(values: list[float | None], threshold: float = 0.3) -> Series:
    return build_series(
        layer="h.0.mlp.weight",
        matrix=0,
        metric="stable_rank",
        values=[
            (100 * index, None if value is None else float(value))
            for index, value in enumerate(values)
        ],
        settings=SETTINGS,
        thresholds=find_thresholds(threshold),
    )


def alerts_of(*series: Series) -> list[Alert]:
    evidence = Evidence(series=series, ranks=None, flips=None, settings=SETTINGS)
    return find_rank_drops(evidence)


def test_one_alert_tells_the_whole_fall() -> None:
    (alert,) = alerts_of(series_of([40, 40, 40, 40, 40, 20, 10, 10, 30]))
    assert alert == Alert(
        fingerprint=build_fingerprint("rank-drop", "h.0.mlp.weight", 0, "stable_rank"),
        rule="rank-drop",
        severity=Severity.CRITICAL,
        layer="h.0.mlp.weight",
        matrix=0,
        metric="stable_rank",
        step_onset=500,
        step_detected=600,
        value=10.0,
        baseline=40.0,
        drop_fraction=0.625,
        message=(
            "The smoothed stable rank of h.0.mlp.weight fell 62% below its baseline of 40, to 15"
            " at step 700; it began at step 500 and passed the threshold of 0.3 at step 600."
            " It fell abruptly."
        ),
    )


def test_a_smaller_fall_is_a_warning() -> None:
    (alert,) = alerts_of(series_of([40, 40, 40, 40, 20, 20, 20]))
    assert alert.severity is Severity.WARNING
    assert (alert.step_onset, alert.step_detected) == (400, 500)
    assert alert.drop_fraction == pytest.approx(0.4375)


def test_a_fall_within_the_warmup_is_not_judged() -> None:
    assert alerts_of(series_of([40, 10, 10, 10, 10, 10])) == []


def test_the_onset_is_the_first_value_of_the_unbroken_fall() -> None:
    dip_before = [40, 40, 40, 36, 40, 36.9, 30, 20, 10]
    (alert,) = alerts_of(series_of([*dip_before]))
    assert alert.step_onset == 500  # 36.9 is more than 7.5 % below 40; the dip at 300 is apart


def test_the_drift_of_a_healthy_layer_is_not_the_onset() -> None:
    (alert,) = alerts_of(series_of([40, 40, 40, 39, 38.5, 38, 37.5, 12, 12]))
    assert alert.step_onset == 700


def test_an_undefined_value_does_not_break_the_fall() -> None:
    (alert,) = alerts_of(series_of([40, 40, 40, 32, None, 24, 16, 8]))
    assert alert.step_onset == 300


def test_the_onset_is_never_within_the_warmup() -> None:
    (alert,) = alerts_of(series_of([80, 60, 20, 20, 20, 20]))
    assert (alert.baseline, alert.step_onset) == (40, 300)


def test_a_matrix_of_a_stack_is_named_and_hostile_names_are_escaped() -> None:
    series = series_of([40, 40, 40, 10, 10])
    (alert,) = alerts_of(replace(series, layer="experts\n\x1b[31m", matrix=7))
    assert "stable rank of experts\\n\\x1b[31m[7] fell" in alert.message
    assert alert.layer == "experts\n\x1b[31m"


def test_other_metrics_raise_no_rank_drop() -> None:
    series = series_of([40, 40, 40, 10, 10])
    assert alerts_of(replace(series, metric="flip_fraction[e4m3:tensor:amax]")) == []


def test_fingerprints_tell_alerts_apart_and_stay_the_same() -> None:
    names = {
        build_fingerprint(rule, layer, matrix, metric)
        for rule in ("rank-drop", "rank")
        for layer in ("a", "drop-a")
        for matrix in (0, 1)
        for metric in ("stable_rank", "effective_rank")
    }
    assert len(names) == 16
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in names)
    assert build_fingerprint("rank-drop", "a", 0, "stable_rank") == "1e937c312b5a8ef0"


def test_every_rule_is_listed_once() -> None:
    assert find_rank_drops in RULES
    assert len(set(RULES)) == len(RULES)


@given(values=st.lists(st.floats(1, 100), min_size=4, max_size=20), scale=st.integers(0, 20))
def test_an_alert_points_at_steps_of_the_run_in_order(values: list[float], scale: int) -> None:
    series = series_of([value * 2**scale for value in values])
    for alert in alerts_of(series):
        steps = [point.step for point in series.points]
        assert steps[3] <= alert.step_onset <= alert.step_detected <= steps[-1]
        assert alert.drop_fraction is not None
        assert 0.3 < alert.drop_fraction < 1
        if alert.severity is not Severity.INFO:
            assert (alert.severity is Severity.CRITICAL) == (alert.drop_fraction > 0.6)


@given(value=st.floats(1, 1e6), count=st.integers(1, 40))
def test_a_constant_series_never_alerts(value: float, count: int) -> None:
    assert alerts_of(series_of([value] * count)) == []


@given(fall=st.floats(0.3, 0.9), count=st.integers(14, 30))
def test_a_steady_fall_always_alerts(fall: float, count: int) -> None:
    (alert,) = alerts_of(series_of([1e20 * fall**index for index in range(count)]))
    assert alert.severity is not Severity.INFO
    assert alert.step_onset == 300


def test_a_decline_that_slows_down_is_info() -> None:
    course = [80, 50, 40, 30, 25, 22, 20, 19, 18.5, 18]
    (alert,) = alerts_of(series_of([*course]))
    assert alert.severity is Severity.INFO
    assert alert.message.endswith("It slows down, like the early transient of training.")


def test_the_later_half_is_judged_by_itself() -> None:
    course = [40 + 5 * index for index in range(12)] + [95, 90, 85, 80, 60, 50, 45, 42]
    (alert,) = alerts_of(series_of([*course]))
    assert alert.severity is Severity.WARNING
    assert alert.baseline == 95
    assert alert.step_onset == 1400
