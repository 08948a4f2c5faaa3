"""The rule bit-stalled: weights that move and codes that do not, and all that looks like it."""

import pytest

from altgrad_inspect.records import Alert, FlipRecord, Severity
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.rules.bit_stalled import find_bit_stalls
from altgrad_inspect.trends.rules.evidence import build_fingerprint
from tests.trends.flip_runs import (
    LAYER,
    QUANTIZER,
    evidence_of,
    flip_run,
    peers_run,
    rank_run,
)

HEALTHY = [5000] * 6
STALLED = [5000, 5000, 5000, 0, 0, 0]
NORM = "model.layers.0.input_layernorm.weight"


def stalls_of(*runs: list[FlipRecord], settings: TrendSettings | None = None) -> list[Alert]:
    records = [record for run in runs for record in run]
    return find_bit_stalls(evidence_of(records, settings=settings))


def test_one_alert_tells_since_when_and_against_what() -> None:
    (alert,) = stalls_of(flip_run(STALLED), peers_run(HEALTHY))
    assert alert == Alert(
        fingerprint=build_fingerprint("bit-stalled", LAYER, 0, f"flip_fraction[{QUANTIZER}]"),
        rule="bit-stalled",
        severity=Severity.CRITICAL,
        layer=LAYER,
        matrix=0,
        metric=f"flip_fraction[{QUANTIZER}]",
        step_onset=400,
        step_detected=500,
        value=0.0,
        baseline=0.5,
        drop_fraction=1.0,
        message=(
            f"The codes of {LAYER} ({QUANTIZER}) have stopped since step 400, while its weights"
            " move: 0 flips in 3 transitions; from step 400 to 500 100% of its weights were"
            " updated, and of the codes of its 3 peers 50% flipped."
        ),
    )


def test_a_high_stall_fraction_is_no_stall() -> None:
    """With float32 masters 0.95 to 0.9999 of the updates of healthy layers flip nothing."""
    for flipped in (500, 100, 10, 2):  # stall fractions 0.95, 0.99, 0.999, 0.9998
        assert stalls_of(flip_run([flipped] * 6), peers_run([flipped] * 6)) == []


def test_one_transition_is_not_enough() -> None:
    assert stalls_of(flip_run([5000, 5000, 0, 5000, 0, 5000]), peers_run(HEALTHY)) == []
    assert stalls_of(flip_run([5000, 5000, 5000, 5000, 5000, 0]), peers_run(HEALTHY)) == []


def test_a_stall_that_ended_is_a_warning_and_says_so() -> None:
    (alert,) = stalls_of(flip_run([5000, 0, 0, 0, 5000, 5000]), peers_run(HEALTHY))
    assert alert.severity is Severity.WARNING
    assert (alert.step_onset, alert.step_detected) == (200, 300)
    assert alert.message.endswith("flipped; it recovered at step 500.")


def test_a_schedule_that_stops_everyone_stalls_nobody() -> None:
    cosine = [5000, 3000, 1000, 100, 0, 0, 0]
    assert stalls_of(flip_run(cosine), peers_run(cosine)) == []


def test_a_stall_goes_on_while_the_schedule_stops_the_peers() -> None:
    (alert,) = stalls_of(
        flip_run([5000, 5000, 0, 0, 0, 0]), peers_run([5000, 5000, 5000, 5000, 0, 0])
    )
    assert alert.severity is Severity.CRITICAL
    assert "0 flips in 2 transitions" in alert.message


def test_a_stall_goes_on_when_the_updates_cease_too() -> None:
    updated = [10_000, 10_000, 100, 100, 99, 0]
    (alert,) = stalls_of(
        flip_run([5000, 5000, 0, 0, 0, 0], num_updated=updated), peers_run(HEALTHY)
    )
    assert "recovered" not in alert.message
    assert "0 flips in 2 transitions" in alert.message
    assert "1% of its weights" in alert.message


@pytest.mark.parametrize(("updated", "count"), [(100, 1), (99, 0), (0, 0)])
def test_updates_have_to_go_on(updated: int, count: int) -> None:
    run = flip_run([0] * 6, num_updated=[updated] * 6)
    assert len(stalls_of(run, peers_run(HEALTHY))) == count


@pytest.mark.parametrize(("flipped", "count"), [(99, 1), (100, 0)])
def test_the_flips_have_to_be_below_the_limit(flipped: int, count: int) -> None:
    run = flip_run([flipped] * 6, num_weights=100_000)
    peers = peers_run([50_000] * 6, num_weights=100_000)
    assert len(stalls_of(run, peers)) == count


@pytest.mark.parametrize(("peer_flips", "count"), [(1600, 1), (1400, 0)])
def test_the_flips_have_to_be_far_below_the_peers(peer_flips: int, count: int) -> None:
    run = flip_run([75] * 6, num_weights=1_000_000)
    peers = peers_run([peer_flips] * 6, num_weights=1_000_000)
    assert len(stalls_of(run, peers)) == count


def test_slow_peers_make_no_stall() -> None:
    """The codes of a fine-tuning hardly move anywhere."""
    run = flip_run([0] * 6, num_weights=1_000_000)
    assert stalls_of(run, peers_run([90] * 6, num_weights=1_000_000)) == []


def test_zeros_that_change_their_sign_are_no_updates() -> None:
    run = flip_run([0] * 6, update_norm=[0.0] * 6)
    assert stalls_of(run, peers_run(HEALTHY)) == []


