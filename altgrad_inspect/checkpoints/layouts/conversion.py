"""How checkpoints that are not read become ones that are, in words with a command."""

import shlex
from pathlib import Path
from typing import Final

from altgrad_inspect.display import display_name

SAVE: Final = "save the result with safetensors.torch.save_file"


def quote_path(path: Path) -> str:
    """Return a path as it can be pasted into a shell, and shown on any terminal."""
    return shlex.quote(display_name(str(path)))


def convert_dcp(directory: Path) -> str:
    """Advise on a torch distributed checkpoint.

    Source: torch, ``distributed/checkpoint/format_utils.py``.
    """
    return (
        "where you trust it, convert it with `python -m torch.distributed.checkpoint.format_utils "
        f"dcp_to_torch {quote_path(directory)} weights.pt`, then {SAVE}"
    )
