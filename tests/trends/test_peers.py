"""Circles of peers, and which of them is asked."""

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altgrad_inspect.tables.convert import build_table
from altgrad_inspect.tables.schema import RANKS
from altgrad_inspect.trends.peers import PeerLevel, Peers, find_matrices
from tests.trends.flip_runs import rank_run

UP = [f"model.layers.{block}.mlp.up_proj.weight" for block in range(4)]
OTHER_UP = "decoder.layers.0.fc1.weight"
HEAD = "lm_head.weight"
NORM, OTHER_NORM = "model.layers.0.input_layernorm.weight", "model.norm.weight"
MATRICES = frozenset({*UP, OTHER_UP, HEAD})


def level_of(layer: str, values: dict[str, float], least: float = 0.0) -> PeerLevel | None:
    return Peers(values, MATRICES).find_level(layer, least=least)


def test_the_narrowest_circle_is_asked_without_the_layer_itself() -> None:
    values = {UP[0]: 9.0, UP[1]: 1.0, UP[2]: 2.0, UP[3]: 4.0, OTHER_UP: 50.0, HEAD: 60.0}
    assert level_of(UP[0], values) == PeerLevel(median=2.0, num_peers=3)
    assert level_of(UP[3], values) == PeerLevel(median=2.0, num_peers=3)
    assert level_of(OTHER_UP, values) == PeerLevel(median=3.0, num_peers=4)
    assert level_of(HEAD, values) == PeerLevel(median=4.0, num_peers=5)


def test_a_layer_without_a_value_has_peers_all_the_same() -> None:
    assert level_of(UP[0], {UP[1]: 3.0}) == PeerLevel(median=3.0, num_peers=1)


def test_a_circle_below_the_least_is_passed_over() -> None:
    values = {UP[1]: 0.0, UP[2]: 0.0, OTHER_UP: 0.0, HEAD: 8.0, "x.q_proj.weight": 9.0}
    peers = Peers(values, MATRICES | {"x.q_proj.weight"})
    assert peers.find_level(UP[0], least=0.1) is None  # most matrices have stopped
    fewer = {name: value for name, value in values.items() if name not in {UP[2], OTHER_UP}}
    found = Peers(fewer, MATRICES | {"x.q_proj.weight"}).find_level(UP[0], least=0.1)
    assert found == PeerLevel(median=8.0, num_peers=3)


def test_vectors_and_matrices_do_not_mix() -> None:
    values = {NORM: 1.0, UP[0]: 5.0, "model.layers.1.mlp.up_proj.bias": 7.0}
    assert level_of(OTHER_NORM, values) == PeerLevel(median=1.0, num_peers=1)
    assert level_of(UP[1], values) == PeerLevel(median=5.0, num_peers=1)
    assert level_of("model.layers.0.mlp.up_proj.bias", values) == PeerLevel(median=7.0, num_peers=1)
    assert level_of("strange.bias", values) is None


def test_nobody_is_a_peer_of_itself() -> None:
    assert level_of(HEAD, {HEAD: 1.0}) is None


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=2, max_size=9))
def test_the_level_is_the_median_of_the_others(numbers: list[float]) -> None:
    names = [f"h.{index}.mlp.c_fc.weight" for index in range(len(numbers))]
    peers = Peers(dict(zip(names, numbers, strict=True)), frozenset(names))
    for index, name in enumerate(names):
        others = numbers[:index] + numbers[index + 1 :]
        assert peers.find_level(name) == PeerLevel(median=median(others), num_peers=len(others))


def test_what_has_ranks_is_a_matrix() -> None:
    ranks = build_table(RANKS, [*rank_run([9.0], "b"), *rank_run(["zero matrix"], "norm")])
    assert find_matrices({"a", "b", "norm"}, ranks) == {"b", "norm"}


@pytest.mark.parametrize("layer", ["h.0.attn.bias", "model.norm.weight", "h.0.ln_1.weight"])
def test_without_ranks_the_name_tells(layer: str) -> None:
    assert find_matrices({layer, "w"}, None) == {"w"}
