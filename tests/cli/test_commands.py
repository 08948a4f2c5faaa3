"""Every command, as a user runs it: what goes to stdout, what to stderr, which files."""

import csv
import io
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import RunCli, write_run

TABLES = {
    "flips": {"checkpoints", "skipped", "flips"},
    "rank": {"checkpoints", "skipped", "ranks"},
    "trend": {"checkpoints", "skipped", "flips", "ranks", "trends", "alerts"},
    "report": {"checkpoints", "skipped", "flips", "ranks", "trends", "alerts"},
}
MAIN_TABLE = {"flips": "flips", "rank": "ranks", "trend": "trends", "report": "alerts"}
FORMATS = ("table", "json", "jsonl", "csv", "md")
BOX = re.compile("[\u2500-\u257f]")


def refuse_constant(name: str) -> float:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def assert_plain(text: str) -> None:
    assert "\x1b" not in text
    assert "…" not in text
    assert not BOX.search(text)


def count_rows(output_format: str, text: str, table: str) -> int:
    match output_format:
        case "json":
            return len(json.loads(text, parse_constant=refuse_constant)["tables"][table])
        case "jsonl":
            return len([json.loads(line) for line in text.splitlines()])
        case "csv":
            lines = list(csv.reader(io.StringIO(text)))
            assert len({len(line) for line in lines}) == 1
            return len(lines) - 1
        case _:
            raise AssertionError(output_format)


@pytest.mark.parametrize("command", TABLES)
def test_a_command_writes_its_tables_and_a_report_of_them(
    run_cli: RunCli, tiny_run: Path, command: str
) -> None:
    outcome = run_cli(command, str(tiny_run))
    assert outcome.status == 0
    assert outcome.out.startswith(f"altgrad-inspect {command}  {tiny_run}\n")
    written = {path.name for path in Path("altgrad-report").iterdir()}
    expected = {f"{name}.parquet" for name in TABLES[command]}
    assert expected <= written
    assert ("report.json" in written) == (command == "report")
    assert outcome.err.startswith("wrote ")
    assert outcome.err.count("\n") == 1
    assert all(name in outcome.err for name in expected)
    if command == "report":
        document = json.loads(Path("altgrad-report/report.json").read_text())
        assert TABLES["report"] <= document["tables"].keys()


@pytest.mark.parametrize("command", TABLES)
@pytest.mark.parametrize("output_format", ["json", "jsonl", "csv"])
def test_data_on_stdout_parses_and_is_the_main_table(
    run_cli: RunCli, tiny_run: Path, command: str, output_format: str
) -> None:
    outcome = run_cli(command, str(tiny_run), "--format", output_format)
    assert outcome.status == 0
    file = f"altgrad-report/{MAIN_TABLE[command]}.parquet"
    num_rows = pq.read_metadata(file).num_rows
    assert count_rows(output_format, outcome.out, MAIN_TABLE[command]) == num_rows > 0


@pytest.mark.parametrize("command", ["ls", "flips", "rank", "trend", "report", "formats"])
@pytest.mark.parametrize("output_format", FORMATS)
def test_piped_output_is_plain_and_quiet_is_silent(
    run_cli: RunCli, tiny_run: Path, command: str, output_format: str
) -> None:
    args = [] if command == "formats" else [str(tiny_run)]
    outcome = run_cli(command, *args, "--format", output_format, "-q")
    assert outcome.status == 0
    assert outcome.err == ""
    assert outcome.out.endswith("\n")
    assert_plain(outcome.out)


@pytest.mark.parametrize("mode", ["table", "md"])
def test_markdown_and_table_say_the_same_about_the_falling_layer(
    run_cli: RunCli, tiny_run: Path, mode: str
) -> None:
    outcome = run_cli("report", str(tiny_run), "--format", mode, "--tables", "flips")
    attention = outcome.out.partition("Needs attention")[2]
    assert attention.index("lm_head.weight") < attention.index("Flips per layer")


def test_the_directory_of_the_tables_can_be_named_instead_of_the_run(
    run_cli: RunCli, tiny_run: Path
) -> None:
    first = run_cli("report", str(tiny_run), "--out", "one")
    again = run_cli("trend", "one", "--out", "two", "--threshold", "0.3", "-q")
    assert (first.status, again.status) == (0, 0)
    assert Path("one/trends.parquet").read_bytes() != b""
    assert "lm_head.weight" in again.out


