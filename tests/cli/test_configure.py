"""Every command is configured in one place: flag over environment over file over default."""

import csv
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import pytest
from typer import Argument
from typer.main import get_command

from altgrad_inspect.cli import app
from altgrad_inspect.cli.configure import Program, find_trend_settings
from altgrad_inspect.cli.guard import run_guarded
from altgrad_inspect.config import SETTINGS
from altgrad_inspect.settings import DEFAULT_CRITICAL_LAYERS, TrendSettings
from tests.cli.conftest import Outcome, RunCli

COMMANDS = tuple(
    sorted(str(command.name) for command in app.registered_commands if command.name != "demo")
)


def read_settings(outcome: Outcome) -> dict[str, dict[str, Any]]:
    assert outcome.status == 0, outcome.err
    document = json.loads(outcome.out)
    return {row["key"]: row for row in document["settings"]}


@contextmanager
def configured(
    monkeypatch: pytest.MonkeyPatch, *, text: str, variables: dict[str, str]
) -> Iterator[None]:
    Path("altgrad-inspect.toml").write_text(text)
    with monkeypatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


# key, default, and as (text, value) in a file, a variable and a flag
MATRIX: list[tuple[str, Any, tuple[str, Any], tuple[str, Any], tuple[list[str], Any]]] = [
    ("jobs", None, ("2", 2), ("3", 3), (["--jobs", "4"], 4)),
    ("alpha", 0.3, ("0.5", 0.5), ("0.6", 0.6), (["--alpha", "0.7"], 0.7)),
    ("half-life", None, ("50", 50.0), ("60", 60.0), (["--half-life", "70"], 70.0)),
    ("steps", None, ('"1:2"', "1:2"), ("2:3", "2:3"), (["--steps", "3:4"], "3:4")),
    ("device", "auto", ('"cpu"', "cpu"), ("cuda", "cuda"), (["--device", "cuda:1"], "cuda:1")),
    ("out", "altgrad-report", ('"a"', "a"), ("b", "b"), (["--out", "c"], "c")),
    ("spectra", False, ("true", True), ("off", False), (["--spectra"], True)),
    (
        *("layers", [], ('["a", "b"]', ["a", "b"]), ("c,d", ["c", "d"])),
        (["--layers", "e", "--layers", "f"], ["e", "f"]),
    ),
    ("run", ["."], ('"x"', ["x"]), ("y", ["y"]), (["z", "zz"], ["z", "zz"])),
    ("color", "auto", ('"never"', "never"), ("always", "always"), (["--color", "auto"], "auto")),
    ("quiet", False, ("true", True), ("false", False), (["-q"], True)),
    ("verbose", 0, ("1", 1), ("2", 2), (["-vvv"], 3)),
]


@pytest.mark.parametrize("case", MATRIX, ids=[case[0] for case in MATRIX])
def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, case: Any
) -> None:
    key, default, (in_file, file_value), (in_variable, variable_value), (flags, flag_value) = case
    variable = SETTINGS[key].variable
    for has_file, has_variable, has_flag in product((False, True), repeat=3):
        text = f"# settings\n{key} = {in_file}\n" if has_file else ""
        variables = {variable: in_variable} if has_variable else {}
        with configured(monkeypatch, text=text, variables=variables):
            arguments = flags if has_flag else []
            row = read_settings(
                run_cli("report", *arguments, "--show-settings", "--format", "json")
            )[key]
        expected: tuple[Any, str, str | None] = (default, "default", None)
        if has_file:
            expected = (file_value, "file", "altgrad-inspect.toml:2")
        if has_variable:
            expected = (variable_value, "environment", variable)
        if has_flag:
            expected = (flag_value, "flag", key if key == "run" else f"--{key}")
        assert (row["value"], row["source"], row["origin"]) == expected
        assert row["default"] == default


