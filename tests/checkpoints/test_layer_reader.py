"""Layers are read bit for bit, in buffers used again, and never from a file that changed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from altgrad_inspect.checkpoints.checkpoint import open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.header import DTYPE_BITS
from altgrad_inspect.checkpoints.layer_reader import LayerReader, torch_dtype
from altgrad_inspect.errors import ChangedError, CheckpointError
from altgrad_inspect.refs import LayerRef
from tests.checkpoints.header_corpus import build_file, describe
from tests.storage.test_local import append, empty, replace, rewrite, truncate, unlink

CPU = torch.device("cpu")
DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E8M0": torch.float8_e8m0fnu,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "C64": torch.complex64,
    "F64": torch.float64,
    "I64": torch.int64,
    "U64": torch.uint64,
}
SHAPES: list[tuple[int, ...]] = [(), (0,), (3, 0, 2), (1,), (7,), (3, 5), (2, 3, 4)]


def random_tensor(dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    """Any bit pattern, NaN included; booleans are 0 or 1."""
    generator = torch.Generator().manual_seed(1)
    size = torch.empty(0, dtype=dtype).element_size()
    high = 2 if dtype is torch.bool else 256
    num_bytes = size * torch.Size(shape).numel()
    raw = torch.randint(0, high, (num_bytes,), dtype=torch.uint8, generator=generator)
    return raw.view(dtype).reshape(shape)


def bits(tensor: torch.Tensor) -> list[int]:
    found: list[int] = tensor.contiguous().reshape(-1).view(torch.uint8).tolist()
    return found


def layers_of(path: Path) -> dict[str, LayerRef]:
    return dict(open_checkpoint(discover_run([path]).checkpoints[0]).layers)


def write_raw(path: Path, dtype: str, shape: list[int], data: bytes) -> LayerRef:
    header = json.dumps({"w": describe(dtype, shape, 0, len(data))})
    path.write_bytes(build_file(header, data))
    return layers_of(path)["w"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_the_library_wrote_is_read_bit_for_bit(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    stored = {str(shape): random_tensor(DTYPES[dtype], shape) for shape in SHAPES}
    save_file(stored, path)
    with LayerReader(CPU) as reader:
        for name, layer in layers_of(path).items():
            found = reader.read(layer)
            assert (layer.dtype, found.dtype) == (dtype, DTYPES[dtype])
            assert found.shape == stored[name].shape == layer.shape
            assert bits(found) == bits(stored[name])
            assert bits(found) == bits(load_file(path)[name])


def test_every_dtype_is_known_or_refused() -> None:
    assert {dtype for dtype in DTYPE_BITS if torch_dtype(dtype)} == set(DTYPES)
    assert {dtype: torch_dtype(dtype) for dtype in DTYPES} == DTYPES
    assert torch_dtype("save") is None


def test_mixed_dtypes_at_odd_offsets_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    stored = {
        "a": random_tensor(torch.uint8, (3,)),
        "b": random_tensor(torch.float64, (5,)),
        "c": random_tensor(torch.bfloat16, (3, 3)),
        "d": random_tensor(torch.float32, ()),
    }
    header, data = {}, b""
    names = {"a": "U8", "b": "F64", "c": "BF16", "d": "F32"}
    for name, tensor in stored.items():
        start, data = len(data), data + bytes(bits(tensor))
        header[name] = describe(names[name], list(tensor.shape), start, len(data))
    path.write_bytes(build_file(json.dumps(header) + " ", data))
    with LayerReader(CPU) as reader:
        for name, layer in layers_of(path).items():
            assert bits(reader.read(layer)) == bits(stored[name])


def test_f4_comes_as_bytes_of_two(tmp_path: Path) -> None:
    layer = write_raw(tmp_path / "a.safetensors", "F4", [2, 6], bytes(range(6)))
    with LayerReader(CPU) as reader:
        found = reader.read(layer)
    assert found.dtype is torch.uint8
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("dtype", "shape", "num_bytes", "reason"),
    [
        ("F4", [2, 3], 3, "layer 'w' has rows of 3 F4 elements, expected an even number"),
        ("F6_E2M3", [4], 3, "layer 'w' has dtype F6_E2M3, expected one that torch"),
        ("F6_E3M2", [4], 3, "layer 'w' has dtype F6_E3M2, expected one that torch"),
    ],
)
def test_what_torch_has_no_dtype_for_is_refused(
    dtype: str, shape: list[int], num_bytes: int, reason: str, tmp_path: Path
) -> None:
    layer = write_raw(tmp_path / "a.safetensors", dtype, shape, bytes(num_bytes))
    with LayerReader(CPU) as reader, pytest.raises(CheckpointError, match=reason):
        reader.read(layer)


def test_a_boolean_is_true_unless_its_byte_is_zero(tmp_path: Path) -> None:
    layer = write_raw(tmp_path / "a.safetensors", "BOOL", [4], b"\0\1\2\xff")
    with LayerReader(CPU) as reader:
        found = reader.read(layer)
    assert found.tolist() == [False, True, True, True]
    assert bits(found) == [0, 1, 1, 1]


def test_two_slots_hold_two_tensors_and_a_slot_is_used_again(tmp_path: Path) -> None:
    layers = [
        write_raw(tmp_path / f"step_{value}.safetensors", "U8", [4], bytes([value] * 4))
        for value in range(3)
    ]
    with LayerReader(CPU) as reader:
        zero, one = reader.read(layers[0], 0), reader.read(layers[1], 1)
        assert (zero.tolist(), one.tolist()) == ([0] * 4, [1] * 4)
        two = reader.read(layers[2], 0)
        assert two.data_ptr() == zero.data_ptr()
        assert (two.tolist(), one.tolist()) == ([2] * 4, [1] * 4)


@given(sizes=st.lists(st.integers(0, 50), min_size=1, max_size=8), data=st.data())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_of_sizes_and_slots_reads_right(
    sizes: list[int], data: st.DataObject, tmp_path: Path
) -> None:
    layers = [
        write_raw(tmp_path / f"step_{at}.safetensors", "U8", [size], bytes([at] * size))
        for at, size in enumerate(sizes)
    ]
    order = data.draw(st.lists(st.sampled_from(range(len(sizes))), max_size=12))
    with LayerReader(CPU) as reader:
        for at in order:
            slot = data.draw(st.integers(0, 1))
            assert reader.read(layers[at], slot).tolist() == [at] * sizes[at]


def test_more_files_than_are_kept_open_are_read(tmp_path: Path) -> None:
    layers = [
        write_raw(tmp_path / f"step_{value}.safetensors", "U8", [1], bytes([value]))
        for value in range(40)
    ]
    before = len(list(Path("/proc/self/fd").iterdir()))
    with LayerReader(CPU) as reader:
        for _ in range(2):
            for value, layer in enumerate(layers):
                assert reader.read(layer).tolist() == [value]
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 16
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    reader.close()


@pytest.mark.parametrize("change", [truncate, empty, append, rewrite, replace, unlink])
@pytest.mark.parametrize("is_open", [True, False])
def test_a_file_that_changed_between_two_reads_is_never_read(
    change: Callable[[Path], None], *, is_open: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    layer = write_raw(path, "U8", [1000], bytes(1000))
    os.utime(path, ns=(1, 1))
    layer = layers_of(path)["w"]
    with LayerReader(CPU) as reader:
        if is_open:
            reader.read(layer)
        change(path)
        with pytest.raises(CheckpointError if change is unlink else ChangedError):
            reader.read(layer)


@pytest.mark.parametrize("change", [append, rewrite, replace, unlink])
def test_a_file_that_changes_during_a_read_is_noticed(
    change: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    layer = write_raw(path, "U8", [1000], bytes(1000))
    read = os.preadv

    def read_and_change(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        count = read(descriptor, buffers, offset)
        if offset == layer.offset:  # the weights, not the header
            change(path)
        return count

    with LayerReader(CPU) as reader:
        monkeypatch.setattr(os, "preadv", read_and_change)
        with pytest.raises(ChangedError, match="changed while it was read"):
            reader.read(layer)


def test_an_empty_layer_of_a_file_that_changed_is_not_read_either(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    layer = write_raw(path, "U8", [0], b"")
    with LayerReader(CPU) as reader:
        reader.read(layer)
        append(path)
        with pytest.raises(ChangedError, match="changed while it was read"):
            reader.read(layer)


def test_a_file_opened_anew_is_read_with_its_new_header(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with LayerReader(CPU) as reader:
        for value in (1, 2):
            layer = write_raw(path, "U8", [value], bytes([value] * value))
            assert reader.read(layer).tolist() == [value] * value


_PROGRAM = """
import sys
import torch
from altgrad_inspect.checkpoints.checkpoint import open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.layer_reader import LayerReader

def peak_kb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

layers = open_checkpoint(discover_run(sys.argv[1:]).checkpoints[0]).layers
with LayerReader(torch.device("cpu")) as reader:
    before = peak_kb()
    for layer in layers.values():
        reader.read(layer)
    print(peak_kb() - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    grown_kb, layer_bytes = [], 2 << 20
    for num_layers in (5, 100):
        path = tmp_path / f"step_{num_layers}.safetensors"
        header = {
            f"w{at}": describe("U8", [layer_bytes], at * layer_bytes, (at + 1) * layer_bytes)
            for at in range(num_layers)
        }
        path.write_bytes(build_file(json.dumps(header)))
        os.truncate(path, path.stat().st_size + num_layers * layer_bytes)  # sparse
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(path)], capture_output=True, text=True, check=True
        )
        grown_kb.append(int(done.stdout))
    assert max(grown_kb) < 8 * 1024