@pytest.mark.parametrize("command", ["trend", "report"])
def test_settings_of_trends_are_passed_on(run_cli: RunCli, tiny_run: Path, command: str) -> None:
    args = ("--alpha", "0.5", "--warmup", "2", "--threshold", "0.4", "--critical", "up_proj")
    outcome = run_cli(command, str(tiny_run), *args, "--half-life", "20", "--format", "json")
    settings = json.loads(outcome.out)["settings"]["trends"]
    assert settings["alpha"] == 0.5
    assert settings["half_life_steps"] == 20
    assert settings["warmup_checkpoints"] == 2
    assert settings["rank_drop_threshold"] == 0.4
    assert settings["critical_layers"] == ["up_proj"]


def test_the_selection_and_quantizers_are_passed_on(run_cli: RunCli, tiny_run: Path) -> None:
    outcome = run_cli(
        *("flips", str(tiny_run), "--layers", "lm_head", "--layers", "norm", "--exclude", "norm"),
        *("--steps", "20:50", "--last", "3", "--quant", "e4m3", "--quant", "int8:channel"),
        *("--device", "cpu", "--jobs", "1", "--format", "jsonl"),
    )
    rows = [json.loads(line) for line in outcome.out.splitlines()]
    assert {row["layer"] for row in rows} == {"lm_head.weight"}
    assert [(row["step_from"], row["step_to"]) for row in rows] == [(30, 40), (40, 50)] * 2
    assert len({row["quantizer"] for row in rows}) == 2


@pytest.mark.parametrize("command", ["ls", *TABLES])
def test_every_command_has_the_same_selection(
    run_cli: RunCli, tiny_run: Path, command: str
) -> None:
    outcome = run_cli(
        *(command, str(tiny_run), "--layers", "weight", "--layers", "lm_head", "--exclude", "norm"),
        *("--steps", "20:", "--last", "3", "--format", "json"),
    )
    assert json.loads(outcome.out)["settings"]["selection"] == {
        "layers": ["weight", "lm_head"],
        "exclude": ["norm"],
        "steps": "20:",
        "last": 3,
        "order": "step",
        "adapters": "stored",
    }


@pytest.mark.parametrize("command", ["flips", "trend", "report"])
def test_every_command_that_quantizes_has_the_same_quantizers(
    run_cli: RunCli, tiny_run: Path, command: str
) -> None:
    outcome = run_cli(
        *(command, str(tiny_run), "--quant", "e5m2", "--quant", "int8", "--format", "json")
    )
    quantizers = json.loads(outcome.out)["settings"]["quantizers"]
    assert [text.partition(":")[0] for text in quantizers] == ["e5m2", "int8"]


@pytest.mark.parametrize("command", ["rank", "report"])
def test_singular_values_are_kept_on_request(run_cli: RunCli, tiny_run: Path, command: str) -> None:
    for flags, is_kept in (((), False), (("--spectra",), True)):
        outcome = run_cli(command, str(tiny_run), *flags, "--format", "json")
        row = json.loads(outcome.out)["tables"]["ranks"][0]
        assert (row["singular_values"] is not None) == is_kept


def test_the_current_directory_is_the_run_if_none_is_named(
    run_cli: RunCli, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tiny_run)
    outcome = run_cli("rank", "--layers", "lm_head", "--out", str(tmp_path / "out"))
    assert outcome.status == 0
    assert "lm_head.weight" in outcome.out


def test_several_checkpoints_can_be_named(run_cli: RunCli, tiny_run: Path) -> None:
    paths = [str(tiny_run / f"checkpoint-{step}") for step in (10, 30)]
    outcome = run_cli("flips", *paths, "--format", "jsonl")
    assert {json.loads(line)["step_from"] for line in outcome.out.splitlines()} == {10}


