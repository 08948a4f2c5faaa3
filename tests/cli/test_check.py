"""The gate: what it prints, what it writes and, above all, how it exits."""

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import altgrad_inspect as ai
from altgrad_inspect.errors import ConfigError, ExitCode, NothingMatchedError
from altgrad_inspect.tables.schema import ALERTS
from altgrad_inspect.trends.findings import RULE_NAMES
from tests.cli.conftest import RunCli, write_run

SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[ai.CheckOutcome, Path]]:
    """Both sample runs, checked once, and their tables."""
    root = tmp_path_factory.mktemp("tables")
    outcomes = {name: ai.check(SAMPLES / name) for name in ("healthy", "faulty")}
    for name, outcome in outcomes.items():
        outcome.results.write(root / name)
    return {name: (outcome, root / name) for name, outcome in outcomes.items()}


@pytest.fixture
def tables(checked: dict[str, tuple[ai.CheckOutcome, Path]]) -> Callable[[str], Path]:
    """Return the tables of a sample run."""
    return lambda name: checked[name][1]


def test_a_faulty_run_is_1_and_a_healthy_one_is_0(
    run_cli: RunCli, checked: dict[str, tuple[ai.CheckOutcome, Path]]
) -> None:
    faulty, directory = checked["faulty"]
    assert faulty.exit_code is ExitCode.FINDINGS
    assert not faulty.was_read
    assert {"lm_head.weight"} <= set(faulty.findings.column("layer").to_pylist())
    assert run_cli("check", str(directory)).status == 1
    healthy, directory = checked["healthy"]
    assert healthy.exit_code is ExitCode.OK, healthy.findings.to_pylist()
    outcome = run_cli("check", str(directory))
    assert (outcome.status, outcome.err) == (0, "")
    (line,) = outcome.out.splitlines()
    assert line.endswith("healthy: no findings in 51 layers at or above warning")


def test_a_run_and_its_tables_say_the_same(run_cli: RunCli, tiny_run: Path) -> None:
    computed = run_cli("check", str(tiny_run), "--out", "out")
    assert computed.status == 1
    assert "wrote " in computed.err
    assert computed.err.endswith("report.json to out/\n")
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    assert {"alerts.parquet", "flips.parquet", "report.json"} <= {path.name for path in before}
    read = run_cli("check", "out")
    assert (read.status, read.out) == (1, computed.out)
    assert "wrote " not in read.err
    assert {path: path.read_bytes() for path in Path("out").iterdir()} == before
    again = run_cli("check", str(tiny_run), "--no-out")
    assert (again.status, again.out) == (1, computed.out)
    assert "wrote " not in again.err
    assert [path.name for path in Path().iterdir()] == ["out"]


def test_every_finding_is_one_line_with_no_escape_code(
    run_cli: RunCli, tables: Callable[[str], Path]
) -> None:
    outcome = run_cli("check", str(tables("faulty")))
    findings = ai.check(tables("faulty")).findings
    *lines, summary = outcome.out.splitlines()
    assert len(lines) == findings.num_rows > 5
    for line, row in zip(lines, findings.to_pylist(), strict=True):
        start = f"{row['severity']} {row['rule']} {row['layer']}"
        assert line.split(" ", 1)[1].startswith(start)
        assert row["message"] in line
    assert f"{len(lines)} findings in " in summary
    assert "\x1b" not in outcome.out
    colored = run_cli("check", str(tables("faulty")), "--color", "always")
    assert colored.out.startswith("\x1b[1;31m")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--fail-on", "critical"), 1),
        (("--fail-on", "info"), 1),
        (("--exit-zero",), 0),
        (("--layers", "input_layernorm"), 0),
        (("--layers", "lm_head"), 1),
        (("--exclude", "lm_head", "--rule", "rank-drop", "--rule", "oscillation"), 1),
        (("--rule", "saturation"), 0),
        (("--rule", "nonfinite-weights"), 1),
        (tuple(part for name in RULE_NAMES for part in ("--ignore", name)), 0),
    ],
)
def test_options_choose_what_is_a_finding(
    run_cli: RunCli, tables: Callable[[str], Path], arguments: tuple[str, ...], status: int
) -> None:
    outcome = run_cli("check", str(tables("faulty")), *arguments)
    assert outcome.status == status, outcome.out
    assert ("no findings" in outcome.out) == (status == 0 and arguments != ("--exit-zero",))


def test_layers_that_are_left_out_are_no_findings(
    run_cli: RunCli, tables: Callable[[str], Path]
) -> None:
    outcome = run_cli("check", str(tables("faulty")), "--exclude", "lm_head", "--format", "json")
    layers = {row["layer"] for row in json.loads(outcome.out)["findings"]}
    assert len(layers) > 2
    assert "lm_head.weight" not in layers


