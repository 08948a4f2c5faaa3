"""torchtitan: ``outputs/checkpoint/step-1000/``, safetensors only for some steps.

Format: torchtitan, ``components/checkpointer/dcp.py``: most steps are torch distributed
checkpoints; ``--checkpoint.last_save_in_hf`` makes the last one a Hugging Face checkpoint.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from altgrad_inspect.checkpoints.layouts.conversion import convert_dcp, quote_path
from altgrad_inspect.checkpoints.layouts.dcp_shards import find_dcp_shards
from altgrad_inspect.checkpoints.layouts.listing import Listing, read_listing
from altgrad_inspect.checkpoints.layouts.weights import Weights, find_weights
from altgrad_inspect.errors import CheckpointError

NAME: Final = "torchtitan"
_STEP: Final = re.compile(r"step-[0-9]{1,15}")
_DCP_SUFFIX: Final = ".distcp"
_MOST_LOOKED_AT: Final = 1000


def find_torchtitan_weights(listing: Listing) -> Weights | None:
    """Return the weights of a step that was exported, None if it is not of torchtitan.

    Its directories are called like many others: a step beside it that is a distributed
    checkpoint, or the name of the directory around them, tells.

    Raises:
        CheckpointError: The weights are not complete.
    """
    if not _STEP.fullmatch(listing.path.name) or not _is_torchtitan(listing.path):
        return None
    found = find_dcp_shards(listing) or find_weights(listing)
    return None if found is None else replace(found, layout=NAME)


def explain_torchtitan(listing: Listing) -> tuple[str, str, str] | None:
    """Say how a step that is a torch distributed checkpoint is converted."""
    file = next((one for one in listing.files if one.name.endswith(_DCP_SUFFIX)), None)
    if file is None or not _STEP.fullmatch(listing.path.name):
        return None
    advice = (
        "convert it with torchtitan's `python scripts/checkpoint_conversion/convert_to_hf.py "
        f"{quote_path(listing.path)} OUT --model_name NAME --model_flavor FLAVOR`; or "
        f"{convert_dcp(listing.path)}"
    )
    return file.name, "a torch distributed checkpoint (DCP) as torchtitan saves it", advice


def _is_torchtitan(path: Path) -> bool:
    parent = path.absolute().parent
    if parent.name == "checkpoint":
        return True
    try:
        siblings = [one for one in read_listing(parent).directories if _STEP.fullmatch(one.name)]
        return any(
            file.name.endswith(_DCP_SUFFIX)
            for sibling in siblings[:_MOST_LOOKED_AT]
            for file in read_listing(sibling).files
        )
    except CheckpointError:
        return False
