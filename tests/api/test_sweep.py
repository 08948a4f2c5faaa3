"""One pass in many formats says what many passes would."""

from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import torch
from safetensors.torch import save_file

import altgrad_inspect as ai
from altgrad_inspect.checkpoints.layer_reader import LayerReader
from altgrad_inspect.engine.sweep_rows import is_stalling
from altgrad_inspect.records import FlipCounts
from altgrad_inspect.refs import LayerRef
from altgrad_inspect.settings import DEFAULT_SWEEP
from tests.tables.examples import COUNTS

Weights = dict[str, torch.Tensor]


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def write_run(directory: Path, *checkpoints: Weights) -> Path:
    directory.mkdir(exist_ok=True)
    for index, weights in enumerate(checkpoints, start=1):
        held = {name: weight.clone().contiguous() for name, weight in weights.items()}
        save_file(held, directory / f"step_{index * 10:06d}.safetensors")
    return directory


@pytest.fixture
def run(tmp_path: Path) -> Path:
    base, bias = draw(0, 24, 16), draw(1, 16)
    return write_run(
        tmp_path / "run",
        *(
            {"w": base + 0.02 * draw(seed, 24, 16), "b": bias + 0.01 * draw(seed, 16)}
            for seed in range(2, 7)
        ),
    )


def test_the_rows_are_those_of_separate_calls(run: Path) -> None:
    quant = [*DEFAULT_SWEEP, "e4m3:channel:pow2", "e5m10", "int8:group=4"]
    swept = ai.sweep(run, quant=quant)
    layers = swept.to_arrow("sweep_layers").to_pylist()
    assert {row["layer"] for row in layers} == {"w", "b"}
    aliases = {
        one: row["quantizer"]
        for row in swept.to_arrow().to_pylist()
        for one in (row["quantizer"], *row["same_as"])
    }
    for spec in quant:
        rows = ai.flips(run, quant=[spec]).to_arrow().to_pylist()
        name = aliases[rows[0]["quantizer"]]
        for layer in ("w", "b"):
            own = [row for row in rows if row["layer"] == layer]
            (found,) = [r for r in layers if (r["layer"], r["quantizer"]) == (layer, name)]
            last = own[-1]
            assert found["num_transitions"] == len(own) == 4
            assert found["num_weights"] == last["num_weights"]
            assert found["flip_fraction_median"] == median(row["flip_fraction"] for row in own)
            assert found["flip_fraction_last"] == last["flip_fraction"]
            assert found["stall_fraction_median"] == median(row["stall_fraction"] for row in own)
            assert found["stall_fraction_last"] == last["stall_fraction"]
            size = last["num_weights"]
            assert found["updated_fraction_last"] == last["num_updated"] / size
            assert found["saturated_fraction_last"] == last["num_saturated"] / size
            assert found["underflowed_fraction_last"] == last["num_underflowed"] / size


def test_a_format_is_the_sum_of_its_layers(run: Path) -> None:
    swept = ai.sweep(run, quant=["e2m1", "e5m2"])
    layers = swept.to_arrow("sweep_layers").to_pylist()
    for row in swept.to_arrow().to_pylist():
        own = [one for one in layers if one["quantizer"] == row["quantizer"]]
        assert row["num_layers"] == 2
        assert row["num_weights"] == 24 * 16 + 16
        assert row["flip_fraction_median"] == median(one["flip_fraction_median"] for one in own)
        for name in ("flip_fraction_last", "underflowed_fraction_last", "saturated_fraction_last"):
            count = sum(one[name] * one["num_weights"] for one in own)
            assert row[name] == pytest.approx(count / row["num_weights"], rel=1e-14)


def test_the_same_grid_is_measured_once_and_named_in_full(run: Path) -> None:
    swept = ai.sweep(run).to_arrow().to_pylist()
    (row,) = [row for row in swept if row["same_as"]]
    assert row["quantizer"] == "e0m7:tensor:amax"
    assert row["same_as"] == ["e1m6:tensor:amax", "int8:tensor:amax"]
    assert len(swept) == len(DEFAULT_SWEEP) - 2
    assert ai.sweep(run, quant=["auto"]).to_arrow().to_pylist() == swept


