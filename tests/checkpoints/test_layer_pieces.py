"""A layer in pieces is read bit for bit as it was before it was cut, or not at all."""

import os
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from altgrad_inspect.checkpoints.assemblies.pieces import Shard, put_together, whole_region
from altgrad_inspect.checkpoints.header import read_header
from altgrad_inspect.checkpoints.layer_reader import LayerReader
from altgrad_inspect.errors import ChangedError, CheckpointError
from altgrad_inspect.refs import LayerRef, Region
from altgrad_inspect.storage.local import LocalReader
from tests.checkpoints.test_layer_reader import CPU, DTYPES, SHAPES, bits, random_tensor
from tests.storage.test_local import append, empty, replace, rewrite, truncate, unlink


def shard(path: Path, tensor: Tensor, regions: Sequence[tuple[Region, Region]]) -> Shard:
    save_file({"data": tensor.contiguous()}, path)
    with LocalReader(path) as reader:
        return Shard(
            file=reader.file, header=read_header(reader), stored="data", regions=tuple(regions)
        )


def cut(tensor: Tensor, region: Region) -> Tensor:
    return tensor[tuple(slice(start, stop) for start, stop in region)]


def cut_up(folder: Path, tensor: Tensor, edges: Sequence[Sequence[int]]) -> list[Shard]:
    """One file a cell of the grid."""
    shards = []
    for at, region in enumerate(product(*(list(pairwise(one)) for one in edges))):
        part = cut(tensor, region)
        path = folder / f"{at}.safetensors"
        shards.append(shard(path, part, [(whole_region(part.shape), region)]))
    return shards