def test_ls_lists_checkpoints_and_layers_and_writes_nothing(
    run_cli: RunCli, tiny_run: Path
) -> None:
    outcome = run_cli("ls", str(tiny_run), "--layers", "mlp")
    assert outcome.status == 0
    assert outcome.err == ""
    assert "checkpoint-50" in outcome.out
    assert "model.layers.0.mlp.norm.weight" in outcome.out
    assert not list(Path().iterdir())
    document = json.loads(run_cli("ls", str(tiny_run), "--format", "json").out)
    assert len(document["tables"]["checkpoints"]) == 5
    assert len(document["tables"]["layers"]) == 4


def test_a_plan_is_a_table_or_data(run_cli: RunCli, tiny_run: Path) -> None:
    table = run_cli("ls", str(tiny_run), "--plan").out
    assert [line.split()[0] for line in table.split("Plan\n")[1].splitlines()[1:4]] == [
        *("flips", "rank", "report"),
    ]
    plan = json.loads(run_cli("ls", str(tiny_run), "--plan", "--format", "json").out)
    assert plan["num_layers"] == 4
    (row,) = csv.DictReader(
        io.StringIO(run_cli("ls", str(tiny_run), "--plan", "--format", "csv").out)
    )
    assert row["num_transitions"] == "4"
    assert "| flips |" in run_cli("ls", str(tiny_run), "--plan", "--format", "md").out


def test_formats_are_listed_with_exact_limits(run_cli: RunCli) -> None:
    rows = [json.loads(line) for line in run_cli("formats", "--format", "jsonl").out.splitlines()]
    by_name = {row["name"]: row for row in rows}
    assert by_name["float8_e4m3fn"]["max"] == 448
    assert {row["kind"] for row in rows} == {"format", "recipe", "scheme"}
    assert by_name["mxfp8"]["granularity"] == "group=32"
    assert by_name["te-delayed"]["is_approximate"] is True
    assert "weight_scale_inv" in by_name["block-fp8"]["summary"]
    assert by_name["float8_e5m2"]["max"] == 57344
    assert by_name["float8_e8m0fnu"]["specials"] is None
    assert all(row["source"] for row in rows)
    assert "57344" in run_cli("formats", "e5m2").out
    assert json.loads(run_cli("formats", "int8", "--format", "json").out)["formats"][0]["bits"] == 8
    listed = run_cli("formats", "int8", "--format", "csv").out.splitlines()
    assert listed[1].startswith("format,int8,8,")


def test_one_of_any_kind_is_shown_in_full(run_cli: RunCli) -> None:
    shown = run_cli("formats", "NF4", "block-fp8").out
    assert "Format nf4" in shown
    assert "Recipe nf4" in shown
    assert "Scheme block-fp8" in shown
    assert "ties to the lower one" in shown
    assert "--master-cast bf16" in shown  # what to know before it is taken for the run's own
    found = json.loads(run_cli("formats", "mxfp4", "--format", "json").out)
    assert found["formats"] == []
    assert [row["name"] for row in found["schemes"]] == ["mxfp4"]  # it is both
    assert found["recipes"][0]["rule"] == "mx-floor"
    assert "cannot be told" not in shown
    assert "what the stack does cannot be told" in run_cli("formats", "te-delayed").out


def test_a_misspelt_name_gets_the_closest_of_all_kinds(run_cli: RunCli) -> None:
    for wrong, close in (("mxpf8", "mxfp8"), ("blok-fp8", "block-fp8"), ("float8_e4m3x", "e4m3")):
        outcome = run_cli("formats", wrong)
        assert outcome.status == 2
        assert (
            f"{wrong} is not known, expected a number format, a recipe or a storage" in outcome.err
        )
        assert close in outcome.err.partition("closest:")[2]
    assert "is not a format of 2 to 16 bits" in run_cli("formats", "e20m3").err


def test_a_recipe_and_a_cast_are_named_in_the_tables(run_cli: RunCli, tiny_run: Path) -> None:
    outcome = run_cli(
        "flips",
        str(tiny_run),
        "--quant",
        "mxfp8",
        "--quant",
        "e4m3@none",
        "--quant",
        "e5m2",
        "--master-cast",
        "bf16",
        "--format",
        "jsonl",
    )
    names = {json.loads(line)["quantizer"] for line in outcome.out.splitlines()}
    assert names == {"mxfp8@bf16", "e4m3:tensor:amax", "e5m2:tensor:amax@bf16"}
    for command in ("report", "trend", "check", "sweep"):
        outcome = run_cli(command, str(tiny_run), "--quant", "mxfp8", "--master-cast", "bf16")
        assert outcome.status in {0, 1}, outcome.err
    for command in ("flips", "sweep"):
        noted = run_cli(command, str(tiny_run), "--quant", "te-delayed", "--quant", "nf4@bf16")
        assert "te-delayed is approximate" in noted.out + noted.err
        assert "nf4 is approximate" not in noted.out + noted.err
    wrong = run_cli("flips", str(tiny_run), "--master-cast", "fp16")
    assert wrong.status == 2
    assert "master-cast: fp16 is not known, expected none or bf16" in wrong.err


