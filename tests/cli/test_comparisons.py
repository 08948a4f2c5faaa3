"""``diff``, ``sweep``, ``compare`` and ``rank --updates`` from the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import RunCli, write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def test_rank_updates_writes_three_subjects(run_cli: RunCli, run: Path) -> None:
    outcome = run_cli("rank", str(run), "--updates", "--format", "jsonl")
    assert outcome.status == 0
    rows = [json.loads(line) for line in outcome.out.splitlines()]
    assert {row["subject"] for row in rows} == {"weight", "update", "update_total"}
    weight = run_cli("rank", str(run), "--format", "jsonl")
    assert {json.loads(line)["subject"] for line in weight.out.splitlines()} == {"weight"}


@pytest.mark.parametrize("output_format", ["table", "json", "jsonl", "csv", "md"])
def test_diff_speaks_every_format_and_writes_nothing_unasked(
    run_cli: RunCli, run: Path, tmp_path: Path, output_format: str
) -> None:
    a, b = run / "checkpoint-10", run / "checkpoint-40"
    outcome = run_cli("diff", str(a), str(b), "--format", output_format)
    assert outcome.status == 0
    assert "lm_head.weight" in outcome.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_diff_writes_its_tables_where_asked(run_cli: RunCli, run: Path, tmp_path: Path) -> None:
    a, b = run / "checkpoint-40", run / "checkpoint-10"
    outcome = run_cli("diff", str(a), str(b), "--out", "there", "--quant", "int8:channel")
    assert outcome.status == 0
    assert (tmp_path / "there" / "diff.parquet").is_file()
    assert "A has step 40 and B has step 10" in outcome.out
    assert "wrote" in outcome.err


def test_diff_of_a_run_says_what_to_name(run_cli: RunCli, run: Path) -> None:
    outcome = run_cli("diff", str(run), str(run / "checkpoint-10"))
    assert outcome.status == 4
    assert "is a run of 5 checkpoints, expected one checkpoint (name one of them" in outcome.err


def test_sweep_writes_its_tables_and_takes_quantizers(
    run_cli: RunCli, run: Path, tmp_path: Path
) -> None:
    outcome = run_cli("sweep", str(run), "--quant", "e0m7", "--quant", "int8", "--format", "json")
    assert outcome.status == 0
    (row,) = json.loads(outcome.out)["tables"]["sweep"]
    assert row["same_as"] == ["int8:tensor:amax"]
    for name in ("sweep", "sweep_layers"):
        assert (tmp_path / "altgrad-report" / f"{name}.parquet").is_file()


def test_the_default_of_sweep_is_not_that_of_the_other_commands(
    run_cli: RunCli, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "altgrad-inspect.toml").write_text('quant = ["e5m2"]\n')
    outcome = run_cli("sweep", str(run), "--format", "jsonl")
    assert len(outcome.out.splitlines()) == 11


def test_compare_reads_tables_and_runs(run_cli: RunCli, run: Path, tmp_path: Path) -> None:
    assert run_cli("report", str(run), "--out", "one").status == 0
    outcome = run_cli("compare", "one", str(run), "--format", "json")
    assert outcome.status == 0
    rows = json.loads(outcome.out)["tables"]["compare"]
    assert all(row["stable_rank_a"] == row["stable_rank_b"] for row in rows)
    assert run_cli("compare", "one", "one", "--out", "two").status == 0
    assert (tmp_path / "two" / "compare_totals.parquet").is_file()
    assert run_cli("compare", "one", "nowhere").status == 4


def test_comparing_tables_never_loads_torch(run_cli: RunCli, run: Path, tmp_path: Path) -> None:
    run_cli("report", str(run), "--out", "one")
    program = (
        "import sys; from altgrad_inspect.cli import app; from altgrad_inspect.cli.guard "
        "import run_guarded; status = run_guarded(app, ['compare', 'one', 'one']); "
        "sys.exit(9 if 'torch' in sys.modules else status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Totals" in done.stdout
