"""The configuration file: which one counts, what it says, and on which line.

In one directory ``altgrad-inspect.toml`` wins over ``pyproject.toml``; a ``pyproject.toml``
counts only if it has a table ``[tool.altgrad-inspect]``. The nearest directory wins, from
the current one up to the root of the repository or the home directory.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from altgrad_inspect.display import display_name
from altgrad_inspect.errors import ConfigError

OWN_FILE: Final = "altgrad-inspect.toml"
PROJECT_FILE: Final = "pyproject.toml"
TABLE: Final = ("tool", "altgrad-inspect")

_MAX_BYTES: Final = 1 << 20
_POSITION: Final = re.compile(r"\(at line (\d+), column \d+\)|\(at end of document\)")

KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """What a file says about this program.

    Attributes:
        path: The file.
        table: The keys and values of its table, as TOML has them.
        lines: Path of a key in that table -> line on which it begins, from 1.
    """

    path: Path
    table: Mapping[str, object]
    lines: Mapping[KeyPath, int]

    def describe(self, key: KeyPath) -> str:
        """Return ``file:line`` of a key."""
        return f"{describe_path(self.path)}:{self.lines.get(key, 1)}"


def describe_path(path: Path) -> str:
    """Return a path as messages show it: relative to the current directory if it lies in it."""
    here = Path.cwd()
    return display_name(str(path.relative_to(here) if path.is_relative_to(here) else path))


def find_file(start: Path) -> File | None:
    """Return the nearest configuration, from ``start`` upwards.

    Raises:
        ConfigError: The nearest one cannot be read, or is no TOML.
    """
    for folder in _climb(start.absolute()):
        own = folder / OWN_FILE
        if own.is_file():
            return read_file(own)
        project = folder / PROJECT_FILE
        if project.is_file() and (found := _read_project(project)) is not None:
            return found
    return None


def read_file(path: Path) -> File:
    """Read a file that must have a configuration in it.

    Raises:
        ConfigError: It cannot be read, is no TOML, or has no table of ours.
    """
    text = _read_text(path)
    document = _parse(path, text)
    is_project = path.name == PROJECT_FILE
    table = _find_table(document) if is_project else document
    if table is None:
        msg = (
            f"{describe_path(path)}: has no table [{'.'.join(TABLE)}], expected one (add it, or "
            "name another file)"
        )
        raise ConfigError(msg)
    lines = find_lines(text)
    if is_project:
        depth = len(TABLE)
        lines = {key[depth:]: line for key, line in lines.items() if key[:depth] == TABLE}
    return File(path=path, table=table, lines=lines)


def _climb(start: Path) -> Iterator[Path]:
    try:
        home = Path.home()
    except RuntimeError:  # an account without one
        home = Path("/")
    for folder in (start, *start.parents):
        yield folder
        if folder == home or (folder / ".git").exists():
            return


def _read_project(path: Path) -> File | None:
    """Read a project's file if it is about this program; else it is none of our business."""
    text = _read_text(path)
    if TABLE[1] not in text:
        return None
    return read_file(path) if _find_table(_parse(path, text)) is not None else None


def _read_text(path: Path) -> str:
    shown = describe_path(path)
    if not path.is_file():
        msg = f"{shown}: is not a file, expected a configuration in TOML (correct the name)"
        raise ConfigError(msg)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            msg = f"{shown}: is larger than {_MAX_BYTES} bytes, expected a configuration in TOML"
            raise ConfigError(msg)
        return data.decode().removeprefix("\ufeff").replace("\r\n", "\n")
    except OSError as error:
        msg = f"{shown}: cannot be read, {error.strerror or error} (correct its permissions)"
        raise ConfigError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{shown}: is not UTF-8, expected a configuration in TOML (save it as UTF-8)"
        raise ConfigError(msg) from error


def _parse(path: Path, text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        said = str(error) or type(error).__name__
        position = _POSITION.search(said)
        line = 1
        if position is not None:
            line = int(position[1] or max(1, len(text.splitlines())))
        reason = _POSITION.sub("", said).strip()
        msg = (
            f"{describe_path(path)}:{line}: is not valid TOML: {display_name(reason)} (correct it)"
        )
        raise ConfigError(msg) from error


def _find_table(document: Mapping[str, object]) -> Mapping[str, object] | None:
    found: object = document
    for name in TABLE:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else None


def find_lines(text: str) -> dict[KeyPath, int]:
    """Return the line on which each key of a valid TOML document begins.

    A statement of TOML, header or ``key = value``, is the shortest run of lines that parses
    alone; so strings and arrays over several lines are no trouble.
    """
    lines: dict[KeyPath, int] = {}
    header: KeyPath = ()
    statement, start = "", 1
    for number, line in enumerate(text.split("\n"), start=1):
        if not statement:
            start = number
        statement += f"{line}\n"
        try:
            parsed = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        is_header = statement.lstrip().startswith("[")
        keys = list(_walk(parsed))
        for key in keys:
            lines.setdefault(key if is_header else (*header, *key), start)
        if is_header:
            header = max(keys, key=len)
        statement = ""
    return lines


def _walk(table: Mapping[str, object]) -> Iterator[KeyPath]:
    """Return the paths of all keys of a table and of the tables in it."""
    for name, value in table.items():
        yield (name,)
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping):
            value = value[0]  # noqa: PLW2901  # [[a.table]]
        if isinstance(value, Mapping):
            yield from ((name, *rest) for rest in _walk(value))
