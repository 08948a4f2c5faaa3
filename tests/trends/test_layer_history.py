"""The rows of a layer as the rules see them."""

from dataclasses import replace
from typing import Any

import pytest

from altgrad_inspect.records import Status
from altgrad_inspect.tables.convert import build_table
from altgrad_inspect.tables.schema import FLIPS, RANKS
from altgrad_inspect.trends.layer_history import (
    MatrixState,
    Transition,
    find_layer_histories,
    find_matrix_histories,
)
from tests.trends.flip_runs import FAILED, flip_run, rank_run


def transition_of(
    status: Status = Status.OK,
    *,
    quantizer: str = "e4m3",
    num_weights: int = 1000,
    **columns: Any,
) -> Transition:
    more: dict[str, Any] = {name: [value] for name, value in columns.items()}
    (record,) = flip_run([10], num_weights=num_weights, quantizer=quantizer, **more)
    record = replace(record, status=status, reason=None if status is Status.OK else "x")
    ((history),) = find_layer_histories(build_table(FLIPS, [record]))
    return history.transitions[0]


def test_every_column_arrives() -> None:
    columns: dict[str, Any] = {
        "num_updated": 500,
        "num_expected_flips": 40.0,
        "num_reverted": 7,
        "num_saturated": 8,
        "num_scales": 9,
        "scale_ratio_max": 1.5,
        "update_norm": 2.5,
        "relative_update": 3.5,
    }
    assert transition_of(**columns) == Transition(
        step_from=0,
        step_to=100,
        num_weights=1000,
        num_updated=500,
        num_flipped=10,
        flip_fraction=0.01,
        flip_excess=0.25,
        num_reverted=7,
        num_saturated=8,
        num_scales=9,
        scale_ratio_max=1.5,
        num_nonfinite=0,
        update_norm=2.5,
        relative_update=3.5,
        usable=True,
    )


def test_histories_are_sorted_whatever_the_order_of_the_rows() -> None:
    records = [
        *flip_run([1, 2, 3], "b"),
        *flip_run([4, 5], "a", quantizer="z"),
        *flip_run([6], "a"),
    ]
    table = build_table(FLIPS, records)
    histories = find_layer_histories(table.take(list(range(table.num_rows))[::-1]))
    assert [
        (one.layer, one.quantizer, [row.num_flipped for row in one.transitions])
        for one in histories
    ] == [("a", "e4m3:tensor:amax", [6]), ("a", "z", [4, 5]), ("b", "e4m3:tensor:amax", [1, 2, 3])]
    assert find_layer_histories(None) == ()


@pytest.mark.parametrize(
    ("transition", "usable"),
    [
        (transition_of(), True),
        (transition_of(num_nonfinite=1), False),
        (transition_of(Status.UNDEFINED), False),
        (transition_of(Status.UNDEFINED, quantizer="stored:e4m3"), True),
        (transition_of(Status.UNDEFINED, quantizer="stored:e4m3", num_nonfinite=2), False),
        (transition_of(Status.FAILED), False),
        (transition_of(num_weights=0), False),
    ],
)
def test_only_rows_that_were_compared_are_evidence(transition: Transition, usable: bool) -> None:  # noqa: FBT001
    assert transition.usable is usable


def test_a_row_without_counts_has_no_numbers() -> None:
    (history,) = find_layer_histories(build_table(FLIPS, flip_run([None])))
    (transition,) = history.transitions
    assert (transition.usable, transition.update_fraction, transition.num_steps) == (
        False,
        None,
        100,
    )


def test_fractions_and_zeros_are_read_from_the_counts() -> None:
    assert transition_of(num_updated=250).update_fraction == 0.25
    assert transition_of(relative_update=None).starts_from_zero
    assert not transition_of(relative_update=0.1).starts_from_zero
    assert not transition_of(relative_update=None, update_norm=None).starts_from_zero
    assert not transition_of(Status.UNDEFINED, relative_update=None).starts_from_zero


def test_rank_rows_tell_the_state_of_the_weights() -> None:
    records = [
        *rank_run([9.0, "zero matrix", "3 NaN and 0 Inf among 9 weights", FAILED], "a", matrix=1),
        *rank_run(["drowned in rounding"], "a"),
        *(replace(record, subject="update") for record in rank_run(["zero matrix"], "b")),
    ]
    first, second = find_matrix_histories(build_table(RANKS, records))
    assert (first.layer, first.matrix) == ("a", 0)
    assert [state for _, state, _ in first.states] == [MatrixState.UNKNOWN]
    assert [(step, state) for step, state, _ in second.states] == [
        (0, MatrixState.LIVE),
        (100, MatrixState.ZERO),
        (200, MatrixState.NONFINITE),
        (300, MatrixState.UNKNOWN),
    ]
    assert find_matrix_histories(None) == ()
