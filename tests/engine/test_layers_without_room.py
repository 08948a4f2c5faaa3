"""Layers that a device has no room for while they are read: all rows are there, from the CPU."""

from collections.abc import Callable, Collection
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import altgrad_inspect as ai
from altgrad_inspect.checkpoints.checkpoint import open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.layer_reader import LayerReader
from altgrad_inspect.engine.placement import ON_CPU, move_to_cpu
from altgrad_inspect.engine.sighting import Sighting
from altgrad_inspect.metrics.spectrum import measure_spectrum
from altgrad_inspect.quantize.coded import CodedWeights
from altgrad_inspect.refs import LayerRef
from tests.engine.second_device import (
    Memory,
    is_second,
    run_on_second_device,
    second_device,
)

NUM_CHECKPOINTS = 4
BLOCK = 128
Row = dict[str, Any]
Steps = Collection[int]

ALL_STEPS = [
    steps
    for count in range(NUM_CHECKPOINTS + 1)
    for steps in combinations(range(NUM_CHECKPOINTS), count)
]
"""Every choice of the checkpoints that lack room, none and all among them."""


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Layers that move, come, go, stand still, change their shape, or hold no weights."""
    directory = tmp_path / "run"
    directory.mkdir()
    for step in range(NUM_CHECKPOINTS):
        weights = {
            "matrix": draw(0, 12, 20) + 0.02 * draw(step, 12, 20),
            "stack": draw(0, 2, 9, 20) + 0.02 * draw(step, 2, 9, 20),
            "vector": draw(0, 30) + 0.02 * draw(step, 30),
            "frozen": draw(0, 8, 8),
            "doubled": draw(0, 8, 8) * 2**step,
            "paused": draw(0, 8, 8) + 0.02 * draw(1 if step == 2 else step, 8, 8),
            "numbers": torch.arange(6).reshape(2, 3) + step // 2,
            "turned": draw(step, *((6, 5) if step < 2 else (5, 6))),
            "late": draw(step, 4, 4),
            "gone": draw(step, 4, 4),
        }
        weights = {
            name: weight
            for name, weight in weights.items()
            if not (name == "late" and step < 2) and not (name == "gone" and step == 1)
        }
        save_file(weights, directory / f"step_{step}.safetensors")
    return directory


@pytest.fixture
def coded_run(tmp_path: Path) -> Path:
    """A layer stored as codes with scales that move."""
    directory = tmp_path / "coded_run"
    directory.mkdir()
    weight = draw(0, BLOCK + 30, BLOCK + 40)
    for step in range(NUM_CHECKPOINTS):
        scale = (draw(step, 2, 2).abs() + 1) / 100
        spread = scale.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
        codes = weight / spread[: weight.shape[0], : weight.shape[1]]
        tensors = {"up.weight": codes.clamp(-448, 448).to(torch.float8_e4m3fn)}
        tensors["up.weight_scale_inv"] = scale
        save_file(tensors, directory / f"step_{step}.safetensors")
        weight = weight + 0.5 * draw(step + 9, *weight.shape)
    return directory


ASKS: dict[str, Callable[[Path, Path], ai.Results]] = {
    "flips": lambda run, _: ai.flips(run, layers=["matrix", "paused"], jobs=1),
    "updates": lambda run, _: ai.rank(run, layers=["stack", "paused"], updates=True, jobs=1),
    "tolerance": lambda run, _: ai.rank(run, layers=["matrix"], tolerance=0.9, jobs=1),
    "sweep": lambda run, _: ai.sweep(run, layers=["matrix"], quant=["int4"], jobs=1),
    "diff": lambda run, _: ai.diff(
        *sorted(run.iterdir())[1:3], layers=["paused", "frozen"], jobs=1
    ),
    "flips of codes": lambda _, run: ai.flips(run, jobs=1),
    "updates of codes": lambda _, run: ai.rank(run, updates=True, jobs=1),
}


def step_of(layer: LayerRef) -> int:
    return int(layer.file.path.stem.removeprefix("step_"))


def at(steps: Steps) -> Callable[[LayerRef], bool]:
    return lambda layer: step_of(layer) in steps


def assert_row(found: Row, expected: Row, *, is_noted: bool | None) -> None:
    """What is computed on the CPU is the CPU's to the bit; the rest agrees in every count.

    ``is_noted`` is whether the row must say that it was; None if nobody knows.
    """
    name = (found.get("layer"), found.get("step_to", found.get("step")))
    if "status" not in expected:
        assert found == expected, name
    elif expected["status"] != "ok" or expected["reason"] is not None:
        assert found["reason"] == expected["reason"], name
        assert found["status"] == expected["status"], name
    elif is_noted:
        assert found == expected | {"reason": ON_CPU}, name
    else:
        assert found["reason"] in ({None} if is_noted is False else {None, ON_CPU}), name
        for column, value in expected.items():
            if column == "reason" or column.endswith("_error"):
                continue
            near = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
            assert found[column] == near, (name, column)


def assert_table(
    found: ai.Results, expected: ai.Results, table: str, is_noted: Callable[[Row], bool]
) -> None:
    rows = zip(found.to_arrow(table).to_pylist(), expected.to_arrow(table).to_pylist(), strict=True)
    for row, before in rows:
        assert_row(row, before, is_noted=is_noted(before))


def is_flip_noted(row: Row, steps: Steps) -> bool:
    """From the first checkpoint without room on: codes are kept from one to the next."""
    first = {"late": 2, "turned": 0 if row["step_to"] < 2 else 1, "gone": 2}.get(row["layer"], 0)
    return any(first <= step <= row["step_to"] for step in steps)


def is_rank_noted(row: Row, steps: Steps) -> bool:
    """One of the two lacked room that were compared when the ranks were measured."""
    step = row["step"]
    if row["layer"] == "paused" and step == 2 and row["subject"] != "update":
        step = 1
    if row["layer"] in {"frozen", "doubled"} and row["subject"] == "weight":
        step = 0
    earlier = step - 1 if row["subject"] == "weight" else row["step_from"]
    pair = {earlier, step} - {"late": {0, 1}, "gone": {1}}.get(row["layer"], set())
    return not pair.isdisjoint(steps)


@pytest.mark.parametrize("steps", ALL_STEPS, ids=str)
def test_flips_and_ranks_are_the_same_whatever_has_no_room(
    run: Path, monkeypatch: pytest.MonkeyPatch, steps: Steps
) -> None:
    options: dict[str, Any] = {"quant": ["e4m3", "int4:channel"], "jobs": 1}
    expected = ai.report(run, **options)
    run_on_second_device(monkeypatch, lacks_room=at(steps))
    found = ai.report(run, **options)
    assert_table(found, expected, "flips", lambda row: is_flip_noted(row, steps))
    assert_table(found, expected, "ranks", lambda row: is_rank_noted(row, steps))
    assert found.to_arrow("skipped").equals(expected.to_arrow("skipped"))


@pytest.mark.parametrize("steps", ALL_STEPS, ids=str)
def test_updates_are_the_same_whatever_has_no_room(
    run: Path, monkeypatch: pytest.MonkeyPatch, steps: Steps
) -> None:
    options: dict[str, Any] = {"updates": True, "jobs": 1}
    expected = ai.rank(run, **options)
    run_on_second_device(monkeypatch, lacks_room=at(steps))
    assert_table(ai.rank(run, **options), expected, "ranks", lambda row: is_rank_noted(row, steps))


@pytest.mark.parametrize("steps", ALL_STEPS, ids=str)
def test_a_tolerance_carries_ranks_from_one_device_to_the_other(
    run: Path, monkeypatch: pytest.MonkeyPatch, steps: Steps
) -> None:
    options: dict[str, Any] = {"layers": ["matrix"], "tolerance": 0.9, "jobs": 1}
    expected = ai.rank(run, **options)
    assert [row["method"] for row in expected.to_arrow().to_pylist()] == ["exact", *["carried"] * 3]
    run_on_second_device(monkeypatch, lacks_room=at(steps))
    found = ai.rank(run, **options)
    assert_table(found, expected, "ranks", lambda _: 0 in steps)


@pytest.mark.parametrize("steps", ALL_STEPS[:6], ids=str)
def test_a_sweep_is_the_same_whatever_has_no_room(
    run: Path, monkeypatch: pytest.MonkeyPatch, steps: Steps
) -> None:
    options: dict[str, Any] = {"quant": ["e4m3", "int4"], "jobs": 1}
    expected = ai.sweep(run, **options)
    run_on_second_device(monkeypatch, lacks_room=at(steps))
    found = ai.sweep(run, **options)
    assert found.to_arrow("sweep").equals(expected.to_arrow("sweep"))

    def is_noted(row: Row) -> bool:
        return any(step >= {"late": 2, "gone": 2}.get(row["layer"], 0) for step in steps)

    assert_table(found, expected, "sweep_layers", is_noted)


@pytest.mark.parametrize("steps", [(), (0,), (3,), (0, 3)], ids=str)
def test_a_comparison_of_two_checkpoints_says_that_one_had_no_room(
    run: Path, monkeypatch: pytest.MonkeyPatch, steps: Steps
) -> None:
    a, b = (run / f"step_{step}.safetensors" for step in (0, 3))
    expected = ai.diff(a, b, jobs=1)
    run_on_second_device(monkeypatch, lacks_room=at(steps))
    found = ai.diff(a, b, jobs=1)
    side = {"late": {3}, "turned": {0, 3}}

    def is_noted(row: Row) -> bool:
        return not side.get(row["layer"], {0, 3}).isdisjoint(steps)

    assert {row["change"] for row in expected.to_arrow("diff").to_pylist()} == {
        *("identical", "changed", "added", "reshaped")
    }
    assert_table(found, expected, "diff", is_noted)


@pytest.mark.parametrize(
    ("steps", "is_decoded"),
    [*((steps, False) for steps in ALL_STEPS), *((steps, True) for steps in ALL_STEPS[1:6])],
    ids=str,
)
def test_codes_are_counted_the_same_whatever_has_no_room(
    coded_run: Path, monkeypatch: pytest.MonkeyPatch, steps: Steps, *, is_decoded: bool
) -> None:
    expected = ai.flips(coded_run, jobs=1), ai.rank(coded_run, updates=True, jobs=1)
    assert {row["status"] for row in expected[1].to_arrow().to_pylist()} == {"ok"}
    stored, decoded = ((), steps) if is_decoded else (steps, ())
    run_on_second_device(monkeypatch, lacks_room=at(stored), lacks_room_decoded=at(decoded))
    found = ai.flips(coded_run, jobs=1), ai.rank(coded_run, updates=True, jobs=1)
    assert {row["quantizer"] for row in found[0].to_arrow().to_pylist()} == {"stored:float8_e4m3fn"}
    assert_table(found[0], expected[0], "flips", lambda row: is_flip_noted(row, steps))
    assert_table(found[1], expected[1], "ranks", lambda row: is_rank_noted(row, steps))


@pytest.mark.parametrize("is_full_for_good", [False, True])
@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_wherever_memory_ends_every_row_is_there(
    run: Path,
    coded_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[Path, Path], ai.Results],
    *,
    is_full_for_good: bool,
) -> None:
    """The device has room for so many tensors, whatever they are of, and then for none."""
    expected = ask(run, coded_run)
    memory = Memory()
    run_on_second_device(monkeypatch, memory=memory)
    ask(run, coded_run)
    total = memory.num_taken
    assert total > NUM_CHECKPOINTS
    for num_pieces in range(0, total, max(1, total // 8)):
        memory = Memory(num_pieces, is_full_for_good=is_full_for_good)
        run_on_second_device(monkeypatch, memory=memory)
        found = ask(run, coded_run)
        assert memory.num_taken > num_pieces
        for name in expected.tables:
            rows = found.to_arrow(name).to_pylist()
            for row, before in zip(rows, expected.to_arrow(name).to_pylist(), strict=True):
                if "num_reverted" in row and row["num_reverted"] is None:  # counting began again
                    row["num_reverted"] = before["num_reverted"]
                assert_row(row, before, is_noted=None)


def test_ranks_are_on_the_device_again_as_soon_as_both_checkpoints_are(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = []

    def note(matrix: torch.Tensor, **options: Any) -> Any:
        places.append(is_second(matrix))
        return measure_spectrum(matrix, **options)

    monkeypatch.setattr("altgrad_inspect.engine.matrix_ranks.measure_spectrum", note)
    run_on_second_device(monkeypatch, lacks_room=at({1}))
    ai.rank(run, layers=["matrix"], jobs=1)
    assert places == [True, False, False, True]


def test_a_layer_that_fits_nowhere_fails_its_rows_only(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU has no room for one checkpoint, and the CPU none for what it is compared with."""
    expected = ai.flips(run, jobs=1).to_arrow().to_pylist()
    cpu = torch.Tensor.cpu

    def refuse_large(self: torch.Tensor) -> torch.Tensor:
        if is_second(self) and self.shape == (12, 20):
            msg = "[enforce fail at alloc_cpu.cpp] can't allocate memory"
            raise RuntimeError(msg)
        return cpu(self)

    monkeypatch.setattr("tests.engine.second_device._Held.cpu", refuse_large)
    run_on_second_device(monkeypatch, lacks_room=at({2}))
    for row, before in zip(ai.flips(run, jobs=1).to_arrow().to_pylist(), expected, strict=True):
        if row["layer"] == "matrix" and row["step_to"] > 1:
            assert row["status"] == "failed"
            assert row["reason"].startswith("out of memory: [enforce fail at alloc_cpu.cpp]")
        else:
            assert_row(row, before, is_noted=is_flip_noted(row, {2}))


