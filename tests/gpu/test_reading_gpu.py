"""Layers that a CUDA device has no room for while they are read: the same rows, from the CPU."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import altgrad_inspect as ai
from altgrad_inspect.checkpoints.checkpoint import open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.layer_reader import LayerReader
from altgrad_inspect.engine.placement import ON_CPU
from altgrad_inspect.refs import LayerRef
from tests.gpu.test_pipeline_gpu import assert_close, little_memory

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

ROWS, COLS = 40_000, 1024
NO_CHECKPOINT, ONE_CHECKPOINT = 0.1e9, 0.25e9
"""Bytes that are too few for one checkpoint of the layer, of 164 MB, and for a second one."""

ASKS: dict[str, tuple[str, Callable[..., ai.Results]]] = {
    "flips": ("flips", ai.flips),
    "updates": ("ranks", lambda run, **options: ai.rank(run, updates=True, **options)),
    "sweep": ("sweep_layers", lambda run, **options: ai.sweep(run, quant=["int4"], **options)),
    "diff": ("diff", lambda run, **options: ai.diff(*sorted(run.iterdir())[:2], **options)),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(ROWS, COLS, generator=generator)
    for step in range(4):
        save_file({"layer.weight": weight}, directory / f"step_{step}.safetensors")
        weight = weight + 1e-3 * torch.randn(ROWS, COLS, generator=generator)
    return directory


@pytest.fixture(scope="module")
def coded_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stored in a byte a weight; decoded in five more."""
    directory = tmp_path_factory.mktemp("coded_run")
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(ROWS, COLS, generator=generator)
    for step in range(3):
        scale = torch.rand(-(-ROWS // 128), COLS // 128, generator=generator) / 100 + 1e-2
        spread = scale.repeat_interleave(128, 0).repeat_interleave(128, 1)[:ROWS]
        codes = (weight / spread).clamp(-448, 448).to(torch.float8_e4m3fn)
        tensors = {"up.weight": codes, "up.weight_scale_inv": scale}
        save_file(tensors, directory / f"step_{step}.safetensors")
        weight = weight + 0.5 * torch.randn(ROWS, COLS, generator=generator)
    return directory


def layer_at(run: Path, index: int) -> LayerRef:
    (layer,) = open_checkpoint(discover_run([run]).checkpoints[index]).layers.values()
    return layer


def assert_same(table: str, expected: ai.Results, found: ai.Results) -> set[str | None]:
    """Compare a table row by row; return the reasons that the rows found give."""
    before, after = (one.to_arrow(table).to_pylist() for one in (expected, found))
    for one, other in zip(before, after, strict=True):
        assert_close(one, other)
    return {row["reason"] for row in after}


@pytest.mark.parametrize("name", ASKS)
@pytest.mark.parametrize("num_bytes", [NO_CHECKPOINT, ONE_CHECKPOINT])
def test_rows_are_those_of_the_cpu(run: Path, name: str, num_bytes: float) -> None:
    table, ask = ASKS[name]
    expected = ask(run, device="cpu", jobs=1)
    with little_memory(num_bytes):
        found = ask(run, device="cuda", jobs=1)
    reasons = assert_same(table, expected, found)
    assert ON_CPU in reasons
    assert num_bytes != NO_CHECKPOINT or reasons == {ON_CPU}


@pytest.mark.parametrize("name", ["flips", "updates"])
def test_codes_that_fit_as_stored_and_not_as_decoded(coded_run: Path, name: str) -> None:
    table, ask = ASKS[name]
    expected = ask(coded_run, device="cpu", jobs=1)
    with little_memory(0.15e9):
        found = ask(coded_run, device="cuda", jobs=1)
    assert assert_same(table, expected, found) == {ON_CPU}


def test_the_slot_of_a_layer_without_room_is_used_again(run: Path) -> None:
    layers = [layer_at(run, index) for index in range(3)]
    with LayerReader(torch.device("cpu"), num_slots=3) as reader:
        expected = [reader.read(layer, slot) for slot, layer in enumerate(layers)]
    with LayerReader(torch.device("cuda")) as reader:
        with little_memory(ONE_CHECKPOINT):
            first, second = reader.read(layers[0], 0), reader.read(layers[1], 1)
            assert (first.device.type, second.device.type) == ("cuda", "cpu")
            torch.cuda.synchronize()
            assert torch.equal(first.cpu(), expected[0])
            assert torch.equal(second, expected[1])
        third = reader.read(layers[2], 1)
        torch.cuda.synchronize()
        assert third.device.type == "cuda"
        assert torch.equal(third.cpu(), expected[2])
        assert torch.equal(first.cpu(), expected[0])


def test_what_was_delivered_is_given_back_where_it_cannot_be_decoded(coded_run: Path) -> None:
    with LayerReader(torch.device("cuda")) as reader, little_memory(0.15e9):
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        assert reader.load(layer_at(coded_run, 0)).values.device.type == "cpu"
        assert torch.cuda.memory_allocated() == before
