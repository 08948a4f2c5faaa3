"""A layer that the device has no room for is read all the same: it stays on the CPU."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from altgrad_inspect.checkpoints.checkpoint import open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.layer_reader import LayerReader, _Slot
from altgrad_inspect.checkpoints.schemes import decode_layer
from altgrad_inspect.checkpoints.schemes.scheme import LoadedLayer
from altgrad_inspect.refs import LayerRef
from tests.engine.second_device import SECOND, is_second, out_of_memory, second_device

READER = "altgrad_inspect.checkpoints.layer_reader"


@pytest.fixture
def device() -> Iterator[torch.device]:
    with second_device() as found:
        yield found


def write_layer(path: Path, value: int, count: int) -> LayerRef:
    save_file({"w": torch.full((count,), value, dtype=torch.int16)}, path)
    return open_checkpoint(discover_run([path]).checkpoints[0]).layers["w"]


def write_codes(path: Path) -> LayerRef:
    codes = torch.arange(-60, 60, dtype=torch.float32).reshape(6, 20).to(torch.float8_e4m3fn)
    save_file({"up.weight": codes, "up.weight_scale_inv": torch.tensor([[0.25]])}, path)
    return open_checkpoint(discover_run([path]).checkpoints[0]).layers["up.weight"]


def refuse(monkeypatch: pytest.MonkeyPatch, most_bytes: int) -> None:
    """Let the device have no room for more bytes at once."""
    deliver = _Slot.deliver

    def deliver_if_it_fits(self: Any, buffer: torch.Tensor) -> torch.Tensor:
        if buffer.numel() > most_bytes:
            raise out_of_memory()
        return deliver(self, buffer)

    monkeypatch.setattr(_Slot, "deliver", deliver_if_it_fits)


def test_what_does_not_fit_is_on_the_cpu_and_its_slot_is_used_again(
    device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = (4, 40, 3, 50, 5)
    layers = [
        write_layer(tmp_path / f"step_{at}.safetensors", at, size) for at, size in enumerate(sizes)
    ]
    refuse(monkeypatch, 20)
    with LayerReader(device) as reader:
        other = reader.read(layers[0], 1)
        for at, layer in enumerate(layers):
            found = reader.load(layer, 0)
            assert found.values.device.type == ("meta" if sizes[at] < 10 else "cpu")
            assert found.values.tolist() == [at] * sizes[at]
            assert other.tolist() == [0] * 4


@pytest.mark.parametrize("is_decoded", [False, True])
def test_codes_that_do_not_fit_are_decoded_on_the_cpu(
    device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_decoded: bool
) -> None:
    layer = write_codes(tmp_path / "model.safetensors")
    with LayerReader(torch.device("cpu")) as reader:
        expected = reader.load(layer)

    def decode_if_it_fits(layer: LayerRef, parts: Mapping[str, torch.Tensor]) -> LoadedLayer:
        if any(map(is_second, parts.values())):
            decode_layer(layer, parts)
            raise out_of_memory()
        return decode_layer(layer, parts)

    with LayerReader(device) as reader:
        if is_decoded:
            monkeypatch.setattr(f"{READER}.decode_layer", decode_if_it_fits)
        else:
            refuse(monkeypatch, 20)
        found = reader.load(layer)
        assert not is_second(found.values)
        assert torch.equal(found.values, expected.values)
        assert found.coded is not None
        assert expected.coded is not None
        assert not is_second(found.coded.ordinals)
        assert torch.equal(found.coded.ordinals, expected.coded.ordinals)
        assert reader._slots[0]._copy.numel() == 0, "the codes still take room on the device"
        monkeypatch.undo()
        assert is_second(reader.load(layer).values)
        assert reader._slots[0]._copy.device == SECOND


def test_there_is_no_second_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = write_codes(tmp_path / "model.safetensors")

    def fail(*_args: object) -> LoadedLayer:
        raise out_of_memory()

    monkeypatch.setattr(f"{READER}.decode_layer", fail)
    with (
        LayerReader(torch.device("cpu")) as reader,
        pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"),
    ):
        reader.load(layer)
