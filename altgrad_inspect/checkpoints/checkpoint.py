"""One checkpoint opened: the layers in it, and where their bytes are."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType
from typing import Final

import torch

from altgrad_inspect.checkpoints.assemblies import assemble_layers
from altgrad_inspect.checkpoints.header import Header, read_header
from altgrad_inspect.checkpoints.json_files import read_json_object
from altgrad_inspect.checkpoints.layer_reader import LayerReader, torch_dtype
from altgrad_inspect.checkpoints.names import normalise_name
from altgrad_inspect.checkpoints.schemes.configuration import read_context
from altgrad_inspect.checkpoints.schemes.fold import fold_tensors
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.records import SkippedLayer
from altgrad_inspect.refs import PLAIN, CheckpointRef, FileRef, LayerRef
from altgrad_inspect.storage.local import LocalReader

_CONFIG: Final = "config.json"
_NUM_SAMPLES: Final = 16
_SAMPLE_BYTES: Final = 4096
_SMALL_BYTES: Final = 1 << 16
_HEAD: Final = "lm_head.weight"
_EMBEDDINGS: Final = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What the headers of a checkpoint say; no weight was read.

    Attributes:
        ref: Where it is.
        layers: By name, sorted.
        metadata: The files' own notes, of all files together.
        aliases: Name of a layer that is not stored, to the name of the one it shares its
            weights with.
        left_out: Stored tensors that hold no weights.
        notes: What is worth a sentence, for stderr.
        num_weights: Elements of all layers.
        size_bytes: Size of all files.
        fingerprint: Of the headers, the sizes, and samples of the bytes of the files: two
            checkpoints of a run that trained differ in it, and the same files moved
            elsewhere do not. It is no proof that two checkpoints are identical.
    """

    ref: CheckpointRef
    layers: Mapping[str, LayerRef]
    metadata: Mapping[str, str]
    aliases: Mapping[str, str]
    left_out: tuple[SkippedLayer, ...]
    notes: tuple[str, ...]
    num_weights: int
    size_bytes: int
    fingerprint: str

    @property
    def scheme(self) -> str:
        """How its weights are stored: ``plain``, or the schemes of its coded layers."""
        schemes = sorted({layer.scheme for layer in self.layers.values()} - {PLAIN})
        return ", ".join(schemes) or PLAIN


def open_checkpoint(ref: CheckpointRef, *, merges_adapters: bool = False) -> Checkpoint:
    """Read the headers of all files of a checkpoint.

    Args:
        ref: Where it is.
        merges_adapters: Take the updates that an adapter makes for layers, instead of the two
            matrices that each is stored as.

    Raises:
        HeaderError: A header breaks the rules.
        CheckpointError: A file cannot be read, two files hold the same layer, or a layer
            that the index names is missing; or updates are wanted and nothing says how the
            adapter is scaled.
    """
    headers: dict[Path, tuple[FileRef, Header]] = {}
    files: list[tuple[str, int, str, str]] = []
    for path in ref.files:
        with LocalReader(path) as reader:
            header = read_header(reader)
            headers[path] = (reader.file, header)
            files.append((path.name, reader.size_bytes, header.digest, _sample(reader)))
    tensors, notes = assemble_layers(ref, headers)
    metadata = {
        key: value for _, header in headers.values() for key, value in header.metadata.items()
    }
    directory = ref.path if ref.path.is_dir() else ref.path.parent
    context, about_context = read_context(directory, metadata)
    with LayerReader(torch.device("cpu"), num_slots=1) as tensor_reader:
        context = replace(
            context,
            read_small=partial(_read_small, tensor_reader),
            merges_adapters=merges_adapters,
        )
        folded = fold_tensors(tensors, context)
    layers = dict(folded.layers)
    return Checkpoint(
        ref=ref,
        layers=MappingProxyType(layers),
        metadata=MappingProxyType(metadata),
        aliases=MappingProxyType(_find_aliases(ref, layers, metadata)),
        left_out=folded.left_out,
        notes=(*notes, *about_context, *folded.notes),
        num_weights=sum(layer.num_weights for layer in layers.values()),
        size_bytes=sum(size for _, size, _, _ in files),
        fingerprint=_digest(files),
    )


def _read_small(reader: LayerReader, tensor: LayerRef) -> bytes | None:
    """Return the bytes of a stored tensor, None if it is large or of a dtype torch lacks."""
    if tensor.num_bytes > _SMALL_BYTES or torch_dtype(tensor.dtype) is None:
        return None
    return reader.read(tensor).reshape(-1).view(torch.uint8).numpy().tobytes()


def _find_aliases(
    ref: CheckpointRef, layers: Mapping[str, LayerRef], metadata: Mapping[str, str]
) -> dict[str, str]:
    """Return layers that share weights: safetensors stores one and notes the other."""
    aliases = {
        normalise_name(dropped): normalise_name(kept)
        for dropped, kept in metadata.items()
        if normalise_name(kept) in layers and normalise_name(dropped) not in layers
    }
    embedding = _find_embedding(layers)
    is_open = _HEAD not in layers and _HEAD not in aliases
    if is_open and embedding is not None and _ties_word_embeddings(ref.path):
        aliases[_HEAD] = embedding
    return aliases


def _find_embedding(names: Iterable[str]) -> str | None:
    for suffix in _EMBEDDINGS:
        found = [name for name in names if name == suffix or name.endswith(f".{suffix}")]
        if len(found) == 1:
            return found[0]
    return None


def _ties_word_embeddings(path: Path) -> bool:
    config = (path if path.is_dir() else path.parent) / _CONFIG
    if not config.is_file():
        return False
    try:
        return read_json_object(config).get("tie_word_embeddings") is True
    except CheckpointError:
        return False  # the weights do not depend on it


def _sample(reader: LocalReader) -> str:
    """Digest of `_NUM_SAMPLES` pieces spread evenly over the file."""
    digest = blake2b(digest_size=16)
    room = max(0, reader.size_bytes - _SAMPLE_BYTES)
    for index in range(_NUM_SAMPLES):
        offset = room * index // (_NUM_SAMPLES - 1)
        digest.update(reader.read(offset, min(_SAMPLE_BYTES, reader.size_bytes)))
    return digest.hexdigest()


def _digest(parts: Iterable[object]) -> str:
    return blake2b(repr(tuple(parts)).encode(), digest_size=16).hexdigest()
