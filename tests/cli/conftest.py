"""The command line, run in this process as `main` runs it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from safetensors.numpy import save_file

from altgrad_inspect.cli import app
from altgrad_inspect.cli.guard import run_guarded


class Outcome(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str


RunCli = Callable[..., Outcome]


@pytest.fixture
def run_cli(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RunCli:
    """Run the program in an empty directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "TERM", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

    def run(*args: str) -> Outcome:
        capfd.readouterr()
        status = run_guarded(app, args)
        return Outcome(status, *capfd.readouterr())

    return run


def write_run(directory: Path, *, num_checkpoints: int = 5, names: tuple[str, ...] = ()) -> Path:
    """Write checkpoints of a tiny model whose ``lm_head.weight`` loses rank."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((12, 16)).astype(np.float32)
    spike = np.outer(weight[:, 0], weight[0]).astype(np.float32)
    for index in range(num_checkpoints):
        folder = directory / f"checkpoint-{(index + 1) * 10}"
        folder.mkdir(parents=True)
        layers = {
            "lm_head.weight": weight + spike * (4.0 * max(0, index - 2)),
            "model.layers.0.mlp.up_proj.weight": weight * (1 + 0.01 * index),
            "model.layers.0.mlp.norm.weight": weight[0],
            "model.layers.1.mlp.up_proj.weight": np.zeros_like(weight),
            **dict.fromkeys(names, weight + 0.01 * index),
        }
        arrays = {name: np.ascontiguousarray(value) for name, value in layers.items()}
        save_file(
            {k: v.astype(np.float32) for k, v in arrays.items()}, folder / "model.safetensors"
        )
        (folder / "config.json").write_text("{}")
        (folder / "trainer_state.json").write_text("{}")
    return directory


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "tiny")
