"""Values of files and of the environment become what their field has, or an error."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from altgrad_inspect.config.keys import SETTINGS
from altgrad_inspect.config.values import check_value, parse_text, render_value
from altgrad_inspect.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("jobs", 3, 3),
        ("alpha", 1, 1.0),
        ("alpha", 0.25, 0.25),
        ("quiet", True, True),
        ("steps", "1:2", "1:2"),
        ("format", "json", "json"),
        ("layers", ["a", "b"], ("a", "b")),
        ("layers", "a", ("a",)),
        ("layers", [], ()),
    ],
)
def test_a_value_of_the_right_type_is_taken(key: str, value: object, found: object) -> None:
    checked = check_value(value, SETTINGS[key], subject="x")
    assert checked == found
    assert type(checked) is type(found)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("jobs", "3", 'x: "3" is not valid, expected a whole number'),
        ("jobs", 3.0, "x: 3.0 is not valid, expected a whole number"),
        ("jobs", True, "x: true is not valid, expected a whole number"),
        ("alpha", False, "x: false is not valid, expected a number"),
        ("alpha", float("nan"), "x: nan is not valid, expected a number"),
        ("alpha", float("inf"), "x: inf is not valid, expected a number"),
        ("alpha", 10**400, "is not valid, expected a number"),
        ("quiet", 1, "x: 1 is not valid, expected true or false"),
        ("steps", 5, "x: 5 is not valid, expected a text"),
        ("steps", ["1"], r'x: \["1"\] is not valid, expected a text'),
        ("format", "xml", 'x: "xml" is not valid, expected one of table, json, jsonl, csv, md'),
        ("layers", ["a", 1], r'x: \["a", 1\] is not valid, expected a list of texts'),
        ("layers", [["a"]], "expected a list of texts"),
        ("layers", {"a": 1}, "expected a list of texts"),
    ],
)
def test_a_value_of_another_type_is_an_error(key: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_value(value, SETTINGS[key], subject="x")


@pytest.mark.parametrize(
    ("key", "text", "found"),
    [
        ("jobs", " 3 ", 3),
        ("alpha", "1e-2", 0.01),
        *[("quiet", word, True) for word in ("1", "true", "YES", "On")],
        *[("quiet", word, False) for word in ("0", "False", "no", "off")],
        ("device", "cuda:1", "cuda:1"),
        ("layers", "a, b,,c", ("a", "b", "c")),
        ("layers", ' ["re:a{1,2}", "b"]', ("re:a{1,2}", "b")),
        ("layers", "[]", ()),
    ],
)
def test_an_environment_variable_is_parsed_by_its_kind(key: str, text: str, found: object) -> None:
    parsed = parse_text(text, SETTINGS[key], subject="X")
    assert parsed == found
    assert type(parsed) is type(found)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        *[("jobs", text) for text in ("three", "1.5", "0x10", "[1]")],
        *[("alpha", text) for text in ("nan", "inf", "a", "1,5")],
        *[("quiet", text) for text in ("2", "maybe", "y")],
        *[("layers", text) for text in ("[a]", '["a"', "[1]", '["a"]\nb = 1\nc = ["d"]x')],
        ("format", "xml"),
    ],
)
def test_a_variable_of_another_kind_is_an_error_with_its_name(key: str, text: str) -> None:
    with pytest.raises(
        ConfigError, match=f"^NAME: .* is not valid, expected {SETTINGS[key].kind}$"
    ):
        parse_text(text, SETTINGS[key], subject="NAME")


def test_a_value_of_a_message_is_one_short_printable_line() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_text("a\x1b[31m\n" * 1000, SETTINGS["jobs"], subject="X")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


simple = st.one_of(
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(categories=("L", "N", "P", "S")), max_size=20),
)


@given(st.one_of(simple, st.lists(simple, max_size=4)))
@settings(max_examples=200, deadline=None)
def test_a_shown_value_is_toml(value: object) -> None:
    assert tomllib.loads(f"value = {render_value(value)}")["value"] == value


def test_a_setting_that_is_off_is_shown_as_none() -> None:
    assert render_value(None) == "none"
