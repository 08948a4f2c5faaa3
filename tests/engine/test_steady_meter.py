"""Where a GPU's memory ends, the same counts come from the CPU, and the row says so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import altgrad_inspect as ai
from altgrad_inspect.engine.placement import ON_CPU
from altgrad_inspect.engine.steady_meter import SteadyMeter
from altgrad_inspect.metrics.flips import FlipMeter
from altgrad_inspect.quantize.spec import parse_quantizer

E4M3 = parse_quantizer("e4m3")


def make_weights(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(20, 30, generator=generator)
    return [base + 0.02 * step * torch.randn(20, 30, generator=generator) for step in range(count)]


def fail_at(monkeypatch: pytest.MonkeyPatch, name: str, *calls: int) -> None:
    """Make those calls of a method run out of a GPU's memory, and the others go through."""
    real: Callable[..., Any] = getattr(FlipMeter, name)
    seen = iter(range(1000))

    def sometimes(*args: Any) -> Any:
        if next(seen) in calls:
            msg = "CUDA out of memory. Tried to allocate 2.00 GiB"
            raise torch.OutOfMemoryError(msg)
        return real(*args)

    monkeypatch.setattr(FlipMeter, name, sometimes)


@pytest.mark.parametrize(("method", "call"), [("start", 0), ("advance", 0)])
def test_counts_are_those_of_a_meter_with_room(
    monkeypatch: pytest.MonkeyPatch, method: str, call: int
) -> None:
    weights = make_weights(3)
    roomy = FlipMeter(E4M3, (20, 30))
    roomy.start(weights[0])
    expected = [roomy.advance(weights[0], weights[1]), roomy.advance(weights[1], weights[2])]
    fail_at(monkeypatch, method, call)
    meter = SteadyMeter(E4M3, (20, 30))
    meter.start(weights[0])
    found = [meter.advance(weights[0], weights[1]), meter.advance(weights[1], weights[2])]
    assert found == expected
    assert meter.note == ON_CPU


def test_without_trouble_there_is_no_note() -> None:
    weights = make_weights(2)
    meter = SteadyMeter(E4M3, (20, 30))
    meter.start(weights[0])
    meter.advance(weights[0], weights[1])
    assert meter.note is None


@pytest.mark.parametrize(("method", "calls"), [("start", (0, 1)), ("advance", (0, 1))])
def test_on_the_cpu_there_is_no_second_way_out(
    monkeypatch: pytest.MonkeyPatch, method: str, calls: tuple[int, ...]
) -> None:
    weights = make_weights(2)
    meter = SteadyMeter(E4M3, (20, 30))
    fail_at(monkeypatch, method, *calls)

    def use() -> None:
        meter.start(weights[0])
        meter.advance(weights[0], weights[1])

    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        use()


def test_a_sweep_counts_on_the_cpu_what_a_gpu_has_no_room_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for step, weight in enumerate(make_weights(3)):
        save_file({"layer.weight": weight}, tmp_path / f"step_{step}.safetensors")
    expected = ai.sweep(tmp_path, quant=["e4m3", "e5m2"], jobs=1)
    fail_at(monkeypatch, "advance", 1, 5, 6)  # the second format once; then the first one twice
    found = ai.sweep(tmp_path, quant=["e4m3", "e5m2"], jobs=1).to_arrow("sweep_layers")
    first, second = found.to_pylist()
    assert (first["status"], second["status"]) == ("ok", "ok")
    assert (first["reason"], second["reason"]) == (None, ON_CPU)
    assert found.drop_columns("reason").equals(
        expected.to_arrow("sweep_layers").drop_columns("reason")
    )


def test_a_sweep_without_room_anywhere_has_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for step, weight in enumerate(make_weights(3)):
        save_file({"layer.weight": weight}, tmp_path / f"step_{step}.safetensors")
    fail_at(monkeypatch, "advance", 0, 1)
    (row,) = ai.sweep(tmp_path, quant=["e4m3"], jobs=1).to_arrow("sweep_layers").to_pylist()
    assert row["status"] == "failed"
    assert row["reason"].startswith("out of memory: CUDA out of memory")


def test_the_row_is_ok_and_says_where_it_was_computed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for step, weight in enumerate(make_weights(3)):
        save_file({"layer.weight": weight}, tmp_path / f"step_{step}.safetensors")
    expected = ai.flips(tmp_path, jobs=1).to_pandas("flips")
    fail_at(monkeypatch, "advance", 1)
    found = ai.flips(tmp_path, jobs=1).to_pandas("flips")
    assert list(found["status"]) == ["ok", "ok"]
    assert list(found["reason"].fillna("")) == ["", ON_CPU]
    assert list(found["num_flipped"]) == list(expected["num_flipped"])
