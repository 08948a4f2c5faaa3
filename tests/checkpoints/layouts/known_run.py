"""One small run, known to the last bit, that every layout has to give back."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

import altgrad_inspect as ai
from altgrad_inspect.tables.results import Results
from tests.checkpoints.runs_on_disk import write_weights

STEPS = (10, 20, 30)
QKV = "model.decoder.0.attn.qkv_proj.weight"
SHAPES: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
    "model.embed.weight": (torch.float32, (32, 8)),
    QKV: (torch.bfloat16, (24, 8)),
    "model.decoder.0.attn.o_proj.weight": (torch.bfloat16, (8, 16)),
    "model.decoder.0.mlp.experts.weight": (torch.float16, (4, 6, 8)),
    "model.decoder.0.norm.weight": (torch.float32, (8,)),
    "model.scale": (torch.float32, ()),
    "model.ragged.weight": (torch.float32, (7, 5)),
}
_PLACES = ("path", "layout", "size_bytes", "fingerprint")


def known_run() -> dict[int, dict[str, Tensor]]:
    """The weights at every step: a random start, and updates of all sizes."""
    generator = torch.Generator().manual_seed(5)
    run: dict[int, dict[str, Tensor]] = {}
    weights = {name: torch.randn(shape, generator=generator) for name, (_, shape) in SHAPES.items()}
    for step in STEPS:
        run[step] = {name: weights[name].to(dtype) for name, (dtype, _) in SHAPES.items()}
        for name, (_, shape) in SHAPES.items():
            weights[name] = weights[name] + 0.03 * torch.randn(shape, generator=generator)
    return run


def write_plain(root: Path, run: Mapping[int, Mapping[str, Tensor]], name: str = "step_{}") -> Path:
    for step, weights in run.items():
        write_weights(root / name.format(step) / "model.safetensors", weights)
    return root


def measure(target: Path | Sequence[Path], order: str = "step") -> Results:
    target = target if isinstance(target, Path) else list(target)
    return ai.report(target, quant=["e4m3", "int8:channel"], device="cpu", jobs=1, order=order)


def assert_same_tables(found: Results, expected: Results) -> None:
    """Require equal tables, but for where the checkpoints are."""
    assert found.tables.keys() == expected.tables.keys()
    for name, table in expected.tables.items():
        assert _without_places(found.tables[name]).equals(_without_places(table)), name
    assert expected.to_arrow("flips").num_rows > 2 * len(SHAPES)


def _without_places(table: pa.Table) -> pa.Table:
    return table.drop_columns([name for name in _PLACES if name in table.column_names])


def layout_names(results: Results) -> set[str]:
    return set(map(str, results.to_arrow("checkpoints").column("layout").to_pylist()))
