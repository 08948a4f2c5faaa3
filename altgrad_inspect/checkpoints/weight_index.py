"""The index file of a sharded checkpoint: which layer is in which file."""

from pathlib import Path
from typing import Final

from altgrad_inspect.checkpoints.json_files import read_json_object
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError

INDEX_SUFFIX: Final = ".safetensors.index.json"
_LONGEST_NAME_BYTES: Final = 255


def read_weight_index(path: Path) -> dict[str, str]:
    """Read ``*.safetensors.index.json``.

    Returns:
        Stored layer name to the name of a file in the same directory; not empty.

    Raises:
        CheckpointError: The file is unreadable, or a value is not one plain file name; a
            checkpoint never makes us open a file elsewhere.
    """
    subject = display_name(str(path))
    weight_map = read_json_object(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        msg = f"{subject}: has no weight_map, expected layer names and their files (save it again)"
        raise CheckpointError(msg)
    for layer, file_name in weight_map.items():
        if not isinstance(file_name, str) or not is_plain_file_name(file_name):
            shown = display_name(str(file_name), limit=80)
            msg = (
                f"{subject}: layer '{display_name(layer, limit=80)}' is said to be in '{shown}', "
                "expected the plain name of a file beside the index (do not trust this checkpoint)"
            )
            raise CheckpointError(msg)
    return weight_map


def is_plain_file_name(name: str) -> bool:
    """Say whether ``name`` can only mean an entry of the directory it is used in."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return False
    return (
        0 < len(encoded) <= _LONGEST_NAME_BYTES
        and name not in {".", ".."}
        and not any(character in name for character in "/\\\0")
    )
