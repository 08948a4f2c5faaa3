"""Files on this machine, read by position into buffers of ours.

Never mapped into memory: a mapped file that a trainer truncates kills the process with
SIGBUS, and its pages count as our memory.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from altgrad_inspect.display import display_name
from altgrad_inspect.errors import ChangedError, CheckpointError
from altgrad_inspect.refs import FileRef

_LARGEST_READ: Final = 1 << 30  # one call of the kernel moves at most 2 GiB
_ADVICE_BYTES: Final = 1 << 20  # Linux follows an advice for a few MiB only, and drops the rest
_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class LocalReader:
    """A regular file, pinned by size, modification time and inode.

    Args:
        path: The file; symbolic links to regular files are followed.
        expected: The file as it stood earlier, if it must still be that one.

    Raises:
        CheckpointError: It is missing, not permitted, or not a regular file.
        ChangedError: It is not the file that was ``expected``.
    """

    def __init__(self, path: str | Path, expected: FileRef | None = None) -> None:
        self._path = Path(path)
        self._descriptor = -1
        try:
            # Asked by name first: opening a pipe or a device may already do something.
            _require_regular(self._path, os.stat(self._path))  # noqa: PTH116  # as os.open below
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            self._descriptor = os.open(self._path, flags)
            found = os.fstat(self._descriptor)
            _require_regular(self._path, found)
        except (OSError, ValueError) as error:
            self.close()
            raise _unreadable(self._path, error) from error
        except CheckpointError:
            self.close()
            raise
        self._file = _file_ref(self._path, found)
        if expected is not None and not _is_same(self._file, expected):
            self.close()
            raise _changed(self._path, _difference(expected, self._file))

    @property
    def file(self) -> FileRef:
        """The file as it stood when it was opened."""
        return self._file

    @property
    def size_bytes(self) -> int:
        """Size of the file when it was opened."""
        return self._file.size_bytes

    def read(self, offset: int, num_bytes: int) -> bytes:
        """Return ``num_bytes`` bytes from ``offset``.

        Raises:
            CheckpointError: The range is not inside the file, or the disk fails.
            ChangedError: The file became shorter.
        """
        self._require_inside(offset, num_bytes)
        content = bytearray(num_bytes)
        self.read_into(offset, memoryview(content))
        return bytes(content)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer``, a writable view of bytes, from ``offset``.

        Raises:
            CheckpointError: The range is not inside the file, or the disk fails.
            ChangedError: The file became shorter.
        """
        self._require_inside(offset, buffer.nbytes)
        done = 0
        while done < buffer.nbytes:
            part = buffer[done : done + _LARGEST_READ]
            try:
                count = os.preadv(self._descriptor, [part], offset + done)
            except OSError as error:
                raise _unreadable(self._path, error) from error
            if count == 0:
                what = f"it ends at byte {offset + done}, {self.size_bytes} bytes were there before"
                raise _changed(self._path, what)
            done += count

    def announce(self, offset: int, num_bytes: int) -> None:
        """Ask the system to read so many bytes into its cache meanwhile; it may do nothing."""
        if not hasattr(os, "posix_fadvise"):  # macOS
            return
        for start in range(offset, offset + num_bytes, _ADVICE_BYTES):
            size = min(_ADVICE_BYTES, offset + num_bytes - start)
            with suppress(OSError):
                os.posix_fadvise(self._descriptor, start, size, os.POSIX_FADV_WILLNEED)

    def check_unchanged(self) -> None:
        """Compare the open file and the name's present file with the one that was opened.

        Raises:
            ChangedError: Size, modification time or inode differ, or the name is gone.
        """
        try:
            opened = _file_ref(self._path, os.fstat(self._descriptor))
            named = _file_ref(self._path, os.stat(self._path))  # noqa: PTH116
        except OSError as error:
            raise _changed(self._path, error.strerror or "it is gone") from error
        for now in (opened, named):
            if not _is_same(now, self._file):
                raise _changed(self._path, _difference(self._file, now))

    def close(self) -> None:
        """Let go of the file; closing twice is fine."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> "LocalReader":  # noqa: PYI034  # beartype refuses Self here
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _require_inside(self, offset: int, num_bytes: int) -> None:
        if offset < 0 or num_bytes < 0 or offset + num_bytes > self.size_bytes:
            msg = (
                f"{display_name(str(self._path))}: bytes {offset} to {offset + num_bytes} are not "
                f"inside the file, expected at most {self.size_bytes} (copy the file again)"
            )
            raise CheckpointError(msg)


def _file_ref(path: Path, found: os.stat_result) -> FileRef:
    return FileRef(
        path=path, size_bytes=found.st_size, mtime_ns=found.st_mtime_ns, inode=found.st_ino
    )


def _is_same(one: FileRef, other: FileRef) -> bool:
    return (one.size_bytes, one.mtime_ns, one.inode) == (
        other.size_bytes,
        other.mtime_ns,
        other.inode,
    )


def _difference(before: FileRef, now: FileRef) -> str:
    if before.inode != now.inode:
        return "another file took its name"
    if before.size_bytes != now.size_bytes:
        return f"it had {before.size_bytes} bytes and now has {now.size_bytes}"
    return "it was written to"


def _changed(path: Path, what: str) -> ChangedError:
    return ChangedError(
        f"{display_name(str(path))}: the file changed while it was read: {what}, expected it "
        "to stay as it is (wait until it is completely written, then run again)"
    )


def _require_regular(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for test, name in _KINDS if test(found.st_mode)), "not a file")
        msg = (
            f"{display_name(str(path))}: is {kind}, expected a regular file "
            "(name a safetensors file)"
        )
        raise CheckpointError(msg)


def _unreadable(path: Path, error: OSError | ValueError) -> CheckpointError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return CheckpointError(
        f"{display_name(str(path))}: cannot be read: {reason}, expected a readable file "
        "(check that it exists, its permissions and the disk)"
    )