def test_a_severity_that_nothing_reaches_is_0(run_cli: RunCli, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    options = ("--rule", "rank-drop", "--threshold", "0.9", "--critical", "nothing")
    assert run_cli("check", str(run), *options).status == 0
    assert run_cli("check", str(run), "--rule", "rank-drop", "--warmup", "2").status == 1


def test_failed_rows_are_6_unless_there_are_findings(run_cli: RunCli, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    file = run / "checkpoint-30" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    ignored = [part for name in RULE_NAMES for part in ("--ignore", name)]
    quiet = run_cli("check", str(run), *ignored, "--exit-zero")
    assert quiet.status == 6
    assert "failed" in quiet.out.splitlines()[-1]
    assert Path("altgrad-report/flips.parquet").exists()
    loud = run_cli("check", str(run), "--fail-on", "info", "--warmup", "1", "--threshold", "0.01")
    assert loud.status == 1, loud.out


def test_the_formats_hold_the_same_findings(run_cli: RunCli, tables: Callable[[str], Path]) -> None:
    directory = str(tables("faulty"))
    outcome = run_cli("check", directory, "--format", "json")
    document = json.loads(outcome.out)
    assert (document["exit_code"], outcome.status, document["fail_on"]) == (1, 1, "warning")
    assert (document["subject"], document["num_failed"]) == ("check", 0)
    rows = document["findings"]
    assert list(rows[0]) == ALERTS.arrow.names
    lines = run_cli("check", directory, "--format", "jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == rows
    text = run_cli("check", directory, "--format", "csv").out
    assert [row["layer"] for row in csv.DictReader(io.StringIO(text))] == [
        row["layer"] for row in rows
    ]
    markdown = run_cli("check", directory, "--format", "md").out
    assert sum(line.startswith("| ") for line in markdown.splitlines()) == len(rows) + 2
    assert f"{len(rows)} findings in " in markdown


@pytest.mark.parametrize(
    ("output_format", "expected"), [("jsonl", ""), ("csv", ",".join(ALERTS.arrow.names) + "\n")]
)
def test_no_findings_are_no_rows(
    run_cli: RunCli, tables: Callable[[str], Path], output_format: str, expected: str
) -> None:
    outcome = run_cli("check", str(tables("healthy")), "--format", output_format)
    assert (outcome.status, outcome.out, outcome.err) == (0, expected, "")


def test_a_configuration_is_all_a_gate_needs(run_cli: RunCli, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "latest")
    Path("pyproject.toml").write_text(
        "[tool.altgrad-inspect]\nrun = 'runs/latest'\nwarmup = 2\nrule = ['rank-drop']\n"
        "no-out = true\n"
    )
    outcome = run_cli("check")
    assert outcome.status == 1
    assert "lm_head.weight" in outcome.out
    with Path("pyproject.toml").open("a") as file:
        file.write("fail-on = 'critical'\ncritical = []\nthreshold = 0.9\n")
    assert run_cli("check").status == 0
    assert sorted(path.name for path in Path().iterdir()) == ["pyproject.toml", "runs"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rule", "rank-dorp"), "rule rank-dorp: is not known, expected one like rank-drop"),
        (("--ignore", "nope"), "rule nope: is not known"),
        (("--fail-on", "fatal"), "Invalid value for '--fail-on'"),
    ],
)
def test_a_wrong_option_is_2_before_any_work(
    run_cli: RunCli, arguments: tuple[str, ...], said: str
) -> None:
    outcome = run_cli("check", "nowhere", *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert said in outcome.err
    assert not list(Path().glob("altgrad-report/*"))


def test_layers_that_are_not_in_the_tables_are_5(
    run_cli: RunCli, tables: Callable[[str], Path]
) -> None:
    outcome = run_cli("check", str(tables("healthy")), "--layers", "lm_haed")
    assert outcome.status == 5
    assert "lm_head.weight" in outcome.err


def test_tables_of_flips_alone_can_be_checked(
    run_cli: RunCli, tables: Callable[[str], Path], tmp_path: Path
) -> None:
    part = tmp_path / "part"
    part.mkdir()
    shutil.copy(tables("faulty") / "flips.parquet", part)
    outcome = run_cli("check", str(part))
    assert outcome.status == 1
    assert "bit-stalled" in outcome.out
    assert "rank-drop" not in outcome.out


def test_the_api_says_what_the_command_says(tables: Callable[[str], Path]) -> None:
    outcome = ai.check(tables("faulty"), fail_on="critical")
    assert isinstance(outcome, ai.CheckOutcome)
    assert outcome.exit_code is ExitCode.FINDINGS
    assert outcome.was_read
    assert set(outcome.findings.column("severity").to_pylist()) == {"critical"}
    assert outcome.results.alerts is not None
    assert ai.check(tables("healthy")).exit_code is ExitCode.OK
    with pytest.raises(ConfigError, match="fail_on: 'fatal' is not known"):
        ai.check(tables("healthy"), fail_on="fatal")
    with pytest.raises(NothingMatchedError, match="zzz"):
        ai.check(tables("healthy"), layers=["zzz"])


def test_checking_tables_never_loads_torch(tables: Callable[[str], Path]) -> None:
    code = (
        "import sys; import altgrad_inspect as ai; ai.check(sys.argv[1]);"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tables("healthy"))],
        capture_output=True,
        check=True,
        cwd=SAMPLES.parent,
        text=True,
    )
    assert done.stdout == "False\n"
