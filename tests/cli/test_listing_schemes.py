"""``ls`` says how layers are stored and what gave it away."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch

from tests.checkpoints.schemes.stored_layers import store
from tests.cli.conftest import RunCli
from tests.cli.test_terminal import SEQUENCE, run_on_terminal


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A layer that is plain at first, one that never is, and one that always is."""
    codes = torch.ones(4, 64, dtype=torch.int8)
    for step in range(3):
        tensors = {
            "model.layers.0.q_proj.weight._data": codes,
            "model.layers.0.q_proj.weight._scale": torch.ones(4, 1),
            "model.norm.weight": torch.ones(4),
        }
        if step:
            tensors |= {"lm_head.weight": codes, "lm_head.scale": torch.ones(4, 1)}
        else:
            tensors |= {"lm_head.weight": torch.ones(4, 64)}
        store(tmp_path / "run" / f"checkpoint-{step}", tensors)
    return tmp_path / "run"


def test_as_data(run_cli: RunCli, run: Path) -> None:
    document = json.loads(run_cli("ls", str(run), "--format", "json").out)
    layers = {row["layer"]: row for row in document["tables"]["layers"]}
    told = {name: (row["scheme"], row["recognised_by"]) for name, row in layers.items()}
    assert told == {
        "lm_head.weight": ("plain, generic", "I8 beside scale"),
        "model.layers.0.q_proj.weight": ("quanto", "names and dtypes"),
        "model.norm.weight": ("plain", None),
    }
    rows = csv.DictReader(io.StringIO(run_cli("ls", str(run), "--format", "csv").out))
    assert [(row["layout"], row["scheme"]) for row in rows] == [
        ("trainer", "quanto"),
        ("trainer", "generic, quanto"),
        ("trainer", "generic, quanto"),
    ]


@pytest.mark.parametrize("columns", [80, 160])
def test_on_a_terminal(run: Path, tmp_path: Path, columns: int) -> None:
    out, _ = run_on_terminal("ls", str(run), cwd=tmp_path, environment={"COLUMNS": str(columns)})
    lines = SEQUENCE.sub("", out).splitlines()
    listing = lines[lines.index("Layers") :]
    head, q_proj = listing[1], next(line for line in listing if "q_proj" in line)
    assert "scheme" in head
    assert "quanto" in q_proj
    assert ("recognised by" in head, "names and dtypes" in q_proj) == (columns == 160,) * 2
    assert ("no room for" in out) == (columns == 80)
    assert max(map(len, lines[1:])) <= columns
