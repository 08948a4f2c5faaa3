"""Wrapper parts leave layer names, and names stay distinct."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altgrad_inspect.checkpoints.names import WRAPPERS, normalise_name, normalise_names

parts = st.sampled_from([*sorted(WRAPPERS), "a", "b", "weight", ""])
stored_names = st.lists(st.lists(parts, min_size=1, max_size=5).map(".".join), unique=True)


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("module.lm_head.weight", "lm_head.weight"),
        ("_orig_mod.module.a.weight", "a.weight"),
        ("model._fsdp_wrapped_module.a._checkpoint_wrapped_module.b.weight", "model.a.b.weight"),
        ("model.layers.0._orig_mod.mlp.weight", "model.layers.0.mlp.weight"),
        ("submodule.weight", "submodule.weight"),
        ("modules.module_list.weight", "modules.module_list.weight"),
        ("module", "module"),
        ("a.module", "a.module"),
        ("", ""),
    ],
)
def test_wrapper_parts_are_removed_anywhere_but_at_the_end(stored: str, name: str) -> None:
    assert normalise_name(stored) == name


@given(names=stored_names)
def test_names_stay_distinct_and_stable(names: list[str]) -> None:
    short, kept = normalise_names(names)
    assert list(short) == names
    assert len(set(short.values())) == len(names)
    for stored, name in short.items():
        assert name == (stored if stored in kept else normalise_name(stored))
        assert normalise_name(normalise_name(stored)) == normalise_name(stored)


def test_names_that_would_become_equal_are_kept_as_stored() -> None:
    short, kept = normalise_names(["module.a", "a", "module.b"])
    assert short == {"module.a": "module.a", "a": "a", "module.b": "b"}
    assert kept == ("module.a", "a")
