"""One configuration out of the file and the environment, checked, with every origin."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

from altgrad_inspect.checkpoints.selection import matches, parse_steps
from altgrad_inspect.config.files import TABLE, File, find_file, read_file
from altgrad_inspect.config.keys import (
    CLASSES,
    ENVIRONMENT_PREFIX,
    RULES,
    SETTINGS,
    Setting,
    normalise_key,
)
from altgrad_inspect.config.values import check_value, parse_text, render_value
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import ConfigError, InspectError
from altgrad_inspect.quantize.spec import parse_quantizer

FILE_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}CONFIG"
"""Names the file, as ``--config`` does."""

SettingsClass = TypeVar("SettingsClass")


class Source(StrEnum):
    """Where a value came from; a later one wins."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    FLAG = "flag"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A value that somebody set.

    Attributes:
        value: As the field of the settings class has it.
        source: From a file or from the environment.
        origin: ``file:line``, or the name of the variable.
    """

    value: object
    source: Source
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the file and the environment set, without the flags.

    Attributes:
        file: The file that was read, if there is one.
        given: Key -> value, of the keys that one of them sets.
    """

    file: Path | None = None
    given: Mapping[str, Given] = field(default_factory=dict)

    def build(self, owner: type[SettingsClass]) -> SettingsClass:
        """Return the settings of a class: what was set, and the defaults for the rest."""
        return owner(**_find_fields(owner, self.given))


def read_config(
    start: Path,
    environment: Mapping[str, str],
    *,
    file: Path | None = None,
    isolated: bool = False,
) -> Config:
    """Read the configuration that counts in a directory.

    Args:
        start: Where to look for a file first, then in its parents.
        environment: Variables; those named ``ALTGRAD_INSPECT_`` and a key count.
        file: The only file to read, instead of looking for one.
        isolated: Read neither a file nor the environment.

    Raises:
        ConfigError: A key is not known, or a value has the wrong type or is out of range;
            the message names ``file:line`` or the variable.
    """
    if isolated:
        if file is not None:
            msg = "--isolated: ignores every file, expected it without --config (drop one of them)"
            raise ConfigError(msg)
        return Config()
    named = file or (Path(environment[FILE_VARIABLE]) if environment.get(FILE_VARIABLE) else None)
    found = find_file(start) if named is None else read_file(named)
    in_file = {} if found is None else dict(_read_table(found))
    _check_together(in_file)
    given = {**in_file, **dict(_read_environment(environment))}
    _check_together(given)
    return Config(file=None if found is None else found.path, given=given)


def _read_table(file: File) -> Iterator[tuple[str, Given]]:
    flat = [((key,), key, value) for key, value in file.table.items() if key != RULES]
    rules = file.table.get(RULES, {})
    if not isinstance(rules, Mapping):
        msg = (
            f"{file.describe((RULES,))}: rules: {render_value(rules)} is not valid, expected a "
            "table of thresholds (to choose rules, set rule or ignore)"
        )
        raise ConfigError(msg)
    nested = [((RULES, key), f"{RULES}.{key}", value) for key, value in rules.items()]
    seen: dict[str, str] = {}
    for path, key, value in (*flat, *nested):
        place = file.describe(path)
        setting = _find_setting(key, subject=place)
        if setting.key in seen:
            msg = (
                f"{place}: {setting.key}: is set twice, in {seen[setting.key]} too, expected it "
                "once (drop one of them)"
            )
            raise ConfigError(msg)
        seen[setting.key] = place
        checked = check_value(value, setting, subject=f"{place}: {setting.key}")
        resolved = _resolve_paths(checked, setting, file.path.parent)
        yield setting.key, Given(value=resolved, source=Source.FILE, origin=place)


def _read_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, Given]]:
    """Read the variables that are set to something: an empty one counts as not set."""
    variables = {setting.variable: setting for setting in SETTINGS.values()}
    for name in sorted(environment):
        text = environment[name]
        if not name.startswith(ENVIRONMENT_PREFIX) or not text or name == FILE_VARIABLE:
            continue
        if name not in variables:
            msg = f"{display_name(name)}: is not a setting{_suggest(name, variables)}"
            raise ConfigError(msg)
        setting = variables[name]
        value = parse_text(text, setting, subject=name)
        yield setting.key, Given(value=value, source=Source.ENVIRONMENT, origin=name)


