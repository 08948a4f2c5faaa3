"""Stretches of faults among signs that may be unknown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altgrad_inspect.trends.stretch import Stretch, find_last_stretch


@pytest.mark.parametrize(
    ("signs", "least", "expected"),
    [
        ("", 1, None),
        ("...", 1, None),
        ("??", 1, None),
        (".x.", 2, None),
        (".x?x", 2, ((1, 3), 3, None)),
        ("?x.x", 2, None),
        ("xx.", 2, ((0, 1), 1, 2)),
        ("xx?", 2, ((0, 1), 1, None)),
        ("xx?.x", 2, ((0, 1), 1, 3)),
        ("xxx.xx", 2, ((4, 5), 5, None)),
        ("xxx.x", 2, ((0, 1, 2), 1, 3)),
        (".x", 1, ((1,), 1, None)),
    ],
)
def test_the_last_long_enough_stretch_is_found(
    signs: str, least: int, expected: tuple[tuple[int, ...], int, int | None] | None
) -> None:
    meaning = {"x": True, ".": False, "?": None}
    found = find_last_stretch([meaning[sign] for sign in signs], min_length=least)
    assert found == (
        expected and Stretch(faults=expected[0], detected=expected[1], recovered=expected[2])
    )
    assert found is None or found.onset == found.faults[0]


@given(st.lists(st.sampled_from([True, False, None]), max_size=12), st.integers(1, 4))
def test_a_stretch_holds_faults_only_and_ends_with_the_next_fine_sign(
    signs: list[bool | None], least: int
) -> None:
    found = find_last_stretch(signs, min_length=least)
    runs = [part.count("x") for part in "".join(
        {True: "x", False: ".", None: "?"}[sign] for sign in signs
    ).split(".")]  # fmt: skip
    assert (found is None) == (max(runs, default=0) < least)
    if found is not None:
        assert all(signs[index] for index in found.faults)
        assert len(found.faults) >= least
        end = len(signs) if found.recovered is None else found.recovered
        assert False not in signs[found.onset : end]
        assert found.recovered is None or signs[found.recovered] is False
