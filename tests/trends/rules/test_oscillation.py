"""The rule oscillation: it takes both signs, twice in a row."""

from collections.abc import Sequence

import pytest

from altgrad_inspect.records import Alert, Severity
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.rules.evidence import build_fingerprint
from altgrad_inspect.trends.rules.oscillation import find_oscillations
from tests.trends.flip_runs import LAYER, QUANTIZER, evidence_of, flip_run


def oscillations_of(
    excesses: Sequence[float | None],
    reverts: Sequence[float | None],
    settings: TrendSettings | None = None,
) -> list[Alert]:
    """1000 flips in every transition, of which ``reverts`` is the share that reverts."""
    records = flip_run(
        [None if excess is None else 1000 for excess in excesses],
        num_expected_flips=[excess and 1000 / excess for excess in excesses],
        num_reverted=[None if share is None else round(1000 * share) for share in reverts],
    )
    return find_oscillations(evidence_of(records, settings=settings))


def test_one_alert_tells_both_signs() -> None:
    (alert,) = oscillations_of([1, 1, 12.5, 12.5, 12.5], [None, 0.1, 0.6, 0.98, 0.99])
    assert alert == Alert(
        fingerprint=build_fingerprint("oscillation", LAYER, 0, f"flip_excess[{QUANTIZER}]"),
        rule="oscillation",
        severity=Severity.WARNING,
        layer=LAYER,
        matrix=0,
        metric=f"flip_excess[{QUANTIZER}]",
        step_onset=300,
        step_detected=400,
        value=12.5,
        baseline=2.0,
        drop_fraction=None,
        message=(
            f"{LAYER} ({QUANTIZER}) hops over the boundaries of its codes and back since step"
            " 300: at step 400 1,000 flips, 12.5 times what evenly placed weights would make,"
            " and 98% of them undo the flip before."
        ),
    )


@pytest.mark.parametrize("share", [0.25, 0.4, 0.6, 0.9])
@pytest.mark.parametrize("excess", [0.9, 1.0, 1.2])
def test_reverts_alone_are_a_random_walk(excess: float, share: float) -> None:
    """25 to 60 % of the flips of healthy layers revert under Adam-like noise."""
    assert oscillations_of([excess] * 8, [None] + [share] * 7) == []


def test_an_excess_alone_is_no_oscillation() -> None:
    assert oscillations_of([60.0] * 8, [None] + [0.09] * 7) == []


@pytest.mark.parametrize(
    ("excess", "share", "count"), [(2.0, 0.9, 0), (2.1, 0.9, 1), (9.0, 0.5, 0), (9.0, 0.501, 1)]
)
def test_the_thresholds_are_not_included(excess: float, share: float, count: int) -> None:
    assert len(oscillations_of([excess] * 4, [None] + [share] * 3)) == count


def test_two_in_a_row_are_needed() -> None:
    assert oscillations_of([9, 9, 1, 9, 1, 9], [None, 0.9, 0.9, 0.9, 0.9, 0.9]) == []


def test_the_first_transition_has_no_reverts_and_cannot_say_it() -> None:
    assert oscillations_of([9, 9], [None, 0.9]) == []
    (alert,) = oscillations_of([9, 9, 9], [None, 0.9, 0.9])
    assert alert.step_onset == 200


def test_a_failed_transition_and_too_few_flips_say_nothing() -> None:
    (alert,) = oscillations_of([1, 9, None, 9], [None, 0.9, None, 0.9])
    assert (alert.step_onset, alert.step_detected) == (200, 400)
    few = flip_run([300] * 4, num_expected_flips=[29.0] * 4, num_reverted=[None, 290, 290, 290])
    assert find_oscillations(evidence_of(few)) == []


def test_an_end_is_told() -> None:
    (alert,) = oscillations_of([9, 9, 9, 1], [None, 0.9, 0.9, 0.2])
    assert alert.message.endswith("; it recovered at step 400.")


def test_the_thresholds_are_settings() -> None:
    signs = ([9.0] * 4, [None, 0.9, 0.9, 0.9])
    assert oscillations_of(*signs, settings=TrendSettings(oscillation_excess=10.0)) == []
    assert oscillations_of(*signs, settings=TrendSettings(oscillation_reverted=0.95)) == []
