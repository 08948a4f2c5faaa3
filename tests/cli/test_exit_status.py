"""What can go wrong, each with its exit status and its one line on stderr."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from altgrad_inspect.cli.guard import run_guarded
from altgrad_inspect.cli.talk import find_talk
from tests.cli.conftest import RunCli, write_run
from tests.reports.examples import make_checkpoints, make_flips, make_ranks, make_results

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "altgrad_inspect")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def one_line(text: str) -> str:
    assert text.startswith("altgrad-inspect: error: ")
    assert text.count("\n") == 1
    assert text[:-1].isprintable()
    return text


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("flips", "--bogus"), "No such option: --bogus"),
        (("bogus",), "No such command 'bogus'"),
        (("rank", "--last", "x"), "Invalid value for '--last'"),
        (("rank", "--format", "xml"), "Invalid value for '--format'"),
        (("rank", "--last", "0"), "last: 0 is out of range"),
        (("rank", "--jobs", "0"), "jobs: 0 is out of range"),
        (("rank", "--device", "tpu"), "device: 'tpu' is out of range"),
        (("rank", "--device", "cuda:99"), "device cuda:99: not found"),
        (("flips", "--quant", "zz"), "quantizer format: 'zz' is not known"),
        (("trend", "--alpha", "0"), "alpha: 0.0 is out of range"),
        (("trend", "--half-life", "-1"), "half_life: -1.0 is out of range"),
        (("report", "--threshold", "1"), "threshold: 1.0 is out of range"),
        (("report", "--warmup", "0"), "warmup: 0 is out of range"),
        (("formats", "nope"), "nope is not known"),
    ],
)
def test_usage_is_2(run_cli: RunCli, tiny_run: Path, args: tuple[str, ...], said: str) -> None:
    run = [str(tiny_run)] if args[0] in {"rank", "flips", "trend", "report"} else []
    outcome = run_cli(args[0], *run, *args[1:])
    assert outcome.status == 2
    assert outcome.out == ""
    assert said in one_line(outcome.err)


def test_no_command_is_2_with_the_help_on_stderr(run_cli: RunCli) -> None:
    outcome = run_cli()
    assert (outcome.status, outcome.out) == (2, "")
    assert "Usage: altgrad-inspect" in outcome.err


def test_what_is_missing_or_corrupt_is_4(run_cli: RunCli, tmp_path: Path) -> None:
    missing = run_cli("flips", "nowhere")
    assert missing.status == 4
    assert "nowhere" in one_line(missing.err)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    corrupt = run_cli("ls", str(broken))
    assert corrupt.status == 4
    one_line(corrupt.err)


@pytest.mark.parametrize("command", ["flips", "rank", "trend", "report"])
def test_an_output_that_cannot_be_written_is_4_before_any_work(
    run_cli: RunCli, tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_text("")
    outcome = run_cli(
        command, "nowhere", "--out", "file/out"
    )  # that the run is missing comes later
    assert outcome.status == 4
    assert "file/out" in one_line(outcome.err)


def test_nothing_matched_is_5(run_cli: RunCli, tiny_run: Path) -> None:
    outcome = run_cli("rank", str(tiny_run), "--layers", "lm_haed")
    assert outcome.status == 5
    assert "lm_haed" in one_line(outcome.err)
    assert run_cli("flips", str(tiny_run), "--last", "1").status == 5


def test_results_with_failed_rows_are_6_and_are_written(run_cli: RunCli) -> None:
    tables = {"flips": make_flips(), "ranks": make_ranks(), "checkpoints": make_checkpoints()}
    make_results("flips", **tables).write("measured")
    outcome = run_cli("trend", "measured", "--out", "out")
    assert outcome.status == 6
    assert "✖ 1 row of flips failed, first at step 600: " in outcome.out
    assert Path("out/trends.parquet").exists()


def test_checkpoints_that_are_skipped_are_named_and_no_failure(
    run_cli: RunCli, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run")
    (run / "checkpoint-30" / "model.safetensors").unlink()
    outcome = run_cli("flips", str(run))
    assert outcome.status == 0
    assert "checkpoint-30" in outcome.out


def test_a_bug_is_3_with_its_traceback_only_under_vv(
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = typer.Typer()

    @app.command()
    def buggy(verbosity: int = 0) -> None:
        find_talk().verbosity = verbosity
        msg = "a\x1b[31m\nb"
        raise ZeroDivisionError(msg)

    assert run_guarded(app, []) == 3
    line = one_line(capsys.readouterr().err)
    assert "ZeroDivisionError: a\\x1b[31m\\nb: this is a bug in altgrad-inspect, please" in line
    assert run_guarded(app, ["--verbosity", "2"]) == 3
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_128_and_its_number(
    capsys: pytest.CaptureFixture[str], number: signal.Signals, status: int
) -> None:
    app = typer.Typer()
    before = signal.getsignal(signal.SIGTERM)

    @app.command()
    def slow() -> None:
        os.kill(os.getpid(), number)
        signal.sigtimedwait([signal.SIGUSR1], 5)

    assert run_guarded(app, []) == status
    one_line(capsys.readouterr().err)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("output_format", ["json", "jsonl"])
def test_errors_are_json_where_the_data_would_be(
    run_cli: RunCli, tiny_run: Path, output_format: str
) -> None:
    outcome = run_cli("rank", str(tiny_run), "--layers", "x\ny", "--format", output_format)
    assert outcome.status == 5
    assert outcome.out == ""
    error = json.loads(outcome.err)["error"]
    assert error["code"] == 5
    assert error["kind"] == "NothingMatchedError"
    assert "x\\ny" in error["message"]


def test_a_hostile_argument_is_shown_harmlessly(run_cli: RunCli) -> None:
    outcome = run_cli("ls", "no\x1bc\nwhere")
    assert outcome.status == 4
    assert "no\\x1bc\\nwhere" in one_line(outcome.err)


@pytest.mark.parametrize("args", [("formats", "-q"), ("--help",)])
def test_a_reader_that_leaves_early_is_no_error(args: tuple[str, ...], tmp_path: Path) -> None:
    program = subprocess.Popen(
        [*PROGRAM, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=environment(),
    )
    assert program.stdout is not None
    program.stdout.close()
    _, err = program.communicate(timeout=60)
    assert (program.returncode, err) == (0, b"")


@pytest.mark.parametrize("args", [("formats",), ("--help",), ("formats", "--format", "csv")])
def test_a_full_disk_is_4(args: tuple[str, ...], tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, *args],
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=environment(),
            check=False,
            text=True,
        )
    assert done.returncode == 4
    assert "No space left on device" in one_line(done.stderr)


def test_the_status_of_the_process_is_that_of_the_work(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "ls", "nowhere"],
        capture_output=True,
        cwd=tmp_path,
        env=environment(),
        check=False,
        text=True,
    )
    assert done.returncode == 4
    assert done.stdout == ""
    one_line(done.stderr)


def test_samples_that_are_missing_are_an_error_and_not_a_crash(tmp_path: Path) -> None:
    package = tmp_path / "altgrad_inspect"
    shutil.copytree(ROOT / "altgrad_inspect", package, ignore=shutil.ignore_patterns("sample_*"))
    done = subprocess.run(
        [*PROGRAM, "demo"],
        capture_output=True,
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": str(tmp_path)},
        check=False,
        text=True,
    )
    assert done.returncode == 4
    assert "the sample runs are missing" in one_line(done.stderr)


@pytest.mark.parametrize(
    ("command", "status"), [("formats >&-", 0), ("formats 2>&-", 0), ("rank nowhere >&- 2>&-", 4)]
)
def test_closed_streams_are_no_crash(command: str, status: int) -> None:
    program = f"{' '.join(PROGRAM)} {command}"
    done = subprocess.run(["/bin/sh", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, "")


def test_the_process_ends_with_all_that_it_printed(run_cli: RunCli) -> None:
    """It ends without Python's own clean-up, which must have nothing left to write."""
    done = subprocess.run([*PROGRAM, "formats"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == run_cli("formats").out.splitlines()[-1]
    failed = subprocess.run(
        [*PROGRAM, "rank", "nowhere"], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 4
    one_line(failed.stderr)
