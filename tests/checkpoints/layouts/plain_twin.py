"""The same run as plain files: whatever the layout, the tables must be the same."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import altgrad_inspect as ai
from tests.checkpoints.runs_on_disk import write_weights

Run = Mapping[int, Mapping[str, Tensor]]
"""Step -> layer name -> weights."""


def train(shapes: Mapping[str, Sequence[int]], steps: Sequence[int], *, seed: int = 0) -> Run:
    """Weights that move a little at every step."""
    generator = torch.Generator().manual_seed(seed)
    now = {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}
    run = {}
    for step in steps:
        run[step] = dict(now)
        now = {
            name: weights + 0.05 * torch.randn(weights.shape, generator=generator)
            for name, weights in now.items()
        }
    return run


def assert_same_as_plain(found: object, run: Run, directory: Path, **options: Any) -> None:
    """Compare the report on ``found`` with that on ``run`` as flat files in ``directory``."""
    for step, layers in run.items():
        write_weights(directory / f"step_{step}.safetensors", layers)
    assert isinstance(found, Path | str)
    reports = [
        ai.report(target, quant=["auto", "int8:channel"], **options)
        for target in (found, directory)
    ]
    for table in ("flips", "ranks", "trends", "alerts", "verdicts", "skipped"):
        one, other = (report.to_arrow(table) for report in reports)
        assert one.equals(other), table
        assert one.num_rows > 0 or table in {"alerts", "skipped"}
    one, other = (
        report.to_arrow("checkpoints").select(["step", "num_layers", "num_weights", "status"])
        for report in reports
    )
    assert one.equals(other)
