"""Runs really trained from scratch: the healthy one is quiet, each cause is named in time.

One small recipe that no threshold was chosen on; docs/detection.md has eleven.
"""

from collections.abc import Mapping

import pytest

from altgrad_inspect.records import Severity, Verdict
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.detect import diagnose
from tests.planted.evaluate import (
    EVERYWHERE,
    HEAD,
    STARVED,
    TRAINED_CAUSES,
    TrainedResult,
    judge_training,
)
from tests.planted.recorder import Tables
from tests.planted.scoring import watch
from tests.planted.trained import Recipe, decay_tail, raise_all_rates, starve, train

SETTINGS = TrendSettings()
RECIPE = Recipe(
    name="quick", hidden=64, steps=320, save_every=20, peak_lr=4e-3, batch=6, context=40, seed=31
)
CAUSES = {
    "rate": (EVERYWHERE, raise_all_rates),
    "tail": (HEAD, decay_tail(HEAD, 2e-2)),
    "starved": (STARVED, starve(STARVED)),
}


@pytest.fixture(scope="module")
def runs() -> Mapping[str, Tables]:
    causes = {name: cause for name, (_, cause) in CAUSES.items()}
    return train(RECIPE, {"healthy": None, **causes})


@pytest.fixture(scope="module")
def results(runs: Mapping[str, Tables]) -> Mapping[str, TrainedResult]:
    return {
        cause: judge_training(RECIPE, cause, layer, runs[cause], SETTINGS)
        for cause, (layer, _) in CAUSES.items()
    }


def test_a_healthy_run_is_quiet_at_every_checkpoint(runs: Mapping[str, Tables]) -> None:
    assert watch(runs["healthy"], SETTINGS).first == {}


def test_its_ranks_did_fall_steeply_by_themselves(runs: Mapping[str, Tables]) -> None:
    rows = runs["healthy"].ranks.to_pylist()
    head = [row["stable_rank"] for row in rows if row["layer"] == HEAD]
    assert min(head) < 0.6 * head[0]
    tables = runs["healthy"]
    found = diagnose(
        SETTINGS, ranks=tables.ranks, flips=tables.flips, checkpoints=tables.checkpoints
    )
    drops = [alert for alert in found.alerts if alert.rule == "rank-drop"]
    assert drops
    assert {alert.severity for alert in drops} == {Severity.INFO}
    assert {row.verdict for row in found.verdicts} == {Verdict.HEALTHY}


@pytest.mark.parametrize("cause", CAUSES)
def test_a_cause_is_named_at_the_first_or_second_checkpoint_after_it(
    cause: str, results: Mapping[str, TrainedResult]
) -> None:
    result = results[cause]
    assert result.before == frozenset()
    assert min(result.delays.values()) <= 1


def test_each_is_named_by_the_rule_that_is_meant_for_it(
    results: Mapping[str, TrainedResult],
) -> None:
    assert results["rate"].delays["rank-break"] <= 1
    assert results["tail"].delays["rank-break"] <= 1
    assert results["starved"].delays["bit-stalled"] == 1


def test_the_starved_layer_is_named_alone(results: Mapping[str, TrainedResult]) -> None:
    assert results["starved"].elsewhere == frozenset()


def test_the_same_recipe_gives_the_same_run_and_the_cause_changes_only_what_follows(
    runs: Mapping[str, Tables],
) -> None:
    step = RECIPE.step_visible - RECIPE.save_every
    assert runs["healthy"].until(step).ranks.equals(runs["tail"].until(step).ranks)
    assert not runs["healthy"].ranks.equals(runs["tail"].ranks)


def test_every_cause_of_the_table_says_where_it_is() -> None:
    assert {layer for layer, _ in TRAINED_CAUSES.values()} == {EVERYWHERE, HEAD, STARVED}
