"""The rules about ranks on the sample runs: a healthy one, and one with known faults."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import altgrad_inspect
from altgrad_inspect.records import Alert, Severity
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.detect import diagnose

SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"
SAVE_EVERY = 125
RULES = {"rank-drop", "rank-break", "rank-slide", "rank-early", "outlier-dominated"}
RANK_FAULTS = {"rank-loss", "outlier"}

Tables = Mapping[str, pa.Table]


@pytest.fixture(scope="module")
def healthy() -> Tables:
    return altgrad_inspect.rank(str(SAMPLES / "healthy")).tables


@pytest.fixture(scope="module")
def faulty() -> Tables:
    return altgrad_inspect.rank(str(SAMPLES / "faulty")).tables


@pytest.fixture(scope="module")
def truth() -> dict[str, dict[str, Any]]:
    faults = json.loads((SAMPLES / "truth.json").read_text())["faulty"]
    return {fault["layer"]: fault for fault in faults if fault["fault"] in RANK_FAULTS}


def accusations_of(tables: Tables, *, until: int = 1500) -> list[Alert]:
    seen = {
        name: tables[name].filter(pc.field("step") <= pc.scalar(until))
        for name in ("ranks", "checkpoints")
    }
    alerts = diagnose(TrendSettings(), **seen).alerts
    return [
        alert for alert in alerts if alert.rule in RULES and alert.severity is not Severity.INFO
    ]


def test_the_healthy_run_is_quiet_at_every_checkpoint(healthy: Tables) -> None:
    for until in range(SAVE_EVERY, 1501, SAVE_EVERY):
        assert accusations_of(healthy, until=until) == []


def test_exactly_the_layers_with_a_fault_are_accused(
    faulty: Tables, truth: dict[str, dict[str, Any]]
) -> None:
    for until in range(SAVE_EVERY, 1501, SAVE_EVERY):
        alerts = accusations_of(faulty, until=until)
        visible = {layer for layer, fault in truth.items() if fault["step_visible"] <= until}
        assert {alert.layer for alert in alerts} <= visible
    assert {alert.layer for alert in alerts} == set(truth)


def test_the_onset_is_within_a_checkpoint_of_the_truth(
    faulty: Tables, truth: dict[str, dict[str, Any]]
) -> None:
    alerts = [
        alert
        for alert in accusations_of(faulty)
        if alert.rule in {"rank-drop", "rank-break", "outlier-dominated"}
    ]
    assert len(alerts) == 5
    for alert in alerts:
        visible = truth[alert.layer]["step_visible"]
        assert abs(alert.step_onset - visible) <= SAVE_EVERY


@pytest.mark.parametrize(
    ("layer", "rules"),
    [
        ("lm_head.weight", {"rank-drop", "rank-slide"}),
        (
            "model.layers.2.self_attn.v_proj.weight",
            {"rank-drop", "rank-break", "rank-slide", "outlier-dominated"},
        ),
    ],
)
def test_both_rank_faults_are_critical(faulty: Tables, layer: str, rules: set[str]) -> None:
    critical = [
        alert
        for alert in accusations_of(faulty)
        if alert.layer == layer and alert.severity is Severity.CRITICAL
    ]
    assert {alert.rule for alert in critical} == rules


def test_the_outlier_is_named_as_soon_as_it_shows(faulty: Tables) -> None:
    alerts = accusations_of(faulty, until=875)
    assert "outlier-dominated" in {alert.rule for alert in alerts}
