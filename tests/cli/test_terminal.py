"""On a terminal: width, colours, progress; and what starting up imports."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from rich.cells import cell_len

from tests.cli.conftest import RunCli, write_run
from tests.reports.hostile import HOSTILE

ROOT = Path(__file__).parents[2]
SEQUENCE = re.compile(r"\x1b\[[?0-9;]*[a-zA-Z]")


def run_on_terminal(
    *args: str, cwd: Path, environment: Mapping[str, str] = MappingProxyType({})
) -> tuple[str, str]:
    """Run the program with stdout and stderr each on a terminal of its own."""
    masters, slaves = zip(*(pty.openpty() for _ in range(2)), strict=True)
    inherited = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    program = subprocess.Popen(
        [sys.executable, "-m", "altgrad_inspect", *args],
        stdout=slaves[0],
        stderr=slaves[1],
        cwd=cwd,
        env={
            **inherited,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "TERM": "xterm-256color",
            "COLUMNS": "80",
            **environment,
        },
    )
    for slave in slaves:
        os.close(slave)
    texts = [read_all(master) for master in masters]
    assert program.wait(timeout=60) == 0, texts
    return texts[0], texts[1]


def read_all(master: int) -> str:
    chunks = []
    while True:
        try:
            chunk = os.read(master, 65_536)
        except OSError:  # the other end is closed
            break
        chunks.append(chunk)
    os.close(master)
    return b"".join(chunks).decode().replace("\r\n", "\n")


def test_a_terminal_gets_colours_its_width_and_a_bar_that_goes_away(
    tiny_run: Path, tmp_path: Path
) -> None:
    out, err = run_on_terminal("report", str(tiny_run), cwd=tmp_path)
    assert "\x1b[1;31m✖ collapsing" in out
    lines = SEQUENCE.sub("", out).splitlines()[1:]  # the first names the run
    assert max(cell_len(line) for line in lines) <= 80
    assert "layers" in err
    assert "\x1b[?25h" in err  # the cursor is shown again
    assert SEQUENCE.sub("", err).rstrip().endswith("altgrad-report/")


@pytest.mark.parametrize(
    ("flags", "environment"),
    [(("--color", "never"), {}), ((), {"NO_COLOR": "1"}), ((), {"TERM": "dumb"})],
)
def test_colours_can_be_refused(
    tmp_path: Path, flags: tuple[str, ...], environment: dict[str, str]
) -> None:
    out, _ = run_on_terminal("formats", *flags, cwd=tmp_path, environment=environment)
    assert "\x1b" not in out


def test_colours_can_be_demanded_in_a_pipe_even_against_no_color(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1m" in run_cli("formats", "--color", "always").out


@pytest.mark.parametrize("args", [("--help",), ("flips", "--help"), ("formats",), ("bogus",)])
def test_no_ci_makes_a_pipe_colourful(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("FORCE_COLOR", "1")
    outcome = run_cli(*args)
    assert "\x1b" not in outcome.out + outcome.err


def test_an_output_that_holds_only_ascii_gets_only_ascii(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "altgrad_inspect", "formats"],
        capture_output=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        check=True,
    )
    assert done.stdout.isascii()
    assert done.stderr == b""


HEAVY = {"torch", "pandas", "pyarrow", "numpy", "safetensors"}


@pytest.mark.parametrize(
    ("args", "forbidden"),
    [
        (("--help",), {*HEAVY, "rich"}),
        (("--version",), {*HEAVY, "rich"}),
        (("report", "--help"), {*HEAVY, "rich.table"}),
        (("demo", "--help"), HEAVY),
        (("formats",), HEAVY),
        (("formats", "--format", "json"), {*HEAVY, "rich"}),
        (("formats", "nope"), {*HEAVY, "rich"}),
    ],
)
def test_what_needs_no_run_imports_nothing_heavy(
    args: tuple[str, ...], forbidden: set[str], tmp_path: Path
) -> None:
    code = (
        "import sys\n"
        "from altgrad_inspect.cli import app\n"
        "from altgrad_inspect.cli.guard import run_guarded\n"
        "run_guarded(app, sys.argv[1:])\n"
        f"print(sorted({forbidden!r} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        text=True,
    )
    assert done.stderr.splitlines()[-1] == "[]"


def test_the_version_is_one_line(run_cli: RunCli) -> None:
    outcome = run_cli("--version")
    assert re.fullmatch(r"altgrad-inspect \S+\n", outcome.out)
    assert (outcome.status, outcome.err) == (0, "")


@pytest.mark.parametrize("command", ["ls", "flips", "rank", "trend", "report", "formats", "demo"])
def test_every_command_explains_every_option(run_cli: RunCli, command: str) -> None:
    outcome = run_cli(command, "--help")
    assert outcome.status == 0
    options = outcome.out.partition("Options:\n")[2]
    for line in options.splitlines():
        if re.match(r"  -\S+", line):
            assert len(line.split("  ")) > 2 or line.endswith(">"), line


def test_hostile_names_from_real_files_are_harmless_everywhere(
    run_cli: RunCli, tmp_path: Path
) -> None:
    names = tuple(name for key, name in HOSTILE.items() if key != "very_long")
    run = write_run(tmp_path / "run", names=names)
    for output_format in ("table", "md", "csv", "json", "jsonl"):
        outcome = run_cli("report", str(run), "-v", "--format", output_format)
        assert outcome.status in {0, 6}, outcome.err
        for text in (outcome.out, outcome.err):
            assert all(line.isprintable() for line in text.split("\n"))
