"""Several models, each in a directory of its own that begins the names of its layers."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from altgrad_inspect.checkpoints.assemblies.plain import assemble_plain
from altgrad_inspect.checkpoints.header import Header
from altgrad_inspect.refs import CheckpointRef, FileRef, LayerRef


def assemble_components(
    ref: CheckpointRef, headers: Mapping[Path, tuple[FileRef, Header]]
) -> tuple[dict[str, LayerRef], tuple[str, ...]]:
    """Take every stored tensor for a layer called after its directory and itself.

    Raises:
        CheckpointError: Two files of a component hold the same layer, or one that its index
            names is missing.
    """
    layers: dict[str, LayerRef] = {}
    notes: list[str] = []
    for directory in dict.fromkeys(path.parent for path in ref.files):
        component = directory.name
        files = tuple(path for path in ref.files if path.parent == directory)
        promised = {
            layer.removeprefix(f"{component}/"): file_name
            for layer, file_name in ref.layer_files.items()
            if layer.startswith(f"{component}/")
        }
        one = replace(ref, path=directory, files=files, layer_files=promised)
        found, about = assemble_plain(one, {path: headers[path] for path in files})
        layers.update(
            (f"{component}.{name}", replace(layer, name=f"{component}.{name}"))
            for name, layer in found.items()
        )
        notes += about
    return dict(sorted(layers.items())), tuple(notes)