def test_stored_codes_without_values_say_nothing() -> None:
    run = flip_run([0] * 6, quantizer="stored:e4m3", update_norm=[None] * 6)
    assert stalls_of(run, peers_run(HEALTHY, quantizer="stored:e4m3")) == []


def test_few_weights_have_to_miss_enough_flips() -> None:
    """Of 40 weights a flip fraction of 0 says little, even with peers at a quarter."""
    few = flip_run([10, 0, 0], num_weights=40)
    assert stalls_of(few, peers_run([10, 10, 10], num_weights=40)) == []
    (alert,) = stalls_of(
        flip_run([10, 0, 0, 0, 0], num_weights=40), peers_run([10] * 5, num_weights=40)
    )
    assert (alert.step_onset, alert.step_detected) == (200, 400)  # 10, 20, 30 are missing
    assert stalls_of(flip_run([0, 0, 1, 0, 0], num_weights=40), peers_run([10] * 5)) == []


def test_a_single_flip_does_not_end_a_stall() -> None:
    (alert,) = stalls_of(
        flip_run([900, 0, 1, 0], num_weights=1600), peers_run([900] * 4, num_weights=1600)
    )
    assert (alert.step_onset, alert.severity) == (200, Severity.CRITICAL)
    assert "1 flips in 3 transitions" in alert.message


def test_a_failed_transition_neither_stalls_nor_recovers() -> None:
    (alert,) = stalls_of(flip_run([5000, 5000, 0, None, 0, None]), peers_run(HEALTHY))
    assert (alert.step_onset, alert.step_detected) == (300, 500)
    assert "0 flips in 2 transitions" in alert.message
    assert stalls_of(flip_run([5000, 5000, 0, None, 5000, 0]), peers_run(HEALTHY)) == []


def test_without_peers_of_its_name_those_of_its_role_are_asked_and_then_all_matrices() -> None:
    alone = flip_run([0] * 6, "backbone.lm_head.weight")
    (alert,) = stalls_of(alone, flip_run(HEALTHY, "score.weight"), peers_run([1] * 6))
    assert (alert.baseline, alert.layer) == (0.5, "backbone.lm_head.weight")
    (alert,) = stalls_of(alone, peers_run(HEALTHY))
    assert "its 3 peers" in alert.message


def test_layers_that_stopped_together_are_judged_by_the_others() -> None:
    stopped = peers_run([5000, 5000, 0, 0, 0, 0])
    moving = flip_run(HEALTHY, "model.layers.0.mlp.down_proj.weight")
    others = flip_run(HEALTHY, "model.layers.0.self_attn.o_proj.weight")
    more = flip_run(HEALTHY, "lm_head.weight")
    assert len(stalls_of(stopped, moving, others, more)) == 3


def test_nobody_is_judged_without_peers() -> None:
    assert stalls_of(flip_run([0] * 6)) == []
    frozen = peers_run([0] * 6, num_updated=[0] * 6)
    assert stalls_of(flip_run([0] * 6), frozen) == []


def test_frozen_layers_are_no_peers() -> None:
    frozen = peers_run([0] * 6, blocks=range(2, 20), num_updated=[0] * 6)
    (alert,) = stalls_of(flip_run([0] * 6), frozen, peers_run(HEALTHY, blocks=[1]))
    assert "its 1 peers" in alert.message


def test_vectors_are_compared_with_vectors_for_information() -> None:
    norms = flip_run(HEALTHY, "model.layers.1.input_layernorm.weight")
    (alert,) = stalls_of(flip_run([0] * 6, NORM), norms)
    assert alert.severity is Severity.INFO
    assert stalls_of(flip_run([0] * 6, NORM), peers_run(HEALTHY)) == []
    bias = flip_run([0] * 6, "model.layers.0.mlp.up_proj.bias")
    assert stalls_of(bias, peers_run(HEALTHY)) == []


def test_what_has_ranks_is_a_matrix() -> None:
    records = [*flip_run([0] * 6, NORM), *peers_run(HEALTHY)]
    ranks = [*rank_run([9.0] * 7, NORM), *rank_run([9.0] * 7, "model.layers.1.mlp.up_proj.weight")]
    (alert,) = find_bit_stalls(evidence_of(records, ranks))
    assert alert.severity is Severity.CRITICAL
    assert "its 1 peers" in alert.message  # the others have no ranks


def test_each_quantizer_is_judged_alone() -> None:
    fine = [flip_run(HEALTHY, quantizer="e2m1"), peers_run(HEALTHY, quantizer="e2m1")]
    (alert,) = stalls_of(flip_run(STALLED), peers_run(HEALTHY), *fine)
    assert alert.metric == f"flip_fraction[{QUANTIZER}]"


def test_peers_are_those_of_the_same_transition() -> None:
    """A checkpoint is missing for the peers: nothing spans the same steps."""
    run = flip_run([0] * 4, steps=[0, 100, 200, 300, 400])
    assert stalls_of(run, peers_run([5000] * 2, steps=[0, 200, 400])) == []


def test_the_thresholds_are_settings() -> None:
    runs = (flip_run([3] * 6), peers_run(HEALTHY))
    assert len(stalls_of(*runs)) == 1
    assert stalls_of(*runs, settings=TrendSettings(stall_flip_fraction=1e-4)) == []
    tight = TrendSettings(stall_peer_share=5e-4)
    assert stalls_of(*runs, settings=tight) == []
    updated = flip_run([0] * 6, num_updated=[2000] * 6)
    strict = TrendSettings(stall_update_fraction=0.3)
    assert stalls_of(updated, peers_run(HEALTHY), settings=strict) == []
