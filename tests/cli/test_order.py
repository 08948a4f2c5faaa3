"""``--order``: on every command that takes a run, in a file and in the environment."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import RunCli

COMMANDS = ("ls", "flips", "rank", "trend", "report")


def names(out: str) -> list[str]:
    return [row["path"] for row in json.loads(out)["tables"]["checkpoints"]]


@pytest.mark.parametrize("command", COMMANDS)
def test_checkpoints_are_taken_as_given(run_cli: RunCli, tiny_run: Path, command: str) -> None:
    given = [str(tiny_run / f"checkpoint-{step}") for step in (30, 10, 20)]
    outcome = run_cli(command, *given, "--order", "given", "--format", "json")
    assert outcome.status == 0, outcome.err
    document = json.loads(outcome.out)
    assert document["settings"]["selection"]["order"] == "given"
    rows = document["tables"]["checkpoints"]
    assert [(row["step"], row["path"]) for row in rows] == [
        (0, "checkpoint-30"),
        (1, "checkpoint-10"),
        (2, "checkpoint-20"),
    ]


@pytest.mark.parametrize("command", ["sweep", "check"])
def test_the_other_commands_know_it_too(run_cli: RunCli, tiny_run: Path, command: str) -> None:
    outcome = run_cli(command, str(tiny_run), "--order", "given")
    assert outcome.status == 2
    assert "order: given needs checkpoints that are named one by one" in outcome.err


def test_the_environment_and_a_file_set_it(
    run_cli: RunCli, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("altgrad-inspect.toml").write_text('order = "name"\n')
    outcome = run_cli("ls", str(tiny_run), "--format", "json")
    rows = json.loads(outcome.out)["tables"]["checkpoints"]
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    monkeypatch.setenv("ALTGRAD_INSPECT_ORDER", "step")
    outcome = run_cli("ls", str(tiny_run), "--format", "json")
    assert json.loads(outcome.out)["tables"]["checkpoints"][0]["step"] == 10
    monkeypatch.setenv("ALTGRAD_INSPECT_ORDER", "mtime")
    outcome = run_cli("ls", str(tiny_run))
    assert outcome.status == 2
    assert "expected one of step, name, given" in outcome.err
