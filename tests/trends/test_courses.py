"""The rules about ranks on whole runs: whom they accuse, when, and whom they leave alone."""

import math
from typing import Any

import pytest

from altgrad_inspect.errors import ConfigError
from altgrad_inspect.records import Severity
from altgrad_inspect.settings import TrendSettings
from tests.trends.courses import (
    ATTENTION,
    EFFECTIVE,
    HEAD_EFFECTIVE,
    HEAD_STABLE,
    LOSS,
    MLP_BROKEN,
    MLP_INPUT,
    STABLE,
    Courses,
    accusations_of,
    alerts_of,
    evidence_of,
    peers_of,
    watch,
)

HEAD: Courses = {
    ("lm_head.weight", STABLE): HEAD_STABLE,
    ("lm_head.weight", EFFECTIVE): HEAD_EFFECTIVE,
}
GROWING_TOP = [1 + 9 * math.exp(-2 * math.log(1.08) * age) for age in range(13)]
DECAYING_TAIL = [46 * 0.88**age for age in range(16)]
LATE_BLOCK = [40, 39, 38, 37, 8.5, 7, 6.3, 6.0, 5.8, 5.7, 5.6]


@pytest.mark.parametrize(
    "courses", [HEAD, {("h.0.mlp.c_fc", STABLE): MLP_INPUT}, peers_of(MLP_INPUT)]
)
@pytest.mark.parametrize("losses", [(), LOSS])
def test_a_healthy_run_from_scratch_is_quiet_at_every_checkpoint(
    courses: Courses, losses: list[float]
) -> None:
    assert not any(watch(courses, losses=losses).values())


def test_the_healthy_decline_is_info_and_says_why() -> None:
    alerts = alerts_of(evidence_of({("h.0.mlp.c_fc", STABLE): MLP_INPUT}))
    assert [(alert.rule, alert.severity) for alert in alerts] == [("rank-drop", Severity.INFO)]
    assert alerts[0].message.endswith("It slows down, like the early transient of training.")


@pytest.mark.parametrize(
    ("metric", "course", "broken"),
    [
        (STABLE, MLP_BROKEN, 8),
        (EFFECTIVE, [150, 140, 132, 126, 121, 117, 114, 69, 68, 68, 67], 8),
    ],
)
def test_a_break_is_named_at_its_checkpoint(metric: str, course: list[float], broken: int) -> None:
    watched = watch({("h.0.mlp.c_fc", metric): course})
    assert not any(watched[until] for until in range(1, broken))
    named = [alert for alert in watched[broken] if alert.rule == "rank-break"]
    assert [(alert.severity, alert.step_onset) for alert in named] == [
        (Severity.CRITICAL, 100 * broken)
    ]
    assert all(watched[until] for until in range(broken, len(course)))


@pytest.mark.parametrize("flat", [0, 4, 8])
@pytest.mark.parametrize(("metric", "course"), [(STABLE, GROWING_TOP), (EFFECTIVE, DECAYING_TAIL)])
def test_a_decline_that_keeps_its_pace_is_named(
    metric: str, course: list[float], flat: int
) -> None:
    watched = watch({("lm_head.weight", metric): [course[0]] * flat + course})
    first = min(until for until, alerts in watched.items() if alerts)
    assert first - flat <= (9 if flat == 0 else 6)
    assert all(watched[until] for until in range(first, len(watched) + 1))
    last = watched[max(watched)]
    assert {"rank-drop", "rank-slide"} <= {alert.rule for alert in last}
    assert max(alert.severity.rank for alert in last) == Severity.CRITICAL.rank
    assert all(100 * flat <= alert.step_onset <= 100 * (flat + 5) for alert in last)


def test_one_layer_that_declines_among_steady_peers_is_named_early() -> None:
    flat = {(f"h.{block}.mlp.c_fc", STABLE): [10.0] * 17 for block in range(1, 5)}
    watched = watch({("h.0.mlp.c_fc", STABLE): [10.0] * 4 + GROWING_TOP, **flat})
    first = min(until for until, alerts in watched.items() if alerts)
    assert first - 4 <= 4
    assert {alert.layer for alerts in watched.values() for alert in alerts} == {"h.0.mlp.c_fc"}


