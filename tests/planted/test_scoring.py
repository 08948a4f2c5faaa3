"""How delays are counted."""

from dataclasses import replace

import pytest

from altgrad_inspect.settings import TrendSettings
from tests.planted.evaluate import names
from tests.planted.recorder import LayerRows, build_tables
from tests.planted.scoring import Watch, watch
from tests.tables.examples import SPECTRUM, flip_record, rank_record

STABLE = [40.0] * 8 + [4.0] * 4


def rows_of(layer: str, values: list[float]) -> LayerRows:
    return LayerRows(
        ranks=tuple(
            replace(rank_record(layer, 100 * index), spectrum=replace(SPECTRUM, stable_rank=value))
            for index, value in enumerate(values)
        ),
        flips=(flip_record(layer, 0),),
    )


def test_a_watch_notes_the_first_checkpoint_at_which_a_rule_spoke() -> None:
    tables = build_tables({"a": rows_of("a", STABLE)}, {100 * i: None for i in range(12)})
    seen = watch(tables, TrendSettings())
    assert seen.first["rank-drop", "a"] in {8, 9}
    assert seen.find_delay("a", {"rank-drop", "rank-break"}, 8) in {0, 1}
    late = watch(tables, TrendSettings(), since=10)
    assert set(late.first.values()) == {10}


def test_tables_are_cut_to_what_there_was() -> None:
    tables = build_tables({"a": rows_of("a", STABLE)}, {100 * i: None for i in range(12)})
    early = tables.until(300)
    assert early.steps == (0, 100, 200, 300)
    assert early.ranks.num_rows == 4


def test_what_was_said_before_the_cause_does_not_count() -> None:
    seen = Watch(steps=(0, 1, 2), first={("r", "a"): 1, ("q", "a"): 2, ("r", "b"): 2})
    assert seen.find_delay("a", {"r", "q"}, 1) == 0
    assert seen.find_delay("a", {"r", "q"}, 2) == 0
    assert seen.find_delay("a", {"r"}, 2) is None
    assert seen.find_delay("c", {"r"}, 0) is None


@pytest.mark.parametrize(
    ("alerted", "layer", "named"),
    [
        ("h.1.fc", "h.1.fc", True),
        ("h.*.fc", "h.1.fc", True),
        ("h.*.fc", "h.1.proj", False),
        ("h.2.fc", "h.1.fc", False),
        ("h.2.fc", "", True),
    ],
)
def test_a_role_names_its_layers(alerted: str, layer: str, named: bool) -> None:  # noqa: FBT001
    assert names(alerted, layer) is named