def test_cells_that_fit_nowhere_fail_the_updates_only(
    coded_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: CodedWeights) -> torch.Tensor:
        msg = "[enforce fail at alloc_cpu.cpp] can't allocate memory"
        raise RuntimeError(msg)

    monkeypatch.setattr(CodedWeights, "measure_cells", refuse)
    rows = ai.rank(coded_run, updates=True, jobs=1).to_arrow().to_pylist()
    assert {(row["subject"], row["status"]) for row in rows} == {
        ("weight", "ok"),
        ("update", "failed"),
        ("update_total", "failed"),
    }


def test_codes_move_with_their_weights(coded_run: Path) -> None:
    layer = open_checkpoint(discover_run([coded_run]).checkpoints[0]).layers["up.weight"]
    with second_device() as device, LayerReader(device) as reader:
        loaded = reader.load(layer)
        sighting = Sighting(step=0, ref=layer, weights=loaded.values, coded=loaded.coded)
        moved = move_to_cpu(sighting)
    with LayerReader(torch.device("cpu")) as reader:
        expected = reader.load(layer)
    assert sighting.coded is not None
    assert moved.coded is not None
    assert expected.coded is not None
    assert is_second(sighting.coded.ordinals)
    assert moved.weights is not None
    assert torch.equal(moved.weights, expected.values)
    assert torch.equal(moved.coded.ordinals, expected.coded.ordinals)
    assert torch.equal(moved.coded.scales.values, expected.coded.scales.values)
