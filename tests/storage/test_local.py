"""Reading files of this machine: exact ranges, every change noticed, nothing hangs."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from altgrad_inspect.errors import ChangedError, CheckpointError
from altgrad_inspect.refs import FileRef
from altgrad_inspect.storage import local
from altgrad_inspect.storage.local import LocalReader
from altgrad_inspect.storage.reader import RangeReader

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    path.write_bytes(CONTENT)
    os.utime(path, ns=(1, 1_000_000_007))
    return path


def test_a_local_reader_is_a_range_reader(path: Path) -> None:
    with LocalReader(path) as reader:
        assert isinstance(reader, RangeReader)
        found = path.stat()
        assert reader.size_bytes == len(CONTENT)
        assert reader.file == FileRef(
            path=path, size_bytes=len(CONTENT), mtime_ns=1_000_000_007, inode=found.st_ino
        )


@given(start=st.integers(0, 1024), num_bytes=st.integers(0, 1024))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_range_inside_the_file_is_read_exactly_and_another_is_refused(
    path: Path, start: int, num_bytes: int
) -> None:
    with LocalReader(str(path)) as reader:
        if start + num_bytes <= len(CONTENT):
            assert reader.read(start, num_bytes) == CONTENT[start : start + num_bytes]
            buffer = bytearray(num_bytes)
            reader.read_into(start, memoryview(buffer))
            assert buffer == CONTENT[start : start + num_bytes]
        else:
            with pytest.raises(CheckpointError, match="not inside the file, expected at most 1024"):
                reader.read(start, num_bytes)
            with pytest.raises(CheckpointError, match="not inside the file"):
                reader.read_into(start, memoryview(bytearray(num_bytes)))


@pytest.mark.parametrize(("start", "num_bytes"), [(-1, 2), (0, -1), (2, -1)])
def test_negative_ranges_are_refused(path: Path, start: int, num_bytes: int) -> None:
    with LocalReader(path) as reader, pytest.raises(CheckpointError, match="not inside"):
        reader.read(start, num_bytes)


def test_a_read_in_many_parts_gives_the_same_bytes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_LARGEST_READ", 100)
    with LocalReader(path) as reader:
        assert reader.read(3, 1000) == CONTENT[3:1003]


def truncate(path: Path) -> None:
    os.truncate(path, 10)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(CONTENT)
    os.utime(other, ns=(1, 1_000_000_007))
    other.replace(path)


def unlink(path: Path) -> None:
    path.unlink()


every_change = pytest.mark.parametrize(
    ("change", "reason"),
    [
        (truncate, "it had 1024 bytes and now has 10"),
        (empty, "it had 1024 bytes and now has 0"),
        (append, "it had 1024 bytes and now has 1025"),
        (rewrite, "it was written to"),
        (replace, "another file took its name"),
        (unlink, "No such file or directory"),
    ],
)


@every_change
def test_a_change_while_the_file_is_open_is_noticed(
    path: Path, change: Callable[[Path], None], reason: str
) -> None:
    with LocalReader(path) as reader:
        reader.check_unchanged()
        change(path)
        with pytest.raises(ChangedError, match=f"changed while it was read: {reason}"):
            reader.check_unchanged()


@every_change
def test_a_change_before_the_file_is_opened_again_is_noticed(
    path: Path, change: Callable[[Path], None], reason: str
) -> None:
    with LocalReader(path) as reader:
        expected = reader.file
    change(path)
    if change is unlink:
        with pytest.raises(CheckpointError, match=reason):
            LocalReader(path, expected=expected)
    else:
        with pytest.raises(ChangedError, match=reason):
            LocalReader(path, expected=expected)


def test_a_file_that_is_as_expected_is_opened(path: Path) -> None:
    with LocalReader(path) as reader, LocalReader(path, expected=reader.file) as again:
        assert again.read(0, 1024) == CONTENT


def test_a_read_past_a_truncation_is_an_error_and_not_a_signal(path: Path) -> None:
    with LocalReader(path) as reader:
        os.truncate(path, 100)
        assert reader.read(0, 100) == CONTENT[:100]
        with pytest.raises(ChangedError, match="it ends at byte 100, 1024 bytes were there"):
            reader.read(50, 100)


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def make_directory(path: Path) -> None:
    path.mkdir()


def link_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (make_pipe, "a named pipe"),
        (make_socket, "a socket"),
        (make_directory, "a directory"),
        (link_device, "a device"),
    ],
)
def test_what_is_not_a_regular_file_is_refused_without_hanging(
    tmp_path: Path, make: Callable[[Path], None], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    make(Path("a"))
    with pytest.raises(CheckpointError, match=rf"a: is {kind}, expected a regular file"):
        LocalReader("a")


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(CheckpointError, match="cannot be read: Too many levels of symbolic links"):
        LocalReader(tmp_path / "a")


def test_a_link_to_a_regular_file_elsewhere_is_read(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "snapshot" / "model.safetensors"
    link.parent.mkdir()
    link.symlink_to(path)
    with LocalReader(link) as reader:
        reader.check_unchanged()
        assert reader.read(0, 4) == CONTENT[:4]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "No such file or directory"),
        ("a.safetensors/b", "Not a directory"),
        ("n" * 300, "File name too long"),
        ("\0", "embedded null"),
    ],
)
def test_a_path_that_cannot_be_opened_says_why(path: Path, name: str, reason: str) -> None:
    with pytest.raises(CheckpointError, match=f"cannot be read: {reason}") as caught:
        LocalReader(path.parent / name)
    assert str(caught.value).isprintable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_says_so(path: Path) -> None:
    path.chmod(0)
    with pytest.raises(CheckpointError, match="Permission denied"):
        LocalReader(path)


def test_a_disk_error_names_the_file(path: Path) -> None:
    with LocalReader(path) as reader:
        os.close(reader._descriptor)
        with pytest.raises(CheckpointError, match=r"a.safetensors: cannot be read: Bad file desc"):
            reader.read(0, 1)
        reader._descriptor = -1


def test_closing_twice_is_fine_and_refused_files_leave_nothing_open(path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    reader = LocalReader(path)
    reader.close()
    reader.close()
    other = FileRef(path=path, size_bytes=1, mtime_ns=1, inode=1)
    with pytest.raises(ChangedError):
        LocalReader(path, expected=other)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


_PROGRAM = """
import sys
from altgrad_inspect.storage.local import LocalReader

def peak_kb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

buffer = bytearray(1 << 20)
with LocalReader(sys.argv[1]) as reader:
    before = peak_kb()
    for offset in range(0, reader.size_bytes, 1 << 20):
        reader.read_into(offset, memoryview(buffer))
    print(peak_kb() - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    grown_kb = []
    for size_mb in (10, 200):
        path = tmp_path / f"{size_mb}.safetensors"
        path.touch()
        os.truncate(path, size_mb << 20)  # sparse: reads as zeros
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(path)], capture_output=True, text=True, check=True
        )
        grown_kb.append(int(done.stdout))
    assert max(grown_kb) < 4096