@pytest.mark.parametrize("fall_at", [1, 2, 3])
@pytest.mark.parametrize("losses", [(), LOSS[:11]])
def test_attention_that_falls_at_the_end_of_the_warmup_is_not_accused(
    fall_at: int, losses: list[float]
) -> None:
    course = [40, 38, 36][:fall_at] + ATTENTION[2:]
    late = LATE_BLOCK[: len(course)]
    courses = {**peers_of(course, "h.{}.attn.c_attn"), ("h.0.attn.c_attn", STABLE): late}
    assert not any(watch(courses, losses=losses[: len(course)]).values())
    assert not any(watch({("h.0.attn.c_attn", STABLE): course}).values())


def test_fine_tuning_is_quiet() -> None:
    for metric in (STABLE, EFFECTIVE):
        courses = {
            (f"h.{block}.mlp.{name}", metric): [
                20 * (1 - 0.0004 * at + 0.0005 * math.sin(9.1 * at + block)) for at in range(20)
            ]
            for block in range(6)
            for name in ("c_fc", "c_proj")
        }
        assert alerts_of(evidence_of(courses)) == []


def test_a_collapse_long_after_the_healthy_decline_is_named() -> None:
    course = [57.6 / (1 + 0.5 * at) + 8 for at in range(24)]
    course += [course[-1] * 0.9**age for age in range(1, 9)]
    watched = watch({("h.0.mlp.c_fc", STABLE): course})
    assert not any(watched[until] for until in range(1, 24))
    assert [alert.step_onset for alert in watched[32] if alert.rule == "rank-drop"] == [2300]


def test_a_collapse_after_a_rise_is_named() -> None:
    course = [5 + 0.5 * at for at in range(12)] + [11 - 0.7 * age for age in range(1, 9)]
    assert watch({("lm_head.weight", STABLE): course})[20]


def test_a_collapse_late_in_a_long_run_is_named() -> None:
    course = [5 + 0.5 * at for at in range(32)] + [20.5 - 1.5 * age for age in range(1, 9)]
    alerts = accusations_of(evidence_of({("h.0.mlp.c_fc", STABLE): course}))
    assert [alert.step_onset for alert in alerts if alert.rule == "rank-drop"] == [3400]


def test_a_collapse_that_came_to_rest_is_not_forgotten() -> None:
    course = [10.0] * 8 + [8.6, 7.3, 6.2, 5.3, 4.5] + [4.0] * 17
    watched = watch({("lm_head.weight", STABLE): course})
    assert all(watched[until] for until in range(11, 31))


@pytest.mark.parametrize("gap", [0, 3, 7, 8, 9, 11])
@pytest.mark.parametrize("how", ["missing", "undefined"])
def test_gaps_change_nothing_that_matters(gap: int, how: str) -> None:
    steps = list(range(100, 1400, 100))
    healthy: list[float | None] = list(MLP_INPUT)
    broken: list[float | None] = [*MLP_BROKEN, 2.6]
    if how == "missing":
        del steps[gap], healthy[gap], broken[gap]
    else:
        healthy[gap] = broken[gap] = None
    assert not any(watch({("a.0", STABLE): healthy}, steps=steps).values())
    named = accusations_of(evidence_of({("a.0", STABLE): broken}, steps=steps))
    onset = 900 if gap == 7 else 800
    assert onset in {alert.step_onset for alert in named if alert.rule == "rank-break"}


def test_uneven_steps_are_judged_by_their_distances() -> None:
    steps = [100, 110, 120, 200, 250, 400, 500, 700, 720, 900, 1000, 1150, 1400]
    healthy = [8 + 50 / (1 + step / 120) for step in steps]
    assert not any(watch({("a.0", STABLE): healthy}, steps=steps).values())
    sliding = [40 * math.exp(-step / 900) for step in steps]
    assert watch({("a.0", STABLE): sliding}, steps=steps)[13]


def test_steps_that_double_hide_no_break_and_make_none() -> None:
    steps = [2**power for power in range(14)]
    healthy = [60 / (1 + step / 200) ** 0.5 for step in steps]
    assert not any(
        alert.rule == "rank-break"
        for alerts in watch({("a.0", STABLE): healthy}, steps=steps).values()
        for alert in alerts
    )
    broken = [*healthy[:-2], healthy[-2] / 3, healthy[-1] / 3]
    named = accusations_of(evidence_of({("a.0", STABLE): broken}, steps=steps))
    assert 2**12 in {alert.step_onset for alert in named if alert.rule == "rank-break"}


