"""What is asked of the rules: name what was planted, in time, and nothing else.

The whole sweep is in docs/detection.md; this is the part of it that fits into a minute.
"""

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

from altgrad_inspect.settings import TrendSettings
from tests.planted.evaluate import PlantedResult, judge_case
from tests.planted.generator import CONTINUED, FINE_TUNING, PRE_TRAINING, Course
from tests.planted.plants import FAULTS
from tests.planted.recorder import LayerRows, build_tables
from tests.planted.scoring import watch
from tests.planted.sweep import build_cases, no_losses, record_healthy

SETTINGS = TrendSettings()
COURSES = (
    Course(num_checkpoints=14, even=True, pace=FINE_TUNING, seed=50),
    Course(num_checkpoints=10, even=False, pace=CONTINUED, dtype=torch.bfloat16, seed=51),
    Course(num_checkpoints=12, even=False, pace=PRE_TRAINING, floor=0.0, seed=52),
    Course(num_checkpoints=5, even=True, pace=PRE_TRAINING, seed=53),
)

LATEST: Mapping[tuple[str, float], int] = {
    ("stall", 1e-2): 1,
    ("stall", 1e-3): 1,
    ("stall", 1e-5): 1,
    ("frozen from the start", 1.0): 2,
    ("frozen half way", 1.0): 1,
    ("oscillation at boundaries", 0.1): 3,
    ("oscillation at boundaries", 0.5): 3,
    ("growing top singular value", 0.08): 4,
    ("growing top singular value", 0.3): 0,
    ("decaying tail", 0.1): 5,
    ("decaying tail", 0.3): 2,
    ("one growing outlier", 1.0): 6,
    ("one growing outlier", 4.0): 1,
    ("zeroed layer", 1.0): 0,
    ("scale jump", 5.0): 0,
    ("scale jump", 16.0): 0,
    ("one NaN", 1.0): 0,
}
"""Fault and strength: checkpoints after the first that shows it by which it must be named."""


@pytest.fixture(scope="session")
def moved(layers: Mapping[str, Tensor]) -> Mapping[Course, Mapping[str, LayerRows]]:
    """Every layer, moved along the courses with nothing planted."""
    return {course: record_healthy(course, layers) for course in COURSES}


@pytest.mark.parametrize("course", COURSES, ids=lambda course: course.name)
def test_healthy_layers_are_left_alone_at_every_checkpoint(
    course: Course, moved: Mapping[Course, Mapping[str, LayerRows]]
) -> None:
    rows = moved[course]
    assert len(rows) == 38
    assert watch(build_tables(rows, no_losses(course)), SETTINGS).first == {}


@pytest.fixture(scope="session")
def results(
    layers: Mapping[str, Tensor], moved: Mapping[Course, Mapping[str, LayerRows]]
) -> Sequence[PlantedResult]:
    """Every fault at every strength, watched for a few checkpoints after its cause."""
    course = COURSES[0]
    cases = build_cases(course, layers, moved[course])
    return [judge_case(case, SETTINGS, patience=max(LATEST.values())) for case in cases]


@pytest.mark.parametrize("name", sorted({name for name, _ in LATEST}))
def test_a_planted_fault_is_named_in_time(name: str, results: Sequence[PlantedResult]) -> None:
    for result in results:
        latest = LATEST.get((result.case.fault.name, result.case.strength))
        if result.case.fault.name == name and latest is not None:
            assert result.delay is not None, f"strength {result.case.strength} was not named"
            assert result.delay <= latest, f"strength {result.case.strength}: {result.delays}"


def test_nobody_else_is_named(results: Sequence[PlantedResult]) -> None:
    assert len(results) == sum(len(fault.strengths) for fault in FAULTS)
    for result in results:
        assert result.num_bystanders > 8
        assert result.false_alarms == frozenset(), result.case.fault.name


def test_zeros_that_change_their_sign_are_no_news(results: Sequence[PlantedResult]) -> None:
    quiet = [result for result in results if not result.case.fault.rules]
    assert len(quiet) == 3
    assert [result.delays for result in quiet] == [{}, {}, {}]


@pytest.mark.parametrize("name", ["growing top singular value", "decaying tail"])
def test_a_stronger_fault_is_named_no_later(name: str, results: Sequence[PlantedResult]) -> None:
    delays = [result.delay for result in results if result.case.fault.name == name]
    known = [delay for delay in delays if delay is not None]
    assert len(known) >= 2
    assert known == sorted(known, reverse=True)
