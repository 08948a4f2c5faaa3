"""The JSON files beside the weights: small, and no more trusted than the weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.storage.local import LocalReader

MAX_JSON_BYTES: Final = 64_000_000
_MAX_VALUES: Final = 2_000_000


def read_json_object(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> dict[str, object]:
    """Read a file that holds one JSON object; ``NaN`` and ``Infinity`` are numbers.

    Raises:
        CheckpointError: The file cannot be read, is too large, is no JSON object, or gives
            one key twice.
    """
    subject = display_name(str(path))
    with LocalReader(path) as reader:
        if reader.size_bytes > max_bytes:
            msg = (
                f"{subject}: has {reader.size_bytes} bytes, expected at most {max_bytes} "
                "(no real file of this kind is larger)"
            )
            raise CheckpointError(msg)
        content = reader.read(0, reader.size_bytes)
    return parse_json_object(subject, content)


def parse_json_object(subject: str, content: bytes) -> dict[str, object]:
    """Parse one JSON object; ``NaN`` and ``Infinity`` are numbers.

    Args:
        subject: What the messages begin with.
        content: The JSON, as UTF-8.

    Raises:
        CheckpointError: It is no JSON object, holds too many values, or gives a key twice.
    """
    # Every array and object costs far more memory than its two characters.
    if content.count(b"[") + content.count(b"{") + content.count(b",") > _MAX_VALUES:
        msg = f"{subject}: holds more values than any real file, expected fewer (save it again)"
        raise CheckpointError(msg)
    try:
        found = json.loads(content.decode(), object_pairs_hook=_read_pairs)
    except (ValueError, RecursionError) as error:
        reason = display_name(str(error), limit=120)
        msg = f"{subject}: is not valid JSON: {reason}, expected an object (save it again)"
        raise CheckpointError(msg) from error
    if not isinstance(found, dict):
        msg = f"{subject}: holds a JSON {type(found).__name__}, expected an object (save it again)"
        raise CheckpointError(msg)
    return found


def _read_pairs(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        msg = f"the key {twice!r} appears twice"
        raise ValueError(msg)
    return found
