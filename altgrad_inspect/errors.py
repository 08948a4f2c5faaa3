"""Every exception this package raises on purpose, and the exit statuses.

InspectError
    FormatError            a number format or quantizer that cannot exist, or is not known (2)
    ConfigError            a setting that is unknown or out of range (2)
    CheckpointError        a checkpoint that is missing, truncated or unreadable (4)
        HeaderError        a safetensors header that breaks the rules
        ChangedError       a file that changed while it was read
    OutputError            a result that cannot be written or read back (4)
    NothingMatchedError    no checkpoint, layer or step is left to look at (5)

The number in brackets is the exit status of the command line (`ExitCode`), which turns
an InspectError into one line on stderr. Anything else that escapes is a bug in us: one
line and exit status 3, so that a crash never looks like a finding.

A message reads ``subject: what is wrong, what was expected (what to do)``.
"""

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit statuses of ``altgrad-inspect``; part of the contract."""

    OK = 0  #: Fine.
    FINDINGS = 1  #: Findings at or above ``--fail-on``.
    USAGE = 2  #: Usage or configuration.
    BUG = 3  #: A bug in us.
    UNREADABLE = 4  #: Unreadable or corrupt input, or output that cannot be written.
    NOTHING_MATCHED = 5  #: Nothing matched.
    INCOMPLETE = 6  #: Results written, some rows ``failed``; findings win over it.
    INTERRUPTED = 130  #: SIGINT.
    TERMINATED = 143  #: SIGTERM.


class InspectError(Exception):
    """Base class: catch this to catch everything altgrad-inspect raises on purpose."""

    exit_code: ClassVar[ExitCode] = ExitCode.UNREADABLE


class FormatError(InspectError, ValueError):
    """A number format or quantizer cannot exist, or is not known by that name."""

    exit_code = ExitCode.USAGE


class ConfigError(InspectError, ValueError):
    """A setting is unknown or out of range."""

    exit_code = ExitCode.USAGE


class CheckpointError(InspectError):
    """A checkpoint is missing, truncated or unreadable."""


class HeaderError(CheckpointError):
    """A safetensors header breaks the rules."""


class ChangedError(CheckpointError):
    """A file changed while it was read, so what was read cannot be trusted."""


class OutputError(InspectError):
    """A result cannot be written, or not be read back."""


class NothingMatchedError(InspectError, LookupError):
    """No checkpoint, layer or step is left to look at."""

    exit_code = ExitCode.NOTHING_MATCHED
