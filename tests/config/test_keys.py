"""Keys are the fields of the settings classes, one each, by themselves."""

import re
from dataclasses import fields

import pytest

from altgrad_inspect.cli.talk import ColorMode, OutputFormat
from altgrad_inspect.config.keys import CLASSES, SETTINGS, find_kind
from altgrad_inspect.records import Severity
from altgrad_inspect.settings import CheckSettings, OutputSettings, TrendSettings


def test_every_field_of_every_class_is_one_key() -> None:
    wanted = {(owner, field.name) for owner in CLASSES for field in fields(owner)}
    assert {(one.owner, one.field) for one in SETTINGS.values()} == wanted
    assert len(SETTINGS) == len(wanted)
    assert len({one.variable for one in SETTINGS.values()}) == len(wanted)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_every_setting_is_explained_and_its_default_is_of_its_kind(setting: object) -> None:
    one = next(one for one in SETTINGS.values() if one is setting)
    assert one.meaning.endswith((".", ".)", "...")), one.key
    assert "\n" not in one.meaning
    assert re.fullmatch(r"(rules\.)?[a-z]+(-[a-z]+)*", one.key)
    assert getattr(one.owner(), one.field) == one.default
    members = one.default if isinstance(one.default, tuple) else (one.default,)
    assert isinstance(one.default, tuple) == one.kind.is_list
    assert all(member is None or type(member) is one.kind.base for member in members)


def test_a_setting_of_trends_without_a_flag_is_a_rule() -> None:
    flat = {
        one.field for one in SETTINGS.values() if one.owner is TrendSettings and not one.is_rule
    }
    assert flat == {
        *("alpha", "half_life_steps", "warmup_checkpoints", "rank_drop_threshold"),
        *("critical_layers", "trained_layers"),
    }
    assert SETTINGS["rules.warmup-fraction"].variable == "ALTGRAD_INSPECT_RULES_WARMUP_FRACTION"
    assert SETTINGS["half-life"].variable == "ALTGRAD_INSPECT_HALF_LIFE"


def test_the_choices_are_those_of_the_command_line() -> None:
    assert SETTINGS["format"].kind.choices == tuple(OutputFormat)
    assert SETTINGS["color"].kind.choices == tuple(ColorMode)
    assert SETTINGS["fail-on"].kind.choices == tuple(Severity)
    assert (OutputSettings().format, CheckSettings().fail_on) == ("table", "warning")


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (bool, "true or false"),
        (int | None, "a whole number"),
        (float, "a number"),
        (str, "a text"),
        (tuple[str, ...], "a list of texts"),
        (tuple[int, ...], "a list of whole numbers"),
        (tuple[float, ...] | None, "a list of numbers"),
        (tuple[bool, ...], "a list of true and false"),
    ],
)
def test_a_kind_says_what_it_is(annotation: object, said: str) -> None:
    assert str(find_kind(annotation)) == said


@pytest.mark.parametrize("annotation", [dict[str, int], tuple[str, str], bytes, object])
def test_a_type_that_no_file_can_hold_is_refused(annotation: object) -> None:
    with pytest.raises(TypeError, match="is not a type that a setting can have"):
        find_kind(annotation)