def test_the_demo_reports_on_both_runs_and_ends_with_commands_that_work(run_cli: RunCli) -> None:
    outcome = run_cli("demo")
    assert outcome.status == 0
    assert outcome.out.count("altgrad-inspect report  ") == 2
    assert Path("altgrad-demo/faulty/report.json").exists()
    assert outcome.err.count("wrote ") == 2
    assert_plain(outcome.out)
    steps = [line.split() for line in outcome.out.splitlines()[-10:] if "altgrad-inspect " in line]
    assert len(steps) == 6
    for step in (steps[0], steps[3][: steps[3].index("#")]):
        assert run_cli(*step[1:], "-q").status == 0, step


def test_verbose_shows_every_row_and_a_line_per_tenth(run_cli: RunCli, tiny_run: Path) -> None:
    quiet = run_cli("flips", str(tiny_run))
    verbose = run_cli("flips", str(tiny_run), "-v")
    assert "Flips per transition" not in quiet.out
    assert "Flips per transition" in verbose.out
    assert "100 %: 4 of 4 layers done\n" in verbose.err
    assert "% " not in quiet.err


def test_notes_go_to_stderr_where_stdout_is_data(run_cli: RunCli, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "checkpoint-30" / "trainer_state.json").unlink()
    for output_format in ("json", "csv"):
        outcome = run_cli("ls", str(run), "--format", output_format)
        document = run_cli("ls", str(run), "--format", "json")
        assert outcome.err.count("note: ") == len(json.loads(document.out)["notes"])
        assert "note:" not in outcome.out


def test_the_same_command_writes_the_same_bytes(run_cli: RunCli, tiny_run: Path) -> None:
    for out in ("a", "b"):
        run_cli("report", str(tiny_run), "--out", out, "--jobs", "1" if out == "a" else "3")
    for path in Path("a").iterdir():
        assert path.read_bytes() == Path("b", path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ("names", "titles"),
    [
        (None, []),
        ("none", []),
        ("ranks, flips", ["Flips per layer", "Stable and effective rank per layer"]),
        ("verdicts", ["Verdicts"]),
        (
            "all",
            ["Verdicts", "Flips per layer", "Stable and effective rank per layer", "Trends"],
        ),
    ],
)
def test_a_report_prints_the_tables_that_are_asked_for(
    run_cli: RunCli, tiny_run: Path, names: str | None, titles: list[str]
) -> None:
    args = () if names is None else ("--tables", names)
    lines = run_cli("report", str(tiny_run), *args).out.splitlines()
    every = ("Verdicts", "Flips per layer", "Stable and effective rank per layer", "Trends")
    assert [line for line in lines if line in every] == titles
    assert any(line.startswith("more: --tables ") for line in lines) == (names is None)


def test_a_table_that_cannot_be_printed_is_said_with_the_closest(run_cli: RunCli) -> None:
    outcome = run_cli("report", "--tables", "flips,rank")
    assert outcome.status == 2
    assert outcome.err == (
        "altgrad-inspect: error: --tables rank: cannot be printed, expected all, none or any of "
        "verdicts, flips, ranks, trends (did you mean ranks?)\n"
    )
    assert "(all tables are in --out)" in run_cli("report", "--tables", "xyz").err


def test_the_device_is_said_and_changes_no_file(run_cli: RunCli, tiny_run: Path) -> None:
    outcome = run_cli("report", str(tiny_run), "--device", "cpu", "--out", "one")
    assert "\n  device       cpu\n" in outcome.out
    assert b'"device"' not in Path("one/ranks.parquet").read_bytes()
