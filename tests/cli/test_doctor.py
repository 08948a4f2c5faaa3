"""The doctor: what is here, and whether it calculates."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from altgrad_inspect.cli import doctor, self_test
from altgrad_inspect.formats import IntFormat
from altgrad_inspect.metrics import spectrum
from altgrad_inspect.metrics.singular_values import SingularValues
from altgrad_inspect.quantize import grids
from altgrad_inspect.records import Undefined
from tests.cli.conftest import RunCli


def test_a_sound_installation_is_0(run_cli: RunCli) -> None:
    outcome = run_cli("doctor", "--format", "json")
    assert (outcome.status, outcome.err) == (0, "")
    document = json.loads(outcome.out)
    assert (document["schema_version"], document["passed"]) == (1, True)
    versions = {row["name"]: row["version"] for row in document["versions"]}
    assert versions["torch"] == torch.__version__.split("+")[0] or versions["torch"].startswith(
        torch.__version__.split("+")[0]
    )
    assert set(versions) >= {"python", "altgrad-inspect", "pandas", "pyarrow", "rich", "typer"}
    assert all(row["status"] == "ok" for row in document["versions"])
    cpu = document["devices"][0]
    assert (cpu["device"], cpu["cores"] >= 1, cpu["memory_bytes"] > 10**8) == ("cpu", True, True)
    assert [row["purpose"] for row in document["directories"]] == ["out", "temporary"]
    assert len(document["self_test"]) == 2 * len(document["devices"])
    assert not list(Path().iterdir())


@pytest.mark.parametrize("output_format", ["table", "md", "csv", "jsonl"])
def test_every_format_says_the_same(run_cli: RunCli, output_format: str) -> None:
    outcome = run_cli("doctor", "--format", output_format)
    assert outcome.status == 0
    assert "pyarrow" in outcome.out
    assert "\x1b" not in outcome.out
    if output_format == "csv":
        rows = list(csv.DictReader(io.StringIO(outcome.out)))
        assert {row["section"] for row in rows} >= {"versions", "devices", "self_test"}
    if output_format == "jsonl":
        tests = [json.loads(line) for line in outcome.out.splitlines()][-2:]
        assert [(row["test"], row["status"]) for row in tests] == [
            *(("encoding", "ok"), ("spectrum", "ok")),
        ]


def test_a_wrong_code_fails_the_self_test_with_3(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = grids._round_to_integers

    def truncate(scaled: torch.Tensor, fmt: IntFormat) -> torch.Tensor:
        return sound(scaled.trunc(), fmt)

    monkeypatch.setattr(grids, "_round_to_integers", truncate)
    outcome = run_cli("doctor", "--format", "json")
    assert outcome.status == 3
    document = json.loads(outcome.out)
    assert not document["passed"]
    failed = [row for row in document["self_test"] if row["status"] == "failed"]
    assert {row["test"] for row in failed} == {"encoding"}
    assert "int8: 1.5 became ordinal 1, expected 2" in failed[0]["detail"]
    assert "self test  failed" in run_cli("doctor").out


def test_a_wrong_spectrum_fails_the_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = spectrum._find_exact

    def blur(
        matrix: torch.Tensor, *, exponent: int, relative_threshold: float, compiled: bool
    ) -> tuple[SingularValues, int | None]:
        found, count = sound(
            matrix,
            exponent=exponent,
            relative_threshold=relative_threshold,
            compiled=compiled,
        )
        return replace(found, values=found.values * (1 + 1e-8)), count

    monkeypatch.setattr(spectrum, "_find_exact", blur)
    rows = {row.test: row for row in self_test.run_self_tests("cpu")}
    assert (rows["encoding"].status, rows["spectrum"].status) == ("ok", "failed")
    assert "stable_rank: 1.59863278" in rows["spectrum"].detail


def test_an_undefined_spectrum_fails_the_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectrum, "measure_spectrum", lambda _: Undefined(reason="gone"))
    (row,) = (row for row in self_test.run_self_tests("cpu") if row.test == "spectrum")
    assert (row.status, row.detail) == ("failed", "ArithmeticError: gone")


def test_a_device_that_is_not_there_fails_its_rows_and_nothing_else() -> None:
    rows = list(self_test.run_self_tests("cuda:99"))
    assert [row.status for row in rows] == ["failed", "failed"]
    assert all("\n" not in row.detail for row in rows)


def test_a_directory_that_cannot_be_written_is_said(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = run_cli("doctor", "--out", "file/deep", "--format", "json")
    row = json.loads(outcome.out)["directories"][0]
    assert (outcome.status, row["status"], row["path"]) == (0, "failed", "file/deep")
    assert row["reason"] == "Not a directory"


def test_what_is_not_installed_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_NEEDED", ("no-such-package-at-all",))
    rows = list(doctor._find_versions())
    assert rows[-1] == {"name": "no-such-package-at-all", "version": None, "status": "missing"}
    monkeypatch.setattr(doctor, "_PACKAGE", "no-such-package-at-all")
    assert list(doctor._find_extras()) == []


def test_extras_are_those_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PACKAGE", "hypothesis")
    rows = {row["name"]: row for row in doctor._find_extras()}
    assert rows["numpy"]["packages"] == "numpy"
    assert (rows["numpy"]["status"], rows["numpy"]["missing"]) == ("ok", None)
    assert (rows["django"]["status"], rows["django"]["missing"]) == ("missing", "django")


def test_nothing_of_the_environment_is_shown(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "very-secret-value")
    for output_format in ("json", "table"):
        assert "very-secret-value" not in run_cli("doctor", "--format", output_format).out
