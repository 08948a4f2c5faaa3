"""The sample runs: every fault named, and nothing said about what is well."""

import json
from pathlib import Path
from typing import Any

import pytest

import altgrad_inspect as ai
from altgrad_inspect.records import Verdict

SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"
TRUTH = json.loads((SAMPLES / "truth.json").read_text(encoding="utf-8"))["faulty"]
STEPS_APART = 125
VERDICTS = {
    "frozen": Verdict.FROZEN,
    "rank-loss": Verdict.COLLAPSING,
    "outlier": Verdict.OUTLIER_DOMINATED,
    "oscillation": Verdict.OSCILLATING,
    "bit-stall": Verdict.BIT_STALLED,
    "dead": Verdict.DEAD,
    "nan": Verdict.NONFINITE,
}
FLIP_AND_STATE_RULES = {
    "nonfinite-weights",
    "dead-layer",
    "frozen",
    "bit-stalled",
    "oscillation",
    "saturation",
    "scale-jump",
    "flips-fading",
}

Rows = dict[str, list[dict[str, Any]]]


def read_rows(run: str) -> Rows:
    results = ai.report(SAMPLES / run)
    return {name: results.tables[name].to_pylist() for name in ("alerts", "verdicts")}


@pytest.fixture(scope="module")
def faulty() -> Rows:
    return read_rows("faulty")


@pytest.fixture(scope="module")
def healthy() -> Rows:
    return read_rows("healthy")


@pytest.mark.parametrize("fault", TRUTH, ids=lambda fault: str(fault["fault"]))
def test_every_fault_is_named_when_it_shows(fault: dict[str, Any], faulty: Rows) -> None:
    (row,) = (row for row in faulty["verdicts"] if row["layer"] == fault["layer"])
    assert row["verdict"] == VERDICTS[fault["fault"]]
    assert abs(row["step_onset"] - fault["step_visible"]) <= STEPS_APART
    assert row["severity"] == ("info" if fault["fault"] == "frozen" else row["severity"])


def test_no_other_layer_is_accused(faulty: Rows) -> None:
    others = [
        row for row in faulty["verdicts"] if row["layer"] not in {fault["layer"] for fault in TRUTH}
    ]
    assert {row["verdict"] for row in others} == {Verdict.HEALTHY}
    assert len(others) == 51 - 7


def test_the_rules_about_flips_and_states_say_nothing_of_a_healthy_run(healthy: Rows) -> None:
    assert [row for row in healthy["alerts"] if row["rule"] in FLIP_AND_STATE_RULES] == []


def test_a_healthy_run_is_healthy(healthy: Rows) -> None:
    assert {row["verdict"] for row in healthy["verdicts"]} == {Verdict.HEALTHY}
    assert [row for row in healthy["alerts"] if row["severity"] != "info"] == []
