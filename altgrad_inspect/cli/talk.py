"""What the program says: data on stdout, everything else on stderr, never a raw name."""

import errno
import json
import os
import shutil
import sys
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from altgrad_inspect.display import display_name
from altgrad_inspect.errors import OutputError

if TYPE_CHECKING:
    from altgrad_inspect.reports.render_terminal import Page


class OutputFormat(StrEnum):
    """What is written to stdout."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    MD = "md"


class ColorMode(StrEnum):
    """When colours are used."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(slots=True, kw_only=True)
class Talk:
    """How to talk to this user; the options fill it in while the command line is parsed.

    Attributes:
        output_format: What goes to stdout.
        quiet: Nothing on stderr but errors.
        verbosity: Number of ``-v``.
        color: When to use colours.
        shown: The tables to print; None is what the command prints if it is not told.
    """

    output_format: OutputFormat = OutputFormat.TABLE
    quiet: bool = False
    verbosity: int = 0
    color: ColorMode = ColorMode.AUTO
    shown: tuple[str, ...] | None = None

    @property
    def is_verbose(self) -> bool:
        """Whether every row is to be shown."""
        return self.verbosity > 0

    def say(self, text: str) -> None:
        """Write one line to stderr, unless ``-q``."""
        if not self.quiet:
            typer.echo(display_name(text), err=True, color=True)

    def say_error(self, error: BaseException, status: int, *, message: str | None = None) -> None:
        """Write one line about an error to stderr; one JSON object under ``--format json``."""
        text = display_name(str(error) if message is None else message)
        if self.output_format in {OutputFormat.JSON, OutputFormat.JSONL}:
            kind = type(error).__name__
            line = json.dumps({"error": {"code": int(status), "kind": kind, "message": text}})
        else:
            line = f"altgrad-inspect: error: {text}"
        typer.echo(line, err=True, color=True)

    def build_page(self) -> "Page":
        """Find out what stdout is: its width if it is a terminal, its colours, its letters."""
        from altgrad_inspect.reports.render_terminal import Page

        is_terminal = sys.stdout.isatty()
        return Page(
            width=shutil.get_terminal_size().columns if is_terminal else None,
            color=self._has_color(is_terminal=is_terminal),
            ascii_only=not _can_write(sys.stdout.encoding),
        )

    def _has_color(self, *, is_terminal: bool) -> bool:
        if self.color is not ColorMode.AUTO:
            return self.color is ColorMode.ALWAYS
        refused = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return is_terminal and not refused


_CURRENT: ContextVar[Talk] = ContextVar("talk")


def start_talk() -> Talk:
    """Begin a run of the program: everything at its default."""
    talk = Talk()
    _CURRENT.set(talk)
    return talk


def find_talk() -> Talk:
    """Return the talk of the running program."""
    talk = _CURRENT.get(None)
    return start_talk() if talk is None else talk


def write_stdout(text: str) -> None:
    """Write data to stdout as it is.

    Raises:
        OutputError: It cannot be written, e.g. the disk is full. A reader that left is a
            BrokenPipeError, which is no error of the user's.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        msg = f"stdout: cannot be written, {error.strerror} (free some space, or write elsewhere)"
        raise OutputError(msg) from error


def describe_files(paths: list[Path]) -> str:
    """Return one line that says which files were written, and where."""
    directory = paths[0].parent
    names = ", ".join(path.name for path in paths)
    return f"wrote {names} to {directory}{os.sep}"


def _can_write(encoding: str | None) -> bool:
    """Whether the symbols of the reports can be written in ``encoding``."""
    try:
        "▁█✖▲•✔…→·".encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
