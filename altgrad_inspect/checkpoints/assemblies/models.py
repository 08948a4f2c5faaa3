"""Several models in one checkpoint, as accelerate saves them: the second one gets a prefix.

Format: accelerate, ``checkpointing.py:save_accelerator_state``: ``model.safetensors``, then
``model_1.safetensors`` and so on.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from altgrad_inspect.checkpoints.assemblies.plain import build_tensor
from altgrad_inspect.checkpoints.header import Header
from altgrad_inspect.checkpoints.names import normalise_names, note_kept_names
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.refs import CheckpointRef, FileRef, LayerRef

LATER_MODEL: Final = re.compile(r"model_[0-9]{1,6}")
"""The name of any model but the first."""


def assemble_models(
    ref: CheckpointRef, headers: Mapping[Path, tuple[FileRef, Header]]
) -> tuple[dict[str, LayerRef], tuple[str, ...]]:
    """Take every tensor for a layer; those of later models are called ``model_1.`` and so on.

    The first model keeps its names, so that it is the same whether or not others lie beside it.

    Raises:
        CheckpointError: Two layers get the same name.
    """
    layers: dict[str, LayerRef] = {}
    notes: list[str] = []
    for path, (file, header) in headers.items():
        prefix = f"{path.stem}." if LATER_MODEL.fullmatch(path.stem) else ""
        names, kept = normalise_names(tuple(header.tensors))
        for stored, name in names.items():
            layer = build_tensor(prefix + name, stored, file, header)
            if layer.name in layers:
                msg = (
                    f"{display_name(str(ref.path))}: layer '{display_name(layer.name, limit=80)}' "
                    f"is in {display_name(layers[layer.name].file.path.name)} and in "
                    f"{display_name(path.name)}, expected one file (name one of the files)"
                )
                raise CheckpointError(msg)
            layers[layer.name] = layer
        notes += note_kept_names(path, kept)
    return dict(sorted(layers.items())), tuple(notes)