def test_what_is_configured_is_what_is_done(
    run_cli: RunCli, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        f'run = "{tiny_run}"\nlayers = ["lm_head"]\nquant = ["int8", "e5m2"]\nlast = 4\n'
        'format = "json"\nout = "tables"\nquiet = true\njobs = 1\nalpha = 0.5\ncritical = []\n'
        "half-life = 100\nwarmup = 2\ntrained-layers = ['mlp']\n"
        "[rules]\nwarmup-fraction = 0.25\n"
    )
    variables = {"ALTGRAD_INSPECT_QUANT": "e4m3", "ALTGRAD_INSPECT_RULES_WARMUP_FRACTION": "0.3"}
    with configured(monkeypatch, text=text, variables=variables):
        outcome = run_cli("report", "--threshold", "0.4")
    assert (outcome.status, outcome.err) == (0, "")
    document = json.loads(outcome.out)
    assert document["settings"]["quantizers"] == ["e4m3:tensor:amax"]
    assert document["settings"]["selection"]["last"] == 4
    assert {row["layer"] for row in document["tables"]["ranks"]} == {"lm_head.weight"}
    trends = document["settings"]["trends"]
    assert trends["critical_layers"] == []
    assert trends["trained_layers"] == ["mlp"]
    assert (trends["half_life_steps"], trends["warmup_checkpoints"]) == (100, 2)
    assert (trends["warmup_fraction"], trends["rank_drop_threshold"]) == (0.3, 0.4)
    assert Path("tables/flips.parquet").exists()


