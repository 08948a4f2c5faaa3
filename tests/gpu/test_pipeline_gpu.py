"""Copies beside computation on a CUDA device: the same tables with any number of workers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import altgrad_inspect as ai
from altgrad_inspect.engine.lanes import Lanes
from altgrad_inspect.engine.placement import ON_CPU
from altgrad_inspect.metrics.singular_values import find_by_gram
from altgrad_inspect.metrics.solver_place import LEAST_COLUMNS_ON_GPU

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Layers on both sides of every limit: bundled, read ahead, announced."""
    generator = torch.Generator().manual_seed(0)
    weights = {f"small{index}": torch.randn(16, 24, generator=generator) for index in range(70)}
    weights |= {f"medium{index}": torch.randn(512, 300, generator=generator) for index in range(4)}
    weights |= {f"large{index}": torch.randn(3000, 1100, generator=generator) for index in range(2)}
    for step in range(4):
        save_file(weights, tmp_path / f"step_{step}.safetensors")
        for name, weight in weights.items():
            weights[name] = weight + 1e-3 * torch.randn(weight.shape, generator=generator)
    return tmp_path


ASKS: dict[str, Callable[..., ai.Results]] = {
    "report": ai.report,
    "updates": lambda run, **options: ai.rank(run, updates=True, **options),
    "sweep": lambda run, **options: ai.sweep(run, quant=["e4m3", "int4"], **options),
}


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_tables_do_not_depend_on_the_number_of_workers(
    run: Path, ask: Callable[..., ai.Results]
) -> None:
    one = ask(run, device="cuda", jobs=1)
    for jobs in (2, 6):
        other = ask(run, device="cuda", jobs=jobs)
        for name, table in one.tables.items():
            assert table.equals(other.tables[name]), name


def test_a_copy_has_ended_when_its_block_has_and_runs_beside_a_computation() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    lanes = Lanes(device)
    source = torch.arange(1 << 24, dtype=torch.int32).pin_memory()
    target = torch.zeros(1 << 24, dtype=torch.int32, device=device)
    torch.cuda.synchronize()
    streams = []
    with lanes.computing():
        streams.append(torch.cuda.current_stream())
        torch.cuda._sleep(1 << 30)  # type: ignore[no-untyped-call]  # keeps the stream busy
        with lanes.copying():
            streams.append(torch.cuda.current_stream())
            target.copy_(source, non_blocking=True)
        assert not streams[0].query(), "the copy waited for the computation"
        assert streams[1].query()
    assert streams[0].query()
    assert torch.equal(target.cpu(), source)


@pytest.mark.parametrize("num_columns", [LEAST_COLUMNS_ON_GPU - 1, LEAST_COLUMNS_ON_GPU])
def test_values_agree_on_both_sides_of_the_solvers_limit(num_columns: int) -> None:
    matrix = torch.randn(1500, num_columns, generator=torch.Generator().manual_seed(3))
    on_cpu, on_gpu = find_by_gram(matrix, exponent=0), find_by_gram(matrix.cuda(), exponent=0)
    assert on_cpu is not None
    assert on_gpu is not None
    assert on_gpu.values.device.type == "cpu"
    torch.testing.assert_close(on_gpu.values, on_cpu.values, rtol=1e-12, atol=1e-12)


@contextmanager
def little_memory(num_bytes: float) -> Iterator[None]:
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(num_bytes / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("name", ["sweep", "updates"])
def test_a_full_gpu_gives_the_same_sweep_and_updates(tmp_path: Path, name: str) -> None:
    """Room for the weights, but not for codes and tiles, nor for the difference in float64."""
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(40_000, 1024, generator=generator)
    for step in range(2):
        weight = base + 1e-3 * step * torch.randn(40_000, 1024, generator=generator)
        save_file({"layer.weight": weight}, tmp_path / f"step_{step}.safetensors")
    table = {"sweep": "sweep_layers", "updates": "ranks"}[name]
    expected = ASKS[name](tmp_path, device="cpu", jobs=1).to_arrow(table).to_pylist()
    with little_memory(0.36e9):
        found = ASKS[name](tmp_path, device="cuda", jobs=1).to_arrow(table).to_pylist()
    assert [row["status"] for row in found] == ["ok"] * len(expected)
    assert ON_CPU in {row["reason"] for row in found}
    for before, after in zip(expected, found, strict=True):
        assert_close(before, after)


def assert_close(before: dict[str, Any], after: dict[str, Any]) -> None:
    for name, value in before.items():
        if name == "reason":
            continue
        if isinstance(value, float) and not name.endswith("_error"):
            assert after[name] == pytest.approx(value, rel=1e-9), name
        elif not name.endswith("_error"):
            assert after[name] == value, name
