"""Damaged tensors of every scheme: an error that says so, and never the end of a run."""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from pathlib import Path

import pytest
import torch

import altgrad_inspect as ai
from altgrad_inspect.checkpoints.checkpoint import Checkpoint, open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.layer_reader import LayerReader
from altgrad_inspect.checkpoints.schemes import SCHEMES
from altgrad_inspect.errors import InspectError
from altgrad_inspect.refs import PLAIN, LayerRef
from altgrad_inspect.tables.results import Results
from tests.checkpoints.schemes.damages import Damaged, damage, damage_together
from tests.checkpoints.schemes.raw_tensors import write_raw
from tests.checkpoints.schemes.sound_modules import SOUND_MODULES, SoundModule

SOUND = "sound"
_NUM_TOGETHER, _NUM_REDUCED = 3, 3
Row = dict[str, object]


def write(path: Path, modules: Mapping[str, SoundModule]) -> Path:
    """One checkpoint of modules that agree in what stands beside it, by the name each gets."""
    tensors = {f"{at}.{name}": one for at, m in modules.items() for name, one in m.tensors.items()}
    said = {f"{at}.{name}": text for at, m in modules.items() for name, text in m.metadata.items()}
    write_raw(path / "model.safetensors", tensors, said)
    for name, content in next(iter(modules.values())).files.items():
        (path / name).write_text(json.dumps(content))
    return path


def open_written(path: Path, module: SoundModule) -> Checkpoint:
    (ref,) = discover_run([path]).checkpoints
    return open_checkpoint(ref, merges_adapters=module.merges_adapters)


def layer_of(checkpoint: Checkpoint, at: str) -> LayerRef:
    """The only layer of a sound module that is made of several tensors."""
    (layer,) = (
        layer
        for name, layer in checkpoint.layers.items()
        if name.startswith(f"{at}.") and layer.scheme != PLAIN
    )
    return layer


def in_directories() -> Iterator[list[SoundModule]]:
    """Modules that can be in one checkpoint, since the same stands beside them."""
    key = lambda module: json.dumps([module.files, module.merges_adapters])  # noqa: E731
    for _, modules in groupby(sorted(SOUND_MODULES, key=key), key=key):
        yield list(modules)


def rows_of(results: Results, names: Iterable[str]) -> list[Row]:
    """The rows of the modules of these names, and what was skipped of them."""
    listed: list[Row] = [*results.to_arrow().to_pylist(), *results.to_arrow("skipped").to_pylist()]
    return [row for row in listed if str(row["layer"]).partition(".")[0] in names]


def reduce_tensors(module: SoundModule) -> Iterator[Damaged]:
    """All tensors without dimensions or elements, and each of the first three as a number."""
    yield from islice(damage_together(module.tensors), _NUM_TOGETHER)
    for name, tensor in islice(module.tensors.items(), _NUM_REDUCED):
        for dtype in dict.fromkeys(("I8", tensor.dtype)):
            if (number := tensor.stored_as(dtype, ())) is not None:
                yield name, {**module.tensors, name: number}


def find_problem(reader: LayerReader, layer: LayerRef) -> str | None:
    """What a user is told of a layer; None if it can be read."""
    try:
        loaded = reader.load(layer)
    except InspectError as error:
        return str(error)
    assert layer.scheme == PLAIN or loaded.values.shape == layer.shape
    return None


def test_every_scheme_has_a_sound_module() -> None:
    assert {module.scheme for module in SOUND_MODULES} == {scheme.name for scheme in SCHEMES}
    assert len(set(map(str, SOUND_MODULES))) == len(SOUND_MODULES)


@pytest.mark.parametrize("module", SOUND_MODULES, ids=str)
def test_a_damaged_layer_fails_alone(tmp_path: Path, module: SoundModule) -> None:
    """Opening raises nothing, decoding only what is meant for users, and both name the layer."""
    cases = dict(damage(module.tensors))
    copies = {f"case{at}": module.with_tensors(one) for at, one in enumerate(cases.values())}
    alone = open_written(write(tmp_path / "alone", {SOUND: module}), module)
    checkpoint = open_written(write(tmp_path / "all", {SOUND: module, **copies}), module)
    num_read = 0
    with LayerReader(torch.device("cpu")) as reader:
        expected = reader.load(layer_of(alone, SOUND), 0).values
        sound = layer_of(checkpoint, SOUND)
        assert sound.scheme == module.scheme
        assert torch.equal(reader.load(sound, 1).values, expected)
        for layer in checkpoint.layers.values():
            problem = find_problem(reader, layer)
            assert problem is None or "expected" in problem
            names = (layer.name, *(part.name for part in layer.parts.values()))
            assert problem is None or any(f"layer '{name}'" in problem for name in names)
            num_read += layer.scheme != PLAIN and problem is None
    assert num_read < len(copies), "no damage did any harm"


@pytest.mark.parametrize("modules", list(in_directories()), ids=lambda modules: str(modules[0]))
def test_a_run_of_damaged_layers_ends(tmp_path: Path, modules: list[SoundModule]) -> None:
    """Sound layers beside damaged ones have the rows that they have alone."""
    sound = {f"sound{at}": module for at, module in enumerate(modules)}
    damaged = {
        f"damaged{at}-{number}": module.with_tensors(tensors)
        for at, module in enumerate(modules)
        for number, (_, tensors) in enumerate(reduce_tensors(module))
    }
    for step in range(2):
        write(tmp_path / "alone" / f"checkpoint-{step}", sound)
        write(tmp_path / "all" / f"checkpoint-{step}", {**sound, **damaged})
    adapters = "merged" if modules[0].merges_adapters else "stored"
    for measure in (ai.flips, ai.rank):
        alone, every = (measure(tmp_path / name, adapters=adapters) for name in ("alone", "all"))
        assert rows_of(every, sound) == rows_of(alone, sound)
        reasons = [str(row["reason"]) for row in rows_of(every, damaged)]
        assert reasons
        assert not [reason for reason in reasons if "Error" in reason]