@pytest.mark.parametrize("command", ["trend", "report", "check"])
def test_flags_about_layers_win_over_configured_ones(
    run_cli: RunCli, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    text = 'critical = ["a"]\ntrained-layers = ["b"]\n'
    flags = ("--critical", "c", "--trained-layers", "d")
    with configured(monkeypatch, text=text, variables={}):
        for arguments, expected in (((), (["a"], ["b"])), (flags, (["c"], ["d"]))):
            outcome = run_cli(command, str(tiny_run), *arguments, "--format", "json")
            trends = json.loads(outcome.out)["settings"]["trends"]
            assert (trends["critical_layers"], trends["trained_layers"]) == expected


@pytest.mark.parametrize("command", ["trend", "report", "check"])
def test_an_empty_list_in_a_file_is_not_the_default(
    run_cli: RunCli, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    for text, expected in (("", list(DEFAULT_CRITICAL_LAYERS)), ("critical = []", [])):
        with configured(monkeypatch, text=text, variables={}):
            outcome = run_cli(command, str(tiny_run), "--format", "json")
        assert json.loads(outcome.out)["settings"]["trends"]["critical_layers"] == expected


def test_every_setting_of_the_rules_reaches_the_rules(
    run_cli: RunCli, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = [one for one in SETTINGS.values() if one.is_rule]
    changed = {
        one.field: type(one.default)(
            one.default * 0.9 if one.default < 1 else one.default + 1  # type: ignore[operator,call-arg]
        )
        for one in rules
    }
    lines = "".join(f"{name} = {value}\n" for name, value in changed.items())
    with configured(monkeypatch, text=f"[rules]\n{lines}", variables={}):
        outcome = run_cli("trend", str(tiny_run), "--format", "json")
    trends = json.loads(outcome.out)["settings"]["trends"]
    assert {name: trends[name] for name in changed} == changed


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_configured_and_says_so(run_cli: RunCli, command: str) -> None:
    text = run_cli(command, "--help").out
    for flag in ("--config FILE", "--isolated", "--show-settings"):
        assert flag in text


def test_every_setting_has_a_flag_or_is_a_rule(run_cli: RunCli) -> None:
    texts = "\n".join(run_cli(command, "--help").out for command in COMMANDS)
    for key, setting in SETTINGS.items():
        if key != "run":
            assert (f"--{key} " in texts or f"--{key}\n" in texts) != setting.is_rule, key
            assert f"--{key.removeprefix('rules.')} " not in texts or not setting.is_rule, key


@pytest.mark.parametrize("output_format", ["json", "jsonl", "csv", "table", "md"])
def test_all_settings_are_shown_in_every_format(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, output_format: str
) -> None:
    with configured(monkeypatch, text="[rules]\nwarmup-fraction = 0.25\n", variables={}):
        outcome = run_cli("ls", "--show-settings", "--format", output_format)
    assert (outcome.status, outcome.err) == (0, "")
    match output_format:
        case "json":
            document = json.loads(outcome.out)
            rows = document["settings"]
            assert document["file"].endswith("altgrad-inspect.toml")
        case "jsonl":
            rows = [json.loads(line) for line in outcome.out.splitlines()]
        case "csv":
            rows = list(csv.DictReader(io.StringIO(outcome.out)))
        case _:
            rows = [{"key": key} for key in SETTINGS if key in outcome.out]
            assert "altgrad-inspect.toml:2" in outcome.out
    assert [row["key"] for row in rows] == list(SETTINGS)


def test_isolated_ignores_files_and_environment(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with configured(monkeypatch, text="broken", variables={"ALTGRAD_INSPECT_JOBS": "x"}):
        outcome = run_cli("ls", "--isolated", "--show-settings", "--format", "json")
        rows = read_settings(outcome)
    assert {row["source"] for key, row in rows.items() if key != "format"} == {"default"}
    assert json.loads(outcome.out)["file"] is None


def test_a_named_file_replaces_the_one_that_is_found(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("other.toml").write_text("jobs = 9\n")
    with configured(monkeypatch, text="jobs = 2\nlast = 3\n", variables={}):
        rows = read_settings(
            run_cli("ls", "--config", "other.toml", "--show-settings", "--format", "json")
        )
    assert (rows["jobs"]["value"], rows["jobs"]["origin"]) == (9, "other.toml:1")
    assert rows["last"]["source"] == "default"


def test_the_nearest_file_wins_and_its_run_is_beside_it(
    run_cli: RunCli, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "altgrad-inspect.toml").write_text("jobs = 1\nlast = 1\n")
    inner = tmp_path / "inner"
    (inner / "deep").mkdir(parents=True)
    (inner / "pyproject.toml").write_text(
        f'[tool.altgrad-inspect]\nrun = "{os.path.relpath(tiny_run, inner)}"\n'
    )
    monkeypatch.chdir(inner / "deep")
    rows = read_settings(run_cli("ls", "--show-settings", "--format", "json"))
    assert rows["last"]["source"] == "default"
    document = json.loads(run_cli("ls", "--format", "json").out)
    assert len(document["tables"]["checkpoints"]) == 5


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_file_is_one_line_and_2_for_every_command(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    with configured(monkeypatch, text="jobs = 1\n\nlayer = 2\n", variables={}):
        outcome = run_cli(command, "x", "x") if command != "doctor" else run_cli(command)
        assert (outcome.status, outcome.out) == (2, "")
        said = "altgrad-inspect: error: altgrad-inspect.toml:3: layer: is not a setting, expected"
        assert outcome.err == f"{said} one like layers (correct it)\n"
        assert run_cli(command, "--help").status == 0


def test_a_wrong_variable_is_json_where_json_was_asked_for(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with configured(monkeypatch, text="", variables={"ALTGRAD_INSPECT_JOBS": "many"}):
        outcome = run_cli("ls", "--format", "json")
    error = json.loads(outcome.err)["error"]
    assert (outcome.status, error["code"], error["kind"]) == (2, 2, "ConfigError")
    assert error["message"].startswith("ALTGRAD_INSPECT_JOBS: ")


def test_the_configured_directory_of_the_tables_is_not_that_of_the_demo() -> None:
    group = get_command(app)
    keys = {name: group.commands[name]._find_keys() for name in ("demo", "report", "ls")}  # type: ignore[attr-defined]
    assert "out" not in keys["demo"]
    assert keys["demo"]["jobs"] == "jobs"
    assert (keys["report"]["out"], keys["report"]["format"]) == ("out", "output_format")
    assert keys["ls"]["run"] == "run"


def test_an_argument_that_is_called_like_a_key_is_not_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("altgrad-inspect.toml").write_text("out = 'configured'\nrun = 'mine'\n")
    program = Program()

    @program.command()
    def show(run: Annotated[list[str], Argument()], out: Annotated[str, Argument()] = "x") -> None:
        print(run, out)  # noqa: T201

    assert run_guarded(program, []) == 0
    assert capsys.readouterr().out == "['mine'] x\n"


def test_outside_of_a_command_settings_are_the_defaults() -> None:
    import contextvars

    assert contextvars.Context().run(find_trend_settings) == TrendSettings()
