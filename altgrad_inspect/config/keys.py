"""What can be set: one key a field of the settings classes, spelled as its flag.

The fields of `TrendSettings` that have no short flag of their own are keys of the table
``rules``. A new field of any of the classes becomes a key by itself.
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from inspect import cleandoc
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from altgrad_inspect.settings import (
    CheckSettings,
    EngineSettings,
    FlipSettings,
    OutputSettings,
    RankSettings,
    SelectionSettings,
    TrendSettings,
)

RULES: Final = "rules"
"""The table of the settings of rules."""

ENVIRONMENT_PREFIX: Final = "ALTGRAD_INSPECT_"

CLASSES: Final = (
    *(OutputSettings, SelectionSettings, FlipSettings, RankSettings, EngineSettings),
    *(TrendSettings, CheckSettings),
)

_SPELLINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "quantizers": "quant",
        "alpha": "alpha",
        "half_life_steps": "half-life",
        "warmup_checkpoints": "warmup",
        "rank_drop_threshold": "threshold",
        "critical_layers": "critical",
        "trained_layers": "trained-layers",
    }
)
"""Fields that are not called like their flag, and the fields of `TrendSettings` with a flag."""

_ATTRIBUTE: Final = re.compile(r"^ {4}(\w+): (.*(?:\n {8,}.*)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """The type of a value.

    Attributes:
        base: ``bool``, ``int``, ``float`` or ``str``; of a list, that of its members.
        is_list: Whether there may be several.
        choices: The only texts allowed; any if empty.
    """

    base: type[bool | int | float | str]
    is_list: bool = False
    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        one, many = {
            bool: ("true or false", "a list of true and false"),
            int: ("a whole number", "a list of whole numbers"),
            float: ("a number", "a list of numbers"),
            str: ("a text", "a list of texts"),
        }[self.base]
        return many if self.is_list else one


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One key.

    Attributes:
        key: As in a file, with ``rules.`` before a key of that table, words joined by ``-``.
        owner: The settings class that it is a field of.
        field: The name of that field.
        kind: The type of its value.
        default: Its value if nothing sets it; None if it is then off.
        meaning: What it does, its range and its unit, in one line.
    """

    key: str
    owner: type
    field: str
    kind: Kind
    default: object
    meaning: str

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return ENVIRONMENT_PREFIX + re.sub(r"\W", "_", self.key).upper()

    @property
    def is_rule(self) -> bool:
        """Whether it stands in the table ``rules``."""
        return self.key.startswith(f"{RULES}.")


def find_kind(annotation: Any) -> Kind:
    """Return the kind of a field from its type annotation.

    Raises:
        TypeError: A type that neither a file nor an environment variable can hold.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in {Union, UnionType}:
        (annotation,) = (one for one in arguments if one is not NoneType)
        return find_kind(annotation)
    if origin is tuple and arguments[1:] == (...,):
        inner = find_kind(arguments[0])
        return Kind(base=inner.base, is_list=True, choices=inner.choices)
    if origin is Literal:
        return Kind(base=str, choices=arguments)
    if annotation in {bool, int, float, str}:
        return Kind(base=annotation)
    msg = f"{annotation}: is not a type that a setting can have"
    raise TypeError(msg)


def _find_settings(owner: type) -> list[Setting]:
    hints = get_type_hints(owner)
    meanings = {
        name: " ".join(text.split())
        for name, text in _ATTRIBUTE.findall(cleandoc(owner.__doc__ or ""))
    }
    found = []
    for field in fields(owner):
        name = _SPELLINGS.get(field.name, field.name.replace("_", "-"))
        is_rule = owner is TrendSettings and field.name not in _SPELLINGS
        default = field.default if field.default_factory is MISSING else field.default_factory()
        found.append(
            Setting(
                key=f"{RULES}.{name}" if is_rule else name,
                owner=owner,
                field=field.name,
                kind=find_kind(hints[field.name]),
                default=default,
                meaning=meanings.get(field.name, ""),
            )
        )
    return found


SETTINGS: Final[Mapping[str, Setting]] = MappingProxyType(
    {setting.key: setting for owner in CLASSES for setting in _find_settings(owner)}
)
"""Key -> setting, of all that can be set."""


def normalise_key(key: str) -> str:
    """Return a key as it is spelled here: ``half_life`` is ``half-life``."""
    return key.replace("_", "-")
