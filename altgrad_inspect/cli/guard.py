"""Everything that can go wrong, as one line on stderr and an exit status.

A crash never looks like a finding: whatever is not an `InspectError` is a bug in us and
exits with status 3, with its traceback only under ``-vv``.
"""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import NoReturn

import typer

from altgrad_inspect.cli.talk import Talk, start_talk
from altgrad_inspect.errors import ExitCode, InspectError

_REPORT_THIS = "this is a bug in altgrad-inspect, please report this (-vv shows the traceback)"


class _TerminatedError(BaseException):
    """SIGTERM arrived; not an Exception, so that nothing on the way swallows it."""


def _on_terminate(_signal: int, _frame: object) -> NoReturn:
    raise _TerminatedError


def run_guarded(app: typer.Typer, args: Sequence[str] | None = None) -> int:
    """Run ``app`` on ``args`` (``sys.argv`` if None) and return the exit status."""
    _open_closed_streams()
    talk = start_talk()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    previous = signal.signal(signal.SIGTERM, _on_terminate)
    try:
        status = _run(app, sys.argv[1:] if args is None else args)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001  # the outermost frame: nothing may pass
        status = _explain(error, talk)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return _close_stdout(status)


def _open_closed_streams() -> None:
    """Give a process that was started without stdout or stderr something to write to."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115


def _run(app: typer.Typer, args: Sequence[str]) -> int:
    if not args and len(app.registered_commands) > 1:
        with redirect_stdout(sys.stderr):
            app(args=["--help"], prog_name="altgrad-inspect", standalone_mode=False)
        return ExitCode.USAGE
    status = app(args=list(args), prog_name="altgrad-inspect", standalone_mode=False)
    if status == ExitCode.INTERRUPTED:  # typer has made it a number, which says nothing
        raise KeyboardInterrupt
    return status if isinstance(status, int) else ExitCode.OK


def _explain(error: BaseException, talk: Talk) -> int:
    """Say what went wrong, in one line, and return the exit status."""
    status: int = ExitCode.BUG
    match error:
        case InspectError():
            status = error.exit_code
            talk.say_error(error, status)
        case typer.Abort() | KeyboardInterrupt():
            status = ExitCode.INTERRUPTED
            talk.say_error(error, status, message="interrupted")
        case _TerminatedError():
            status = ExitCode.TERMINATED
            talk.say_error(error, status, message="terminated")
        case BrokenPipeError():
            status = ExitCode.OK
        case SystemExit(__context__=BrokenPipeError()):  # what typer makes of one
            status = ExitCode.OK
        case SystemExit(code=int(code)):
            status = code
        case _ if callable(describe := getattr(error, "format_message", None)):  # of typer's
            status = ExitCode.USAGE
            talk.say_error(error, status, message=f"{describe()}{_find_hint(error)}")
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EIO):
            status = ExitCode.UNREADABLE
            talk.say_error(error, status, message=f"cannot write or read: {error.strerror}")
        case _:
            _explain_bug(error, talk)
    return status


def _find_hint(error: BaseException) -> str:
    command = getattr(getattr(error, "ctx", None), "command_path", None)
    return f" (see `{command} --help`)" if command else ""


def _explain_bug(error: BaseException, talk: Talk) -> None:
    if talk.verbosity >= 2:
        traceback.print_exception(error)
    text = f"{type(error).__name__}: {error}"
    talk.say_error(error, ExitCode.BUG, message=f"{text}: {_REPORT_THIS}")


def _close_stdout(status: int) -> int:
    """Flush stdout for the last time; the interpreter must find nothing left to flush.

    A reader that left early (``| head``) is no error; a disk that is full is.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        with open(os.devnull, "wb") as devnull:  # noqa: PTH123
            os.dup2(devnull.fileno(), 1)
        if error.errno != errno.EPIPE and status in {ExitCode.OK, ExitCode.INCOMPLETE}:
            return ExitCode.UNREADABLE
    return status