@pytest.mark.parametrize("values", [[], [40.0], [40, 1, 1], [40.0, 1.0, None, None, 1.0]])
def test_fewer_than_four_values_say_nothing(values: list[float | None]) -> None:
    if values:
        assert alerts_of(evidence_of({("a", STABLE): values})) == []
    assert alerts_of(evidence_of({("a", STABLE): [None] * 9})) == []


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("rank_wander_fraction", -0.1, r"in \[0, 1\)"),
        ("rank_wander_fraction", 1.0, r"in \[0, 1\)"),
        ("break_deviations", 0.0, "above 0"),
        ("slide_significance", 0.0, "between 0 and 1"),
        ("slide_significance", 1.0, "between 0 and 1"),
        ("early_delta", -0.1, "at least 0"),
        ("early_lambda", 0.0, "above 0"),
        ("outlier_share", 1.0, "between 0 and 1"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: float, expected: str) -> None:
    wrong: dict[str, Any] = {name: value}
    with pytest.raises(
        ConfigError, match=f"{name}: {value!r} is out of range, expected {expected}"
    ):
        TrendSettings(**wrong)


def test_settings_move_the_thresholds() -> None:
    broken = {("a", STABLE): MLP_BROKEN}
    deaf = evidence_of(broken, settings=TrendSettings(break_deviations=99.0))
    assert "rank-break" not in {alert.rule for alert in alerts_of(deaf)}
    patient = evidence_of(broken, settings=TrendSettings(warmup_checkpoints=8))
    assert "rank-break" not in {alert.rule for alert in alerts_of(patient)}
    ready = evidence_of(broken, settings=TrendSettings(warmup_checkpoints=7))
    assert "rank-break" in {alert.rule for alert in alerts_of(ready)}
    sliding = {("a", STABLE): GROWING_TOP[:9]}
    strict = evidence_of(sliding, settings=TrendSettings(slide_significance=1e-9))
    assert "rank-slide" not in {alert.rule for alert in alerts_of(strict)}
    assert "rank-slide" in {alert.rule for alert in alerts_of(evidence_of(sliding))}


def test_a_slide_within_what_healthy_layers_wander_is_info() -> None:
    course = [10 - 0.2 * max(0, at - 3) for at in range(15)]
    alerts = alerts_of(evidence_of({("lm_head.weight", STABLE): course[:12]}))
    (slide,) = (alert for alert in alerts if alert.rule == "rank-slide")
    assert slide.severity is Severity.INFO
    wary = TrendSettings(rank_wander_fraction=0.05)
    (slide,) = (
        alert
        for alert in alerts_of(
            evidence_of({("lm_head.weight", STABLE): course[:12]}, settings=wary)
        )
        if alert.rule == "rank-slide"
    )
    assert slide.severity is Severity.WARNING


def test_a_fall_with_a_jump_is_no_slide() -> None:
    course = [10.0, 9.9, 9.8, 9.7, 9.6, 9.5, 3.0, 2.9, 2.8, 2.7]
    rules = {alert.rule for alert in alerts_of(evidence_of({("a", STABLE): course}))}
    assert "rank-slide" not in rules
    assert "rank-break" in rules


def test_an_early_sign_goes_when_there_is_a_drop_to_speak_of() -> None:
    courses = {("lm_head.weight", STABLE): [10.0] * 6 + [9.4, 8.8, 8.2, 7.6, 7.0, 6.4]}
    rules = [
        {alert.rule for alert in alerts_of(evidence_of(courses, until=until))}
        for until in range(1, 13)
    ]
    signs = [until for until, found in enumerate(rules, start=1) if "rank-early" in found]
    drops = [until for until, found in enumerate(rules, start=1) if "rank-drop" in found]
    assert signs == [8, 9, 10]
    assert drops == [11, 12]


def test_an_early_sign_needs_half_of_the_threshold() -> None:
    courses = {("lm_head.weight", STABLE): [10.0] * 6 + [10 * 0.99**age for age in range(1, 10)]}
    signs = [
        until
        for until in range(1, 16)
        if "rank-early" in {alert.rule for alert in alerts_of(evidence_of(courses, until=until))}
    ]
    assert signs == [14, 15]
    assert accusations_of(evidence_of(courses)) == []