def test_every_byte_is_read_once_whatever_the_number_of_formats(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_bytes = 0
    read = LayerReader.read

    def count(self: LayerReader, layer: LayerRef, slot: int = 0) -> torch.Tensor:
        nonlocal num_bytes
        num_bytes += layer.num_bytes
        return read(self, layer, slot)

    monkeypatch.setattr(LayerReader, "read", count)
    ai.sweep(run, jobs=1)
    assert num_bytes == 5 * 4 * (24 * 16 + 16)


def counts(num_updated: int, num_flipped: int) -> FlipCounts:
    return replace(COUNTS, num_weights=100_000, num_updated=num_updated, num_flipped=num_flipped)


@pytest.mark.parametrize(
    ("transitions", "expected"),
    [
        ([(1_000, 9)] * 3, True),
        ([(999, 9), (1_000, 9), (1_000, 9)], False),
        ([(1_000, 10), (1_000, 9), (1_000, 9)], False),
        ([(90_000, 50_000), (1_000, 9), (1_000, 0), (1_000, 9)], True),
        ([(1_000, 9), (1_000, 9), (1_000, 10)], False),
        ([(1_000, 0)], True),
        ([(0, 0)] * 3, False),
    ],
)
def test_a_layer_stalls_while_it_is_updated_and_does_not_flip(
    transitions: list[tuple[int, int]], *, expected: bool
) -> None:
    assert is_stalling([counts(*one) for one in transitions]) is expected


def test_a_coarse_format_stalls_where_a_fine_one_does_not(tmp_path: Path) -> None:
    base = draw(0, 40, 32)
    run = write_run(tmp_path / "run", *({"w": base * (1 + 1e-4 * i)} for i in range(4)))
    found = {
        row["quantizer"]: row["num_stalling"]
        for row in ai.sweep(run, quant=["e2m1:tensor:none", "e5m10:tensor:none"])
        .to_arrow()
        .to_pylist()
    }
    assert found == {"e2m1:tensor:none": 1, "fp16:tensor:none": 0}


def test_what_cannot_be_compared_says_why(tmp_path: Path) -> None:
    w = draw(0, 6, 4)
    run = write_run(
        tmp_path / "run",
        {"w": w, "new": w, "codes": w.to(torch.float8_e4m3fn), "ids": torch.arange(4)},
        {"w": w * 2, "codes": w.to(torch.float8_e4m3fn), "ids": torch.arange(4)},
        {"w": w.double(), "late": w, "codes": w.to(torch.float8_e4m3fn), "ids": torch.arange(4)},
        {"w": w.double() * 2, "codes": w.to(torch.float8_e4m3fn), "ids": torch.arange(4)},
    )
    results = ai.sweep(run, quant=["e4m3"])
    rows = {row["layer"]: row for row in results.to_arrow("sweep_layers").to_pylist()}
    assert rows["w"]["num_transitions"] == 2
    assert rows["w"]["status"] == "ok"
    assert rows["new"]["status"] == rows["late"]["status"] == "undefined"
    assert "layer removed" in rows["new"]["reason"]
    assert rows["late"]["flip_fraction_last"] is None
    assert set(rows) == {"w", "new", "late"}
    skipped = {row["layer"]: row["reason"] for row in results.to_arrow("skipped").to_pylist()}
    assert "F8_E4M3 codes as stored" in skipped["codes"]
    assert "int64" in skipped["ids"]
    (total,) = results.to_arrow().to_pylist()
    assert (total["num_layers"], total["num_weights"]) == (1, 24)


def test_a_layer_that_cannot_be_read_fails_the_sweep(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = LayerReader.read

    def refuse(self: LayerReader, layer: LayerRef, slot: int = 0) -> torch.Tensor:
        if layer.name == "b" and "000030" in layer.file.path.name:
            msg = "cannot allocate memory"
            raise RuntimeError(msg)
        return read(self, layer, slot)

    monkeypatch.setattr(LayerReader, "read", refuse)
    results = ai.sweep(run, quant=["e4m3"])
    (row,) = results.to_arrow().to_pylist()
    assert row["status"] == "failed"
    assert "1 layers failed: out of memory" in row["reason"]
    assert results.num_failed == 2


def test_one_checkpoint_is_no_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"w": draw(0, 4, 4)})
    with pytest.raises(ai.NothingMatchedError, match="at least two to compare"):
        ai.sweep(run)


def test_a_run_without_any_pair_of_layers_is_undefined(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"a": draw(0, 4, 4)}, {"b": draw(0, 4, 4)})
    (row,) = ai.sweep(run, quant=["e4m3"]).to_arrow().to_pylist()
    assert row["status"] == "undefined"
    assert row["reason"] == "no layer with two checkpoints to compare"
    assert row["flip_fraction_last"] is None
