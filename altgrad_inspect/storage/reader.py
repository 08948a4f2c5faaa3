"""What every store offers: exact byte ranges of one file that must not change meanwhile."""

from types import TracebackType
from typing import Protocol, runtime_checkable

from altgrad_inspect.refs import FileRef


@runtime_checkable
class RangeReader(Protocol):
    """One open file, read by position.

    A read returns exactly what was asked for or raises: a short read is an error.
    """

    @property
    def file(self) -> FileRef:
        """The file as it stood when it was opened."""
        ...

    @property
    def size_bytes(self) -> int:
        """Size of the file when it was opened."""
        ...

    def read(self, offset: int, num_bytes: int) -> bytes:
        """Return ``num_bytes`` bytes from ``offset``."""
        ...

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer``, a writable view of bytes, from ``offset``."""
        ...

    def check_unchanged(self) -> None:
        """Raise ChangedError unless the file is still the one that was opened."""
        ...

    def close(self) -> None:
        """Let go of the file; closing twice is fine."""
        ...

    def __enter__(self) -> "RangeReader":  # noqa: PYI034  # beartype refuses Self here
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
