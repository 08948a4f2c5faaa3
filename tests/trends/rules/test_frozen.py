"""The rule frozen: bit-identical through the whole run."""

from collections.abc import Sequence

import pytest

from altgrad_inspect.errors import ConfigError
from altgrad_inspect.records import Alert, FlipRecord, Severity
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.rules.evidence import build_fingerprint
from altgrad_inspect.trends.rules.frozen import find_frozen
from tests.trends.flip_runs import LAYER, evidence_of, flip_run, peers_run


def frozen_run(updated: Sequence[int | None]) -> list[FlipRecord]:
    return flip_run([None if number is None else 0 for number in updated], num_updated=updated)


def frozen_in(records: list[FlipRecord], settings: TrendSettings | None = None) -> list[Alert]:
    return find_frozen(evidence_of(records, settings=settings))


def test_a_frozen_layer_is_for_information() -> None:
    (alert,) = frozen_in(frozen_run([0, 0, 0]))
    assert alert == Alert(
        fingerprint=build_fingerprint("frozen", LAYER, 0, "num_updated"),
        rule="frozen",
        severity=Severity.INFO,
        layer=LAYER,
        matrix=0,
        metric="num_updated",
        step_onset=0,
        step_detected=200,
        value=0.0,
        baseline=None,
        drop_fraction=None,
        message=(
            f"{LAYER} is bit-identical from step 0 to 300: none of its 10,000 weights changed in"
            " 3 transitions, as a layer is that was frozen on purpose."
        ),
    )


def test_one_that_is_to_be_trained_is_a_warning() -> None:
    (alert,) = frozen_in(frozen_run([0, 0]), TrendSettings(trained_layers=("*.mlp.*",)))
    assert alert.severity is Severity.WARNING
    assert alert.message.endswith("though it is to be trained.")
    (alert,) = frozen_in(frozen_run([0, 0]), TrendSettings(trained_layers=("attn",)))
    assert alert.severity is Severity.INFO
    with pytest.raises(ConfigError, match="is empty"):
        frozen_in(frozen_run([0, 0]), TrendSettings(trained_layers=("",)))


@pytest.mark.parametrize("updated", [[0], [0, 0, 1], [1, 0, 0, 0], [None, 0], [None, None]])
def test_anything_else_is_not_frozen(updated: list[int | None]) -> None:
    assert frozen_in(frozen_run(updated)) == []


def test_what_could_not_be_compared_says_nothing() -> None:
    (alert,) = frozen_in(frozen_run([None, 0, None, 0]))
    assert (alert.step_onset, alert.step_detected) == (100, 400)
    assert "in 2 transitions" in alert.message


def test_it_is_one_alert_for_all_quantizers() -> None:
    both = [*frozen_run([0, 0]), *flip_run([0, 0], num_updated=[0, 0], quantizer="e2m1")]
    assert len(frozen_in(both)) == 1


STOPPED = [10_000, 10_000, 10_000, 0, 0, 0]
MOVING = peers_run([5000] * 6)


def test_a_layer_that_stops_while_its_peers_go_on_is_a_warning() -> None:
    (alert,) = frozen_in([*frozen_run(STOPPED), *MOVING])
    assert alert == Alert(
        fingerprint=build_fingerprint("frozen", LAYER, 0, "num_updated"),
        rule="frozen",
        severity=Severity.WARNING,
        layer=LAYER,
        matrix=0,
        metric="num_updated",
        step_onset=400,
        step_detected=500,
        value=0.0,
        baseline=None,
        drop_fraction=None,
        message=(
            f"{LAYER} stopped at step 300: 0 updates of 10,000 weights in 3 transitions, while up"
            " to step 500 100% of the weights of its 3 peers were updated."
        ),
    )


def test_a_layer_that_rested_is_for_information() -> None:
    (alert,) = frozen_in([*frozen_run([10_000, 0, 0, 10_000, 900, 900]), *MOVING])
    assert alert.severity is Severity.INFO
    assert alert.message.endswith("were updated; it recovered at step 400.")


@pytest.mark.parametrize(
    "updated",
    [
        [500, 500, 500, 0, 500, 0],
        [500] * 5 + [0],
        [0, 0, 0, 500, 500, 500],
        [None, 0, None, 0, 500, 500],
        [99, 99, 99, 99, 50, 50],
    ],
)
def test_one_transition_or_a_late_start_is_no_stop(updated: list[int | None]) -> None:
    assert frozen_in([*frozen_run(updated), *MOVING]) == []


def test_a_run_that_stops_as_a_whole_stops_nobody() -> None:
    resting = peers_run([0] * 6, num_updated=STOPPED)
    assert frozen_in([*frozen_run(STOPPED), *resting]) == []
    assert frozen_in(frozen_run(STOPPED)) == []
    slow = peers_run([0] * 6, num_updated=[10_000] * 3 + [99] * 3)
    assert frozen_in([*frozen_run(STOPPED), *slow]) == []


def test_few_weights_and_vectors_may_rest() -> None:
    few = flip_run([0] * 6, num_weights=40, num_updated=[9, 9, 9, 9, 0, 0])
    assert frozen_in([*few, *peers_run([5] * 6, num_weights=40, num_updated=[9] * 6)]) == []
    norm = "model.layers.0.input_layernorm.weight"
    vector = flip_run([0] * 6, norm, num_updated=STOPPED)
    other = flip_run([5] * 6, norm.replace("0", "1"))
    (alert,) = frozen_in([*vector, *other])
    assert alert.severity is Severity.INFO


@pytest.mark.parametrize(("number", "count"), [(99, 1), (100, 0)])
def test_a_starved_layer_still_changes_a_few_weights(number: int, count: int) -> None:
    starved = frozen_run([10_000, 10_000, 10_000, number, number, number])
    found = frozen_in([*starved, *MOVING])
    assert len(found) == count
    assert all("297 updates of 10,000 weights in 3 transitions" in one.message for one in found)


@pytest.mark.parametrize(("before", "count"), [(1500, 0), (1700, 1)])
def test_what_never_moved_much_has_not_stopped(before: int, count: int) -> None:
    assert len(frozen_in([*frozen_run([before] * 3 + [80] * 3), *MOVING])) == count


@pytest.mark.parametrize(("others", "count"), [(1500, 0), (1700, 1)])
def test_peers_that_move_little_prove_little(others: int, count: int) -> None:
    peers = peers_run([0] * 6, num_updated=[others] * 6)
    assert len(frozen_in([*frozen_run([10_000] * 3 + [80] * 3), *peers])) == count


def test_zeros_that_stay_zero_are_dead_and_not_frozen() -> None:
    dead = flip_run([0] * 6, num_updated=STOPPED, relative_update=[0.1, 0.1, 1.0, None, None, None])
    assert frozen_in([*dead, *MOVING]) == []
