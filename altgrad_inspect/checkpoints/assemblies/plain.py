"""One stored tensor is one layer, in one file or in several."""

from collections.abc import Mapping
from pathlib import Path

from altgrad_inspect.checkpoints.header import Header
from altgrad_inspect.checkpoints.names import normalise_names, note_kept_names
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.refs import CheckpointRef, FileRef, LayerRef


def assemble_plain(
    ref: CheckpointRef, headers: Mapping[Path, tuple[FileRef, Header]]
) -> tuple[dict[str, LayerRef], tuple[str, ...]]:
    """Take every stored tensor for a layer of its own.

    Raises:
        CheckpointError: Two files hold the same layer, or one that the index names is missing.
    """
    home: dict[str, Path] = {}
    for path, (_, header) in headers.items():
        for stored in header.tensors:
            if stored in home and stored not in ref.layer_files:
                subject, shown = display_name(str(ref.path)), display_name(stored, limit=80)
                msg = (
                    f"{subject}: layer '{shown}' is in {display_name(home[stored].name)} and in "
                    f"{display_name(path.name)}, expected one file (remove what is left over from "
                    "an earlier save)"
                )
                raise CheckpointError(msg)
            if ref.layer_files.get(stored, path.name) == path.name:
                home[stored] = path
    _require_promised(ref, home)
    names, kept = normalise_names(tuple(home))
    layers = {
        names[stored]: build_tensor(names[stored], stored, *headers[path])
        for stored, path in home.items()
    }
    return dict(sorted(layers.items())), tuple(note_kept_names(ref.path, kept))


def _require_promised(ref: CheckpointRef, home: Mapping[str, Path]) -> None:
    missing = next((stored for stored in ref.layer_files if stored not in home), None)
    if missing is not None:
        msg = (
            f"{display_name(str(ref.path))}: layer '{display_name(missing, limit=80)}' is missing, "
            f"expected it in {display_name(ref.layer_files[missing])} by the index (save or copy "
            "the checkpoint again)"
        )
        raise CheckpointError(msg)


def build_tensor(name: str, stored: str, file: FileRef, header: Header) -> LayerRef:
    """Return where the tensor ``stored`` of a file is, under the name ``name``."""
    entry = header.tensors[stored]
    return LayerRef(
        name=name,
        stored_name=stored,
        dtype=entry.dtype,
        shape=entry.shape,
        file=file,
        offset=header.num_header_bytes + entry.start,
        num_bytes=entry.end - entry.start,
    )
