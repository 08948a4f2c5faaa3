"""Files under full disks, wrong permissions, kills and concurrent writers."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

import pytest

from altgrad_inspect.errors import OutputError
from altgrad_inspect.tables import files
from altgrad_inspect.tables.files import (
    TEMPORARY_PREFIX,
    check_writable,
    replace_files,
    write_text,
)

BASE = Path(gettempdir()).resolve()
AS_ROOT = os.geteuid() == 0


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["/usr/bin/mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if not AS_ROOT or not Path(mount[0]).exists():
        pytest.skip("mounting a small disk needs root")
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("this sandbox does not allow mounting")
    yield disk
    subprocess.run(["/usr/bin/umount", str(disk)], check=True)


def test_files_are_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    replace_files(out, {"x": b"old", "y": b"kept"})
    assert replace_files(out, {"x": b"new", "z": b""}) == [out / "x", out / "z"]
    assert names(out) == {"x", "y", "z"}
    assert [(out / name).read_bytes() for name in "xyz"] == [b"new", b"kept", b""]


def test_a_new_file_has_the_permissions_that_the_user_gives_files(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_text(tmp_path / "report", "text")
    assert (tmp_path / "report").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_full_disk_leaves_every_earlier_file_as_it_was(small_disk: Path) -> None:
    replace_files(small_disk, {"first": b"old 1", "second": b"old 2"})
    with pytest.raises(OutputError, match=r"second: cannot be written: No space left on device \("):
        replace_files(small_disk, {"first": b"new 1", "second": b"x" * 100_000})
    assert names(small_disk) == {"first", "second"}
    assert (small_disk / "first").read_bytes() == b"old 1"


def test_a_full_disk_is_noticed_before_the_work(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        (small_disk / "filler").write_bytes(b"x" * 100_000)
    with pytest.raises(OutputError, match=r"No space left on device \(free some space or choose"):
        check_writable(small_disk)


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_the_place_of_the_directory_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match=r"out.*: cannot be written: .* \(a file is in its place"):
        check_writable(tmp_path / "out" / below)
    with pytest.raises(OutputError, match="a file is in its place; move it or choose another"):
        replace_files(tmp_path / "out" / below, {"x": b""})
    assert (tmp_path / "out").read_text() == "mine"


def test_a_directory_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a").write_text("old")
    with pytest.raises(OutputError, match=r"b: cannot be written: Is a directory \(a directory is"):
        replace_files(tmp_path, {"a": b"new", "b": b""})
    with pytest.raises(OutputError, match=r"b: cannot be written: Is a directory"):
        check_writable(tmp_path, ["a", "b"])
    assert names(tmp_path) == {"a", "b"}
    assert (tmp_path / "a").read_text() == "old"


def test_a_directory_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir(mode=0o555)
    script = (
        "import os, sys; from pathlib import Path\n"
        "from altgrad_inspect.errors import OutputError\n"
        "from altgrad_inspect.tables.files import check_writable\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: check_writable(Path(sys.argv[1]))\n"
        "except OutputError as error: print(error)\n"
    )
    inside = tmp_path.relative_to(BASE) if tmp_path.is_relative_to(BASE) else Path()
    for parent in inside.parents[:-1]:
        (BASE / parent).chmod(0o711)  # for a user who is not root to get there
    done = subprocess.run(
        [sys.executable, "-c", script, str(out)], check=False, capture_output=True
    )
    assert done.stderr == b""
    assert b"Permission denied (choose another --out)" in done.stdout


def test_a_check_leaves_nothing_but_the_directory(tmp_path: Path) -> None:
    check_writable(tmp_path / "out", ["flips.parquet"])
    assert names(tmp_path / "out") == set()


def test_leftovers_of_a_dead_writer_are_swept(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY_PREFIX}dead").write_bytes(b"half")
    (tmp_path / ".hidden").write_bytes(b"not ours")
    write_text(tmp_path / "report.md", "text")
    assert names(tmp_path) == {"report.md", ".hidden"}


def test_files_of_a_live_writer_are_waited_for(tmp_path: Path) -> None:
    live = tmp_path / f"{TEMPORARY_PREFIX}live"
    live.write_bytes(b"half")
    holder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    writer = threading.Thread(target=write_text, args=(tmp_path / "report", "text"))
    writer.start()
    time.sleep(0.2)
    assert names(tmp_path) == {live.name}
    live.rename(tmp_path / "finished")
    os.close(holder)
    writer.join(10)
    assert names(tmp_path) == {"finished", "report"}


def test_a_writer_that_never_ends_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOCK_TIMEOUT_SECONDS", 0.1)
    holder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(OutputError, match=r"another run has been writing here for 0 s \(wait for"):
        write_text(tmp_path / "report", "text")
    os.close(holder)
    assert names(tmp_path) == set()


def test_where_a_directory_cannot_be_locked_nothing_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(9, "Bad file descriptor")  # what NFS says of a directory

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / f"{TEMPORARY_PREFIX}live").write_bytes(b"half")
    write_text(tmp_path / "report", "text")
    assert names(tmp_path) == {f"{TEMPORARY_PREFIX}live", "report"}


WRITER = """
import itertools, sys
from pathlib import Path
from altgrad_inspect.tables.files import replace_files
out = Path(sys.argv[1])
print("ready", flush=True)
for round in itertools.count():
    replace_files(out, {name: bytes([round % 256]) * 200_000 for name in ("a", "b")})
"""


def test_a_killed_writer_leaves_only_whole_files(tmp_path: Path) -> None:
    for attempt in range(30):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(0.002 + 0.001 * attempt)
            writer.send_signal(signal.SIGKILL)
        for name in names(tmp_path) & {"a", "b"}:
            data = (tmp_path / name).read_bytes()
            assert data == data[:1] * 200_000
        replace_files(tmp_path, {"c": b""})
        assert names(tmp_path) <= {"a", "b", "c"}
    assert names(tmp_path) == {"a", "b", "c"}


def test_writers_at_the_same_time_leave_the_files_of_one(tmp_path: Path) -> None:
    def write_often(mark: bytes) -> None:
        for _ in range(20):
            replace_files(tmp_path, dict.fromkeys("abc", mark * 1000))

    writers = [
        threading.Thread(target=write_often, args=(mark,)) for mark in (b"1", b"2", b"3", b"4")
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert names(tmp_path) == set("abc")
    assert len({(tmp_path / name).read_bytes() for name in "abc"}) == 1


def test_a_link_keeps_pointing_at_the_report(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    assert write_text(tmp_path / "link", "new") == tmp_path / "link"
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_device_is_written_to_and_not_replaced() -> None:
    assert write_text(Path("/dev/null"), "text") == Path("/dev/null")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(OutputError, match="/dev/full: cannot be written: No space left on device"):
        write_text(Path("/dev/full"), "text")
    assert Path("/dev/full").is_char_device()


def test_text_is_written_as_utf8_whatever_it_holds(tmp_path: Path) -> None:
    write_text(tmp_path / "report", "é\r\n\udcff")
    assert (tmp_path / "report").read_bytes() == b"\xc3\xa9\r\n\\udcff"
