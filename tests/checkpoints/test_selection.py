"""Patterns choose layers and ranges choose checkpoints; what matches nothing is said."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altgrad_inspect.checkpoints.selection import (
    find_closest,
    matches,
    select_checkpoints,
    select_layers,
)
from altgrad_inspect.errors import ConfigError, NothingMatchedError
from altgrad_inspect.refs import CheckpointRef, RunRef

NAMES = (
    "lm_head.weight",
    "model.embed_tokens.weight",
    "model.layers.0.mlp.down_proj.weight",
    "model.layers.0.self_attn.o_proj.weight",
    "model.layers.1.mlp.down_proj.weight",
    "model.layers.10.mlp.down_proj.weight",
)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("lm_head", {0}),
        ("LM_HEAD", set()),
        ("down_proj", {2, 4, 5}),
        ("weight", {0, 1, 2, 3, 4, 5}),
        ("layers.1.", {4}),
        (".", {0, 1, 2, 3, 4, 5}),
        ("*", {0, 1, 2, 3, 4, 5}),
        ("*.mlp.*", {2, 4, 5}),
        ("mlp*", set()),
        ("model.layers.?.mlp.*", {2, 4}),
        ("model.layers.[01].*", {2, 3, 4}),
        ("*.weight\n", set()),
        ("re:^lm", {0}),
        (r"re:layers\.\d+\.mlp", {2, 4, 5}),
        ("re:(?i)LM_HEAD", {0}),
        ("re:o_proj|lm_head", {0, 3}),
    ],
)
def test_a_pattern_is_a_substring_a_glob_or_an_expression(pattern: str, expected: set[int]) -> None:
    assert {index for index, name in enumerate(NAMES) if matches(pattern, name)} == expected


@pytest.mark.parametrize(
    "pattern", ["re:(", "re:[", "re:*", "re:(?P<a>.)(?P<a>.)", "re:a{99999999999}"]
)
def test_an_invalid_expression_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="is no regular expression"):
        matches(pattern, "a")


@pytest.mark.parametrize("pattern", ["", "re:"])
def test_an_empty_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="is empty, expected part of a layer's name"):
        matches(pattern, "a")


@pytest.mark.parametrize(
    ("layers", "exclude", "expected"),
    [
        ((), (), {0, 1, 2, 3, 4, 5}),
        (("lm_head",), (), {0}),
        (("down_proj", "lm_head"), (), {0, 2, 4, 5}),
        (("down_proj", "layers.0"), ("self_attn",), {2, 4, 5}),
        ((), ("*.mlp.*", "embed"), {0, 3}),
        ((), ("not there",), {0, 1, 2, 3, 4, 5}),
    ],
)
def test_layers_are_chosen_in_their_order_and_exclusion_wins(
    layers: tuple[str, ...], exclude: tuple[str, ...], expected: set[int]
) -> None:
    chosen = select_layers(NAMES, layers=layers, exclude=exclude)
    assert chosen == tuple(NAMES[index] for index in sorted(expected))


@pytest.mark.parametrize(
    ("pattern", "closest"),
    [
        ("lm_haed", "lm_head.weight"),
        ("model.layers.0.mlp.donw_proj.weight", "model.layers.0.mlp.down_proj.weight"),
        ("self_atn", "model.layers.0.self_attn.o_proj.weight"),
        ("re:emed_tokens", "model.embed_tokens.weight"),
        ("*.down_porj", "model.layers.0.mlp.down_proj.weight"),
    ],
)
def test_a_pattern_that_matches_nothing_suggests_the_closest(pattern: str, closest: str) -> None:
    with pytest.raises(NothingMatchedError, match="matches none of 6 layers") as caught:
        select_layers(NAMES, layers=("lm_head", pattern))
    assert closest in str(caught.value).split("closest: ")[1]


def test_a_pattern_like_nothing_at_all_points_to_the_list() -> None:
    with pytest.raises(NothingMatchedError, match=r"list them with `altgrad-inspect ls`"):
        select_layers(NAMES, layers=("zzzzzzzzzzzz",))


def test_excluding_everything_is_nothing_matched() -> None:
    with pytest.raises(NothingMatchedError, match="--exclude weight: leaves no layer of 6"):
        select_layers(NAMES, exclude=("weight",))
    assert select_layers((), exclude=("weight",)) == ()


def test_suggestions_stay_fast_for_very_many_layers() -> None:
    names = [
        f"model.layers.{layer}.mlp.experts.{expert}.{part}_proj.weight"
        for layer in range(60)
        for expert in range(250)
        for part in ("gate", "up", "down")
    ]
    start = time.process_time()
    assert find_closest("model.layers.3.mlp.experts.7.donw_proj.weight", names)[0].endswith(
        "down_proj.weight"
    )
    assert time.process_time() - start < 1.0


def run_of(steps: list[int], skipped: tuple[int, ...] = ()) -> RunRef:
    def refs(numbers: list[int]) -> tuple[CheckpointRef, ...]:
        return tuple(
            CheckpointRef(step=step, path=Path(f"step_{step}"), layout="flat", files=())
            for step in numbers
        )

    return RunRef(path="run", checkpoints=refs(steps), skipped=refs(list(skipped)), notes=("n",))


@pytest.mark.parametrize(
    ("spec", "last", "expected"),
    [
        (None, None, [0, 10, 20, 30, 40, 50]),
        ("10:40", None, [10, 20, 30, 40]),
        ("11:39", None, [20, 30]),
        ("30:", None, [30, 40, 50]),
        (":20", None, [0, 10, 20]),
        (":", None, [0, 10, 20, 30, 40, 50]),
        ("::2", None, [0, 20, 40]),
        ("5::2", None, [10, 30, 50]),
        (":40:3", None, [0, 30]),
        ("::", None, [0, 10, 20, 30, 40, 50]),
        ("20", None, [20]),
        ("0", None, [0]),
        ("0:0", None, [0]),
        (None, 2, [40, 50]),
        (None, 99, [0, 10, 20, 30, 40, 50]),
        (":40:2", 2, [20, 40]),
    ],
)
def test_checkpoints_are_chosen_by_first_last_and_stride(
    spec: str | None, last: int | None, expected: list[int]
) -> None:
    chosen = select_checkpoints(run_of([0, 10, 20, 30, 40, 50]), steps=spec, last=last)
    assert [ref.step for ref in chosen.checkpoints] == expected
    assert (chosen.path, chosen.notes) == ("run", ("n",))


@given(
    steps=st.lists(st.integers(0, 100), unique=True, min_size=1).map(sorted),
    first=st.integers(0, 100),
    length=st.integers(0, 100),
    stride=st.integers(1, 5),
)
def test_chosen_checkpoints_are_what_the_words_say(
    steps: list[int], first: int, length: int, stride: int
) -> None:
    inside = [step for step in steps if first <= step <= first + length]
    spec = f"{first}:{first + length}:{stride}"
    if not inside:
        with pytest.raises(NothingMatchedError, match="leaves no checkpoint"):
            select_checkpoints(run_of(steps), steps=spec)
    else:
        chosen = select_checkpoints(run_of(steps), steps=spec)
        expected = [step for count, step in enumerate(inside) if count % stride == 0]
        assert [ref.step for ref in chosen.checkpoints] == expected


def test_incomplete_checkpoints_outside_the_range_are_forgotten() -> None:
    run = run_of([10, 20, 30], skipped=(5, 25, 35))
    assert [ref.step for ref in select_checkpoints(run, steps="10:30").skipped] == [25]
    assert [ref.step for ref in select_checkpoints(run, last=2).skipped] == [25, 35]
    assert [ref.step for ref in select_checkpoints(run).skipped] == [5, 25, 35]


@pytest.mark.parametrize(
    "spec",
    ["a", "1:b", "1:2:0", "1:2:3:4", "-1:2", "1.5", "", " ", "1:2:x", "²", "1 : 2", "9" * 5000],
)
def test_a_range_of_another_form_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="is not FIRST:LAST:STRIDE, expected whole numbers"):
        select_checkpoints(run_of([1, 2]), steps=spec)


def test_a_count_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="--last 0: is out of range, expected at least 1"):
        select_checkpoints(run_of([1, 2]), last=0)


def test_a_range_outside_the_run_says_what_there_is() -> None:
    with pytest.raises(NothingMatchedError, match=r"--steps 5:9: .*which has steps 1 to 2"):
        select_checkpoints(run_of([1, 2]), steps="5:9")
