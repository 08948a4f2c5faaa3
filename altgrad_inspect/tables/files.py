"""Files written whole or not at all.

Every file of a call is first written beside its target under a name that starts with
``.altgrad-tmp-`` and flushed to disk; only when all of them are there are they renamed. A full
disk or a kill therefore leaves the earlier files as they were, and a reader sees an old file
or a new one, never half of one.

A writer holds a lock on the directory itself (``flock``; nothing is left behind) from its first
temporary file to its last rename, and the kernel drops the lock when the process dies. Whoever
holds it may thus remove every temporary file it finds. Where directories cannot be locked
(some network filesystems) nothing is swept, so no live writer loses a file.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from altgrad_inspect.display import display_name
from altgrad_inspect.errors import OutputError

TEMPORARY_PREFIX: Final = ".altgrad-tmp-"
LOCK_TIMEOUT_SECONDS: Final = 60.0

_HINTS: Final[Mapping[int, str]] = MappingProxyType(
    {
        errno.ENOSPC: "free some space or choose another --out",
        errno.EDQUOT: "free some of your quota or choose another --out",
        errno.EIO: "the disk fails; choose another --out",
        errno.ENOTDIR: "a file is in its place; move it or choose another --out",
        errno.EEXIST: "a file is in its place; move it or choose another --out",
        errno.EISDIR: "a directory is in its place; move it or choose another --out",
    }
)


def build_output_error(path: Path, error: OSError) -> OutputError:
    """Return the one line that says why ``path`` cannot be written and what to do."""
    hint = _HINTS.get(error.errno or 0, "choose another --out")
    msg = f"{display_name(str(path))}: cannot be written: {error.strerror or error} ({hint})"
    return OutputError(msg)


def _lock(directory: int, path: Path) -> bool:
    """Lock an open directory; False where its filesystem has no such locks."""
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                msg = (
                    f"{display_name(str(path))}: another run has been writing here for"
                    f" {LOCK_TIMEOUT_SECONDS:.0f} s (wait for it, or choose another --out)"
                )
                raise OutputError(msg) from error
            time.sleep(0.02)
        except OSError:
            return False
        else:
            return True


def _flush(directory: int) -> None:
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some filesystems cannot
            raise


@contextlib.contextmanager
def _writing_into(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, with the leftovers of dead writers removed."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _lock(descriptor, directory):
            for leftover in directory.glob(f"{TEMPORARY_PREFIX}*"):
                leftover.unlink(missing_ok=True)
        yield
        _flush(descriptor)
    finally:
        with contextlib.suppress(OSError):  # a forked child may still hold a copy of it
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _write_bytes(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _write_temporary(target: Path, data: bytes) -> Path:
    """Write and flush ``data`` beside ``target``; nothing is left behind on an error."""
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666)
    try:
        _write_bytes(descriptor, data)
        os.fsync(descriptor)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return temporary


def _refuse_directory(target: Path) -> None:
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def replace_files(directory: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Replace files of one directory: all of them or, short of a crash between renames, none.

    Args:
        directory: Made if it is missing.
        contents: File name -> the bytes it shall have.

    Raises:
        OutputError: A file cannot be written; the earlier ones are as they were.
    """
    staged: dict[Path, Path] = {}
    target = directory
    try:
        with _writing_into(directory):
            try:
                for target in (directory / name for name in contents):
                    _refuse_directory(target)
                    staged[target] = _write_temporary(target, contents[target.name])
                for target, temporary in staged.items():
                    temporary.replace(target)
            except BaseException:
                for temporary in staged.values():
                    temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise build_output_error(target, error) from error
    return list(staged)


def check_writable(directory: Path, names: Iterable[str] = ()) -> None:
    """Find out before the work, not after it, whether results can be written.

    The directory is made if it is missing; nothing else is left in it.

    Args:
        directory: Where results will go.
        names: Files that will be written there; a directory in the place of one is an error.

    Raises:
        OutputError: It cannot be made or written to, or the place of a file is taken.
    """
    target = directory
    try:
        with _writing_into(directory):
            _write_temporary(directory / "probe", b"\n").unlink()
        for target in (directory / name for name in names):
            _refuse_directory(target)
    except OSError as error:
        raise build_output_error(target, error) from error


def _is_stream(path: Path) -> bool:
    if path.exists() and not path.is_file() and not path.is_dir():
        return True
    return path.parent in {Path("/dev"), Path("/dev/fd")}  # where even a file must be kept


def write_text(path: Path, text: str) -> Path:
    """Write a report as UTF-8, replacing the file as a whole; a link keeps pointing at it.

    What is not a regular file (``/dev/stdout``, a pipe) is written to as it is.

    Raises:
        OutputError: As for `replace_files`.
    """
    data = text.encode("utf-8", "backslashreplace")
    if _is_stream(path):
        try:
            path.write_bytes(data)
        except OSError as error:
            raise build_output_error(path, error) from error
        return path
    real = path.resolve()
    replace_files(real.parent, {real.name: data})
    return path