def join(shards: Sequence[Shard], shape: Sequence[int]) -> LayerRef:
    layer, notes = put_together("checkpoint", "w", tuple(shape), shards)
    assert notes == ()
    return layer


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_shape_comes_back(dtype: str, tmp_path: Path) -> None:
    with LayerReader(CPU) as reader:
        for number, shape in enumerate(SHAPES):
            folder = tmp_path / str(number)
            folder.mkdir()
            tensor = random_tensor(DTYPES[dtype], shape)
            edges = [sorted({0, size // 3, size}) if size else [0, 0] for size in shape]
            layer = join(cut_up(folder, tensor, edges), shape)
            assert (layer.dtype, layer.num_bytes) == (dtype, tensor.nbytes)
            found = reader.read(layer)
            assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
            assert bits(found) == bits(tensor)


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_grid_of_cuts_in_any_order_comes_back(data: st.DataObject, tmp_path: Path) -> None:
    shape = data.draw(st.lists(st.integers(1, 7), max_size=3))
    edges = [
        sorted({0, size, *data.draw(st.sets(st.integers(0, size), max_size=3))}) for size in shape
    ]
    tensor = random_tensor(torch.bfloat16, tuple(shape))
    shards = data.draw(st.permutations(cut_up(tmp_path, tensor, edges)))
    with LayerReader(CPU) as reader:
        assert bits(reader.read(join(shards, shape))) == bits(tensor)
    if len(shards) > 1:
        with pytest.raises(CheckpointError, match="elements, expected all"):
            join(shards[1:], shape)


def test_several_regions_of_one_stored_tensor_are_put_where_they_belong(tmp_path: Path) -> None:
    whole = random_tensor(torch.float32, (12, 5))
    first = torch.cat([whole[0:4], whole[8:10]])
    second = torch.cat([whole[4:8], whole[10:12]])
    columns = (0, 5)

    def rows(start: int, stop: int) -> Region:
        return ((start, stop), columns)

    shards = [
        shard(tmp_path / "a", first, [(rows(0, 4), rows(0, 4)), (rows(4, 6), rows(8, 10))]),
        shard(tmp_path / "b", second, [(rows(0, 4), rows(4, 8)), (rows(4, 6), rows(10, 12))]),
    ]
    with LayerReader(CPU) as reader:
        assert bits(reader.read(join(shards, (12, 5)))) == bits(whole)


def test_one_whole_piece_is_read_as_a_plain_layer(tmp_path: Path) -> None:
    tensor = random_tensor(torch.float32, (3, 4))
    region = whole_region((3, 4))
    layer = join([shard(tmp_path / "a", tensor, [(region, region)])], (3, 4))
    assert layer.pieces == ()
    with LayerReader(CPU) as reader:
        assert bits(reader.read(layer)) == bits(tensor)


def test_a_part_of_one_piece_may_be_all_of_a_layer(tmp_path: Path) -> None:
    padded = random_tensor(torch.float32, (3, 4))
    region = whole_region((3, 2))
    layer = join([shard(tmp_path / "a", padded, [(region, region)])], (3, 2))
    with LayerReader(CPU) as reader:
        assert bits(reader.read(layer)) == bits(padded[:, :2])


def test_a_slot_keeps_nothing_of_the_layer_before(tmp_path: Path) -> None:
    ones = cut_up(tmp_path, torch.ones(4, 4), [[0, 2, 4], [0, 4]])
    (tmp_path / "z").mkdir()
    zeros = cut_up(tmp_path / "z", torch.zeros(4, 4), [[0, 1, 4], [0, 3, 4]])
    with LayerReader(CPU) as reader:
        reader.read(join(ones, (4, 4)))
        assert not reader.read(join(zeros, (4, 4))).any()


@pytest.mark.parametrize("change", [truncate, empty, append, rewrite, replace, unlink])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_piece_that_changed_is_never_read(
    change: Callable[[Path], None], which: int, tmp_path: Path
) -> None:
    tensor = random_tensor(torch.float32, (300, 4))
    for path in (tmp_path / f"{at}.safetensors" for at in range(3)):
        path.touch()
    layer = join(cut_up(tmp_path, tensor, [[0, 100, 200, 300], [0, 4]]), (300, 4))
    for piece in layer.pieces:
        os.utime(piece.file.path, ns=(piece.file.mtime_ns, piece.file.mtime_ns))
    with LayerReader(CPU) as reader:
        assert bits(reader.read(layer)) == bits(tensor)
        change(layer.pieces[which].file.path)
        with pytest.raises(CheckpointError if change is unlink else ChangedError):
            reader.read(layer)


@pytest.mark.parametrize("change", [append, rewrite, replace, unlink])
def test_a_piece_that_changes_while_another_is_read_is_noticed(
    change: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor = random_tensor(torch.float32, (30, 4))
    layer = join(cut_up(tmp_path, tensor, [[0, 10, 20, 30], [0, 4]]), (30, 4))
    later = layer.pieces[2].file.path
    read = os.preadv

    def read_and_change(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        count = read(descriptor, buffers, offset)
        if buffers[0].nbytes == layer.pieces[0].num_bytes and later not in changed:
            changed.append(later)
            change(later)
        return count

    changed: list[Path] = []
    with LayerReader(CPU) as reader:
        monkeypatch.setattr(os, "preadv", read_and_change)
        with pytest.raises(CheckpointError):
            reader.read(layer)
    assert changed == [later]


@pytest.mark.parametrize(
    ("regions", "shape", "reason"),
    [
        ([(((0, 2),), ((0, 2),))], (3,), "its shards hold 2 of 3 elements"),
        ([(((0, 3),), ((0, 3),))], (3,), "outside of the shard"),
        ([(((0, 2),), ((2, 4),))], (3,), "outside of the layer"),
        ([(((0, 2),), ((-1, 1),))], (3,), "outside of the layer"),
        ([(((2, 0),), ((2, 0),))], (3,), "outside of the shard"),
        ([(((0, 2),), ((0, 1),))], (3,), "expected the same size"),
        ([(((0, 2), (0, 1)), ((0, 2), (0, 1)))], (3, 1), "outside of the shard"),
        ([(((0, 2),), ((0, 2),)), (((0, 2),), ((1, 3),))], (3,), "has shards that overlap"),
        ([(((0, 2),), ((0, 2),)), (((0, 2),), ((1, 3),))], (4,), "has shards that overlap"),
        ([(((0, 0),), ((0, 0),))], (3,), "its shards are empty"),
        ([], (3,), "its shards are empty"),
    ],
)
def test_regions_that_do_not_fit_are_refused(
    regions: list[tuple[Region, Region]], shape: tuple[int, ...], reason: str, tmp_path: Path
) -> None:
    one = shard(tmp_path / "a", torch.ones(2), regions)
    with pytest.raises(CheckpointError, match=reason):
        put_together("checkpoint", "w", shape, [one])


def test_more_regions_than_any_layer_has_are_refused(tmp_path: Path) -> None:
    region = ((0, 1),)
    one = shard(tmp_path / "a", torch.ones(2), [(region, region)] * 65_537)
    with pytest.raises(CheckpointError, match="more than 65536 regions"):
        put_together("checkpoint", "w", (2,), [one])
