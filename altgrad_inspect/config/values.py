"""Values from a file or the environment, checked against the kind of their key."""

import math
import tomllib
from typing import Final

from altgrad_inspect.config.keys import Kind, Setting
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import ConfigError

_LONGEST_SHOWN: Final = 80

_WORDS: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


def check_value(value: object, setting: Setting, *, subject: str) -> object:
    """Return ``value`` as its field has it, e.g. a list of texts as a tuple.

    Args:
        value: As TOML has it. A single value may stand for a list of one, and a whole
            number for a real one.
        setting: What it is a value of.
        subject: Where it came from, for the message.

    Raises:
        ConfigError: It has another type, or is none of the choices.
    """
    kind = setting.kind
    members = list(value) if kind.is_list and isinstance(value, list) else [value]
    checked = tuple(_check_one(member, kind) for member in members)
    if None in checked:
        msg = f"{subject}: {render_value(value)} is not valid, expected {kind}"
        raise ConfigError(msg)
    return checked if kind.is_list else checked[0]


def _check_one(value: object, kind: Kind) -> object:
    """Return ``value`` as ``kind`` has it, or None if it is of another kind."""
    match value:
        case bool():
            return value if kind.base is bool else None
        case int() if kind.base is float:
            return float(value) if abs(value) < 2**53 else None
        case int():
            return value if kind.base is int else None
        case float():
            return value if kind.base is float and math.isfinite(value) else None
        case str() if kind.base is str and (not kind.choices or value in kind.choices):
            return value
        case _:
            return None


def parse_text(text: str, setting: Setting, *, subject: str) -> object:
    """Return the value that an environment variable holds.

    Args:
        text: Not empty. Several values are separated by commas, or written as in TOML:
            ``["a,b", "c"]``. A switch is 1, true, yes, on, or 0, false, no, off.
        setting: What it is a value of.
        subject: The variable, for the message.

    Raises:
        ConfigError: It is no value of that kind.
    """
    kind = setting.kind
    if not kind.is_list:
        value = _parse_one(text.strip(), kind)
    elif text.lstrip().startswith("["):
        value = _parse_array(text)
    else:
        value = [_parse_one(part.strip(), kind) for part in text.split(",") if part.strip()]
    if value is None or (isinstance(value, list) and None in value):
        msg = f"{subject}: {render_value(text)} is not valid, expected {kind}"
        raise ConfigError(msg)
    return check_value(value, setting, subject=subject)


def _parse_one(text: str, kind: Kind) -> object:
    if kind.base is str:
        return text
    if kind.base is bool:
        return _WORDS.get(text.lower())
    try:
        return kind.base(text)
    except ValueError:
        return None


def _parse_array(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text.strip()}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


def render_value(value: object) -> str:
    """Write a value as TOML has it, on one printable line; ``none`` for None."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{display_name(escaped, limit=_LONGEST_SHOWN)}"'
        case list() | tuple():
            return f"[{', '.join(render_value(member) for member in value)}]"
        case _:
            return display_name(str(value), limit=_LONGEST_SHOWN)
