"""nanotron: ``ckpts/<step>/model/``, a directory a module and a file a shard.

Format: nanotron, ``serialize/weights.py`` and ``serialize/metadata.py``. What lies in
``optimizer/`` beside it is never looked at.
"""

import os
from pathlib import Path
from typing import Final

from altgrad_inspect.checkpoints.assemblies import NANOTRON
from altgrad_inspect.checkpoints.assemblies.nanotron import FILE_NAME, MODEL_DIRECTORY
from altgrad_inspect.checkpoints.header import MAX_TENSORS
from altgrad_inspect.checkpoints.json_files import read_json_object
from altgrad_inspect.checkpoints.layouts.listing import Listing
from altgrad_inspect.checkpoints.layouts.weights import Weights
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError

METADATA_NAME: Final = "checkpoint_metadata.json"
LATEST_NAME: Final = "latest.txt"
_MAX_DEPTH: Final = 64
_LARGEST_STEP: Final = (1 << 63) - 1
_MAX_LATEST_BYTES: Final = 64


def find_nanotron_weights(listing: Listing) -> Weights | None:
    """Return all shards of a checkpoint of nanotron, None if the directory is none.

    Raises:
        CheckpointError: It is one, and has no weights or more files than any real one.
    """
    has_metadata = any(file.name == METADATA_NAME for file in listing.files)
    model = next((one for one in listing.directories if one.name == MODEL_DIRECTORY), None)
    if listing.weight_files or (model is None and not has_metadata):
        return None
    files = _find_shards(model) if model is not None else []
    is_nested = any(file.parent != model for file in files)
    if not has_metadata and not is_nested:
        return None
    if not files:
        msg = (
            f"{display_name(str(listing.path))}: is a checkpoint of nanotron without weights, "
            f"expected them in {MODEL_DIRECTORY}/ (it is still being written, or copy it again)"
        )
        raise CheckpointError(msg)
    return Weights(files=tuple(files), assembly=NANOTRON, layout=NANOTRON)


def _find_shards(model: Path) -> list[Path]:
    found: list[Path] = []
    for directory, subdirectories, names in os.walk(model):
        subdirectories.sort()
        here = Path(directory)
        if len(here.parts) - len(model.parts) >= _MAX_DEPTH:
            subdirectories.clear()
        found += [here / name for name in sorted(names) if FILE_NAME.fullmatch(name)]
        if len(found) > MAX_TENSORS:
            msg = (
                f"{display_name(str(model))}: holds more than {MAX_TENSORS} files, expected a "
                "checkpoint of nanotron (do not trust it)"
            )
            raise CheckpointError(msg)
    return found


def read_last_train_step(directory: Path) -> int | None:
    """Return the step that nanotron wrote down in a checkpoint, None if there is none.

    Raises:
        CheckpointError: The file is there and cannot be read.
    """
    path = directory / METADATA_NAME
    if not path.is_file():
        return None
    metas = read_json_object(path).get("metas")
    step = metas.get("last_train_step") if isinstance(metas, dict) else None
    return step if type(step) is int and 0 <= step <= _LARGEST_STEP else None


def read_latest(root: Path) -> int | None:
    """Return the newest step that nanotron says it finished writing, None if it does not."""
    path = root / LATEST_NAME
    try:
        if not path.is_file() or path.stat().st_size > _MAX_LATEST_BYTES:
            return None
        written = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return int(written) if written.isdecimal() and len(written) <= 15 else None
