"""How much the loss moved over its last third."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altgrad_inspect.trends.loss_trend import find_loss_change

NAN = float("nan")


def change_of(losses: list[float], steps: list[int] | None = None) -> float | None:
    return find_loss_change(list(zip(steps or range(len(losses)), map(float, losses), strict=True)))


def test_the_change_is_that_of_the_last_third() -> None:
    assert change_of([9, 8, 7, 6, 5, 4, 4, 3.9, 3.8, 3.7]) == pytest.approx(-0.3 / 4)
    assert change_of([9, 8, 7, 6, 5, 4, 2, 2, 2, 2]) == 0
    assert change_of([9, 8, 7, 6, 5, 4, 2, 3, 4, 5]) == pytest.approx(1.5)


def test_one_wild_loss_moves_it_little() -> None:
    """A least-squares line, or last against first, would say +40 %."""
    change = change_of([9, 8, 7, 6, 5, 5, 4, 4, 4, 4, 4, 4, 4, 4, 4, 5.6])
    assert change == 0


def test_thirds_are_thirds_of_the_steps() -> None:
    steps = [0, 10, 20, 30, 40, 50, 600, 800, 1000]
    assert change_of([9, 8, 7, 6, 5, 4, 3, 2, 1], steps) == pytest.approx(-0.5)


def test_the_slope_follows_uneven_steps() -> None:
    steps = [0, 100, 200, 300, 600, 601, 900]
    assert change_of([9, 8, 7, 6, 5, 5, 4], steps) == pytest.approx(-0.2, rel=0.01)


@pytest.mark.parametrize(
    "losses", [[], [1.0] * 5, [NAN] * 9, [3.0] * 5 + [NAN], [5, 4, 3, 2, 1, 1, 0, 0, 0, 0]]
)
def test_what_cannot_be_said_is_none(losses: list[float]) -> None:
    assert change_of(losses) is None


def test_a_last_third_of_one_loss_has_no_slope() -> None:
    assert change_of([6, 5, 4, 3, 2, 1], [0, 1, 2, 3, 4, 100]) is None


def test_losses_that_are_not_finite_are_left_out() -> None:
    assert change_of([9, 8, 7, NAN, 5, 4, 4, float("inf"), 3, 3]) == change_of(
        [9, 8, 7, 5, 4, 4, 3, 3], [0, 1, 2, 4, 5, 6, 8, 9]
    )


@given(st.lists(st.floats(0.5, 9), min_size=6, max_size=20), st.sampled_from([0.25, 2.0, 1024.0]))
def test_the_unit_of_the_loss_does_not_matter(losses: list[float], unit: float) -> None:
    assert change_of([loss * unit for loss in losses]) == change_of(losses)
