"""An opened checkpoint knows its layers, which of them share weights, and its size."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

import altgrad_inspect.checkpoints.checkpoint as checkpoint_module
from altgrad_inspect.checkpoints.checkpoint import Checkpoint, open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.schemes.fold import Folded, fold_tensors
from altgrad_inspect.checkpoints.schemes.scheme import SchemeContext
from altgrad_inspect.errors import CheckpointError, HeaderError
from altgrad_inspect.refs import CheckpointRef, LayerRef
from tests.checkpoints.runs_on_disk import (
    tensors,
    truncate,
    write_json,
    write_shards,
    write_weights,
)


def open_only(path: Path) -> Checkpoint:
    return open_checkpoint(discover_run([path]).checkpoints[0])


def test_a_checkpoint_knows_where_its_layers_are(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "model.safetensors", format="pt")
    checkpoint = open_only(path)
    assert list(checkpoint.layers) == ["embed.weight", "head.weight"]
    assert checkpoint.metadata == {"format": "pt"}
    assert (checkpoint.num_weights, checkpoint.size_bytes) == (12, path.stat().st_size)
    assert (checkpoint.aliases, checkpoint.notes) == ({}, ())
    layer = checkpoint.layers["embed.weight"]
    assert (layer.dtype, layer.shape, layer.num_bytes) == ("F32", (4, 2), 32)
    assert layer.file.path == path
    content = path.read_bytes()[layer.offset : layer.offset + layer.num_bytes]
    assert content == tensors()["embed.weight"].numpy().tobytes()


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    whole = open_only(write_weights(tmp_path / "whole" / "model.safetensors"))
    sharded = open_only(write_shards(tmp_path / "sharded"))
    assert list(sharded.layers) == list(whole.layers)
    assert sharded.num_weights == whole.num_weights
    files = {layer.file.path.name for layer in sharded.layers.values()}
    assert len(files) == 2
    assert sharded.fingerprint != whole.fingerprint


def test_a_layer_in_two_files_is_an_error_without_an_index(tmp_path: Path) -> None:
    write_weights(tmp_path / "model-00001-of-00002.safetensors")
    write_weights(tmp_path / "model-00002-of-00002.safetensors")
    match = r"layer 'embed.weight' is in model-00001\S+ and in model-00002\S+, expected one file"
    with pytest.raises(CheckpointError, match=match):
        open_only(tmp_path)
    index = dict.fromkeys(tensors(), "model-00002-of-00002.safetensors")
    write_json(
        tmp_path / "model.safetensors.index.json",
        {"weight_map": index | {"embed.weight": "model-00001-of-00002.safetensors"}},
    )
    checkpoint = open_only(tmp_path)
    assert checkpoint.layers["embed.weight"].file.path.name.startswith("model-00001")
    assert checkpoint.layers["head.weight"].file.path.name.startswith("model-00002")


def test_a_layer_that_the_index_promises_and_no_file_holds_is_an_error(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "model.safetensors")
    ref = CheckpointRef(
        step=0, path=tmp_path, layout="single", files=(path,), layer_files={"x": path.name}
    )
    with pytest.raises(CheckpointError, match=r"layer 'x' is missing, expected it in model\.safe"):
        open_checkpoint(ref)


def test_a_file_truncated_after_it_was_found_is_an_error(tmp_path: Path) -> None:
    run = discover_run([write_weights(tmp_path / "model.safetensors")])
    truncate(tmp_path / "model.safetensors")
    with pytest.raises(HeaderError, match="is truncated"):
        open_checkpoint(run.checkpoints[0])


def test_layers_have_names_without_wrapper_parts(tmp_path: Path) -> None:
    stored = {"module.a.weight": torch.zeros(1), "module.b": torch.zeros(1), "b": torch.zeros(1)}
    checkpoint = open_only(write_weights(tmp_path / "model.safetensors", stored))
    assert list(checkpoint.layers) == ["a.weight", "b", "module.b"]
    assert checkpoint.layers["a.weight"].stored_name == "module.a.weight"
    assert len(checkpoint.notes) == 2
    assert "layer 'module.b' keeps its stored name" in " ".join(checkpoint.notes)


def test_layers_that_share_weights_are_known_by_both_names(tmp_path: Path) -> None:
    metadata = {"format": "pt", "module.lm_head.weight": "embed.weight", "head.weight": "gone"}
    write_weights(tmp_path / "model.safetensors", None, **metadata)
    assert open_only(tmp_path).aliases == {"lm_head.weight": "embed.weight"}


@pytest.mark.parametrize(
    "embedding", ["model.embed_tokens.weight", "wte.weight", "bert.word_embeddings.weight"]
)
def test_a_tied_head_is_the_embedding(embedding: str, tmp_path: Path) -> None:
    path = write_weights(tmp_path / "model.safetensors", {embedding: torch.zeros(2, 2)})
    assert open_only(tmp_path).aliases == {}
    write_json(tmp_path / "config.json", {"tie_word_embeddings": True})
    assert open_only(tmp_path).aliases == {"lm_head.weight": embedding}
    assert open_only(path).aliases == {"lm_head.weight": embedding}
    write_json(tmp_path / "config.json", {"tie_word_embeddings": False})
    assert open_only(tmp_path).aliases == {}
    (tmp_path / "config.json").write_text("{")
    assert open_only(tmp_path).aliases == {}


def test_a_head_that_is_stored_is_not_tied(tmp_path: Path) -> None:
    stored = {"wte.weight": torch.zeros(2, 2), "lm_head.weight": torch.zeros(2, 2)}
    write_weights(tmp_path / "model.safetensors", stored)
    write_json(tmp_path / "config.json", {"tie_word_embeddings": True})
    assert open_only(tmp_path).aliases == {}


def test_two_embeddings_tie_no_head(tmp_path: Path) -> None:
    stored = {"a.wte.weight": torch.zeros(2, 2), "b.wte.weight": torch.zeros(2, 2)}
    write_weights(tmp_path / "model.safetensors", stored)
    write_json(tmp_path / "config.json", {"tie_word_embeddings": True})
    assert open_only(tmp_path).aliases == {}


def test_the_fingerprint_tells_weights_and_structures_apart_and_ignores_the_place(
    tmp_path: Path,
) -> None:
    one = open_only(write_weights(tmp_path / "1" / "model.safetensors", tensors(1.0)))
    moved = open_only(write_weights(tmp_path / "2" / "model.safetensors", tensors(1.0)))
    trained = open_only(write_weights(tmp_path / "3" / "model.safetensors", tensors(2.0)))
    other = open_only(write_weights(tmp_path / "4" / "model.safetensors", {"a": torch.zeros(3)}))
    assert one.fingerprint == moved.fingerprint
    assert len({one.fingerprint, trained.fingerprint, other.fingerprint}) == 3
    assert len(one.fingerprint) == 32


def test_small_tensors_can_be_read_while_a_checkpoint_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {
        "shape": torch.tensor([3, -5]),
        "scale": torch.tensor(0.5, dtype=torch.bfloat16),
        "none": torch.zeros(0),
        "most": torch.arange(1 << 15, dtype=torch.int16),
        "large": torch.zeros((1 << 16) + 1, dtype=torch.uint8),
    }
    path = write_weights(tmp_path / "model.safetensors", content)
    found: dict[str, bytes | None] = {}

    def fold(tensors: Mapping[str, LayerRef], context: SchemeContext) -> Folded:
        found.update({name: context.read_small(tensor) for name, tensor in tensors.items()})
        return fold_tensors(tensors, context)

    monkeypatch.setattr(checkpoint_module, "fold_tensors", fold)
    assert set(open_only(path).layers) == set(content)
    expected = {name: tensor.reshape(-1).view(torch.uint8) for name, tensor in content.items()}
    assert found.pop("large") is None
    assert found == {name: bytes(expected[name].tolist()) for name in found}
    assert set(found) == set(content) - {"large"}
