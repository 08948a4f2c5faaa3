"""The rule flips-fading: when flips have faded, and what the loss makes of it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from altgrad_inspect.records import Alert, FlipRecord, Severity
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.rules.evidence import build_fingerprint
from altgrad_inspect.trends.rules.flips_fading import find_fading_flips
from tests.trends.flip_runs import LAYER, QUANTIZER, evidence_of, flip_run, peers_run

STEADY = [5000] * 10
FADING = [5000, 5000, 5000, 5000, 5000, 100, 100, 100, 100, 100]
COSINE = [5000, 5000, 4800, 4000, 3000, 2000, 1000, 300, 50, 10, 5, 2, 1, 0]
FALLING = [5.0, 4.5, 4.0, 3.5, 3.0, 2.5, 2.3, 2.1, 1.9, 1.7, 1.5]
FLAT = [5.0, 4.0, 3.0, 2.5, 2.2, 2.0, 1.9, 1.85, 1.84, 1.84, 1.84]
QUICK = TrendSettings(alpha=0.9)


def fading_in(
    *runs: list[FlipRecord], losses: Sequence[float] = (), settings: TrendSettings = QUICK
) -> list[Alert]:
    records = [record for run in runs for record in run]
    return find_fading_flips(evidence_of(records, losses=losses, settings=settings))


def test_without_a_loss_it_is_for_information() -> None:
    (alert,) = fading_in(flip_run(FADING))
    assert alert.drop_fraction == pytest.approx(0.98, abs=1e-4)
    assert replace(alert, drop_fraction=None) == Alert(
        fingerprint=build_fingerprint("flips-fading", LAYER, 0, f"flip_fraction[{QUANTIZER}]"),
        rule="flips-fading",
        severity=Severity.INFO,
        layer=LAYER,
        matrix=0,
        metric=f"flip_fraction[{QUANTIZER}]",
        step_onset=600,
        step_detected=700,
        value=0.01,
        baseline=0.5,
        drop_fraction=None,
        message=(
            f"{LAYER} ({QUANTIZER}) flips at 2.0% of its baseline rate since step 600, 0.0001"
            " against 0.005 flips a weight and step; whether it converged or stalls the loss"
            " decides, which is not known."
        ),
    )


def test_a_flat_loss_means_that_it_converged() -> None:
    (alert,) = fading_in(flip_run(FADING), peers_run(STEADY), losses=FLAT)
    assert alert.severity is Severity.INFO
    assert "the loss changed by -0.3% over its last third, so it has converged." in alert.message


def test_a_loss_that_falls_means_that_it_stalls() -> None:
    (alert,) = fading_in(flip_run(FADING), peers_run(STEADY), losses=FALLING)
    assert alert.severity is Severity.WARNING
    assert "its 3 peers flip at 100% of theirs and the loss changed by" in alert.message
    assert alert.message.endswith("so it stalls.")
    (alone,) = fading_in(flip_run(FADING), losses=FALLING)
    assert alone.severity is Severity.WARNING


def test_a_loss_that_rises_has_not_flattened() -> None:
    (alert,) = fading_in(flip_run(FADING), peers_run(STEADY), losses=[1.0] * 6 + FALLING[4::-1])
    assert alert.severity is Severity.WARNING


def test_a_cosine_schedule_fades_everyone_for_information() -> None:
    alerts = fading_in(flip_run(COSINE), peers_run(COSINE), losses=FALLING)
    assert [alert.severity for alert in alerts] == [Severity.INFO] * 4
    assert all("as under a schedule that decays" in alert.message for alert in alerts)


@pytest.mark.parametrize(("flipped", "severity"), [(950, Severity.INFO), (1050, Severity.WARNING)])
def test_peers_that_fade_nearly_as_far_share_it(flipped: int, severity: Severity) -> None:
    peers = peers_run([5000] * 5 + [flipped] * 15)
    (alert,) = fading_in(flip_run([5000] * 5 + [100] * 15), peers, losses=FALLING)
    assert alert.severity is severity


def test_a_rate_above_the_level_has_not_faded() -> None:
    assert fading_in(flip_run([5000] * 5 + [520] * 15)) == []
    assert len(fading_in(flip_run([5000] * 5 + [480] * 15))) == 1
    lower = TrendSettings(alpha=0.9, flips_fading_level=0.05)
    assert fading_in(flip_run([5000] * 5 + [480] * 15), settings=lower) == []


def test_uneven_steps_are_counted_out() -> None:
    """Ten times fewer steps, ten times fewer flips: the rate is the same."""
    steps = [*range(0, 6000, 1000), *range(5050, 5500, 50)]
    flipped = [5000] * 5 + [250] * 9
    assert fading_in(flip_run(flipped, steps=steps)) == []


def test_codes_that_all_flip_within_long_gaps_do_not_fade() -> None:
    """Thirty times more steps, no more flips: the rate fell by itself."""
    longer = [*range(0, 600, 100), *range(3500, 30_500, 3000)]
    assert fading_in(flip_run([5000] * 14, steps=longer)) == []
    (alert,) = fading_in(flip_run([2500] * 5 + [100] * 9, steps=longer))
    assert (alert.step_onset, alert.step_detected) == (3500, 6500)
    assert (alert.value, alert.baseline) == (0.01, 1.0)  # not 7.5, had the rate stayed


def test_few_flips_fade_by_chance() -> None:
    few = [9, 8, 9, 8, 9, 0, 0, 0, 0, 0]
    assert fading_in(flip_run(few, num_weights=40)) == []
    assert len(fading_in(flip_run([10 * number for number in few], num_weights=400))) == 1


def test_flips_that_came_back_are_for_information() -> None:
    (alert,) = fading_in(flip_run([*FADING, 4000, 4000]), peers_run([5000] * 12), losses=FALLING)
    assert alert.severity is Severity.INFO
    assert alert.message.endswith("it did not stay so; it recovered at step 1100.")


def test_failed_transitions_and_short_runs_say_nothing() -> None:
    assert fading_in(flip_run([5000, 5000, 0])) == []
    assert fading_in(flip_run([None] * 8)) == []
    (alert,) = fading_in(flip_run([5000, 5000, 5000, None, 5000, None, 10, None, 10, 10]))
    assert (alert.step_onset, alert.step_detected) == (700, 900)


def test_frozen_layers_do_not_fade_and_are_no_peers() -> None:
    frozen = peers_run([0] * 10, blocks=range(1, 9), num_updated=[0] * 10)
    assert fading_in(frozen) == []
    (alert,) = fading_in(flip_run(FADING), frozen, losses=FALLING)
    assert alert.severity is Severity.WARNING
    assert "peers" not in alert.message


def test_each_quantizer_has_its_own_peers() -> None:
    runs = [
        flip_run(FADING),
        peers_run(FADING),
        flip_run(FADING, quantizer="e2m1"),
        peers_run(STEADY, quantizer="e2m1"),
    ]
    warnings = [
        alert.metric
        for alert in fading_in(*runs, losses=FALLING)
        if alert.severity is Severity.WARNING
    ]
    assert warnings == ["flip_fraction[e2m1]"]