def _find_setting(key: str, *, subject: str) -> Setting:
    """Return the setting of a key of a file."""
    wanted = normalise_key(key)
    if wanted in SETTINGS:
        return SETTINGS[wanted]
    shown = display_name(key)
    if f"{RULES}.{wanted}" in SETTINGS:
        hint = f", expected in the table {RULES} (write {RULES}.{wanted})"
    elif wanted.removeprefix(f"{RULES}.") in SETTINGS:
        hint = f", expected outside of the table {RULES} (write {wanted.removeprefix(f'{RULES}.')})"
    elif key == TABLE[0]:
        hint = f", expected keys without [{'.'.join(TABLE)}] in this file (drop that heading)"
    else:
        hint = _suggest(wanted, SETTINGS)
    msg = f"{subject}: {shown}: is not a setting{hint}"
    raise ConfigError(msg)


def _suggest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    if close:
        return f", expected one like {close[0]} (correct it)"
    return ", expected one of those that --show-settings lists (correct it)"


def _resolve_paths(value: object, setting: Setting, folder: Path) -> object:
    """Take a path in a file to be relative to that file, wherever the program runs."""
    if setting.key == "out":
        return _resolve_path(str(value), folder)
    if setting.key == "run" and isinstance(value, tuple):
        return tuple(_resolve_path(str(member), folder) for member in value)
    return value


def _resolve_path(text: str, folder: Path) -> str:
    """Return a path of a file in ``folder`` as one would type it here."""
    if "://" in text or not text:
        return text
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # an account that does not exist
        path = Path(text)
    here = Path.cwd()
    if path.is_absolute() or folder.absolute() == here:
        return text if str(path) == os.path.normpath(text) else str(path)
    return os.path.relpath(folder / path, here)


def _check_quantizer(spec: str) -> object:
    return spec == "auto" or parse_quantizer(spec)


def _check_pattern(pattern: str) -> object:
    return matches(pattern, "")


def _check_steps(steps: str) -> object:
    return parse_steps(steps)


_MEMBER_CHECKS: Final[Mapping[str, Callable[[str], object]]] = {
    "quant": _check_quantizer,
    "steps": _check_steps,
    **dict.fromkeys(("layers", "exclude", "critical", "trained-layers"), _check_pattern),
}
"""What more is asked of the texts of a key."""


def _check_together(given: Mapping[str, Given]) -> None:
    """Check ranges, which may depend on each other, naming the origin of the value to blame."""
    for key, check in _MEMBER_CHECKS.items():
        if key in given:
            value = given[key].value
            for member in value if isinstance(value, tuple) else (value,):
                _check_at(given[key].origin, check, str(member))
    for owner in CLASSES:
        complaint = _complain(owner, given)
        if complaint is not None:
            msg = f"{_find_culprit(owner, given, complaint)}: {complaint}"
            raise ConfigError(msg)


def _check_at(origin: str, check: Callable[[str], object], text: str) -> None:
    try:
        check(text)
    except InspectError as error:
        msg = f"{origin}: {error}"
        raise ConfigError(msg) from error


def _find_culprit(owner: type, given: Mapping[str, Given], complaint: str) -> str:
    """Return the origin of the value to blame.

    It is the one that alone gives the same complaint; where a complaint is about two
    values together, the one without which there is none.
    """
    keys = [key for key in given if SETTINGS[key].owner is owner]
    alone = [key for key in keys if _complain(owner, {key: given[key]}) == complaint]
    without = [
        key for key in keys if _complain(owner, {k: given[k] for k in keys if k != key}) is None
    ]
    return given[(alone or without or keys)[0]].origin


def _complain(owner: type, given: Mapping[str, Given]) -> str | None:
    try:
        owner(**_find_fields(owner, given))
    except ConfigError as error:
        return str(error)
    return None


def _find_fields(owner: type, given: Mapping[str, Given]) -> dict[str, Any]:
    return {
        SETTINGS[key].field: one.value for key, one in given.items() if SETTINGS[key].owner is owner
    }
