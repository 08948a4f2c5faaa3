"""Names made to fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from altgrad_inspect.reports.shorten import shorten_name

Q = "model.layers.12.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (39, Q),
        (38, "…layers.12.self_attn.q_proj.weight"),
        (28, "…12.self_attn.q_proj.weight"),
        (22, "…12.self_attn.q_proj…"),
        (20, "…12…q_proj.weight"),
        (10, "…12…weight"),
        (1, "…"),
    ],
)
def test_the_parts_that_say_least_go_first(width: int, shown: str) -> None:
    assert shorten_name(Q, width) == shown


def test_weight_and_bias_stay_apart() -> None:
    names = {"model.layers.3.self_attn.k_proj.weight", "model.layers.3.self_attn.k_proj.bias"}
    for width in range(16, 40):
        assert len({shorten_name(name, width) for name in names}) == 2, width


def test_a_name_without_a_number_is_cut_in_the_middle() -> None:
    assert shorten_name("transformer_embeddings_weight", 13) == "tran…s_weight"


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z", "M"])), st.integers(1, 50)
)
def test_what_is_returned_always_fits(name: str, width: int) -> None:
    assert cell_len(shorten_name(name, width)) <= width
    if cell_len(name) <= width:
        assert shorten_name(name, width) == name
