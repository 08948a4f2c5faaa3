"""accelerate: ``checkpoint_0/`` with one file a model; the number counts saves, not steps.

Format: accelerate, ``accelerator.py:save_state`` and ``checkpointing.py``. Under FSDP its
weights are in ``pytorch_model_fsdp_0/`` (a torch distributed checkpoint) or
``pytorch_model_fsdp.bin`` (a pickle), which are not read.
"""

import re
from dataclasses import replace
from typing import Final

from altgrad_inspect.checkpoints.assemblies import MODELS
from altgrad_inspect.checkpoints.assemblies.models import LATER_MODEL
from altgrad_inspect.checkpoints.layouts.conversion import SAVE, quote_path
from altgrad_inspect.checkpoints.layouts.listing import Listing
from altgrad_inspect.checkpoints.layouts.weights import Weights, find_weights

NAME: Final = "accelerate"
_DIRECTORY: Final = re.compile(r"checkpoint_[0-9]{1,15}")
_RANDOM_STATES: Final = re.compile(r"random_states_[0-9]{1,9}\.pkl")
_FSDP_SHARDS: Final = re.compile(r"pytorch_model_fsdp_[0-9]{1,9}")
_FSDP_WHOLE: Final = re.compile(r"pytorch_model_fsdp(_[0-9]{1,9})?\.bin")


def find_accelerate_models(listing: Listing) -> Weights | None:
    """Return the files of all models, None if the directory is not of accelerate.

    Raises:
        CheckpointError: The first model is not complete.
    """
    is_named = _DIRECTORY.fullmatch(listing.path.name) is not None
    if not is_named and not any(_RANDOM_STATES.fullmatch(file.name) for file in listing.files):
        return None
    found = find_weights(listing)
    if found is None:
        return None
    later = tuple(file for file in listing.weight_files if LATER_MODEL.fullmatch(file.stem))
    later = tuple(file for file in later if file not in found.files)
    if not later or found.layer_files:
        return replace(found, layout=NAME)
    later = tuple(sorted(later, key=lambda file: int(file.stem.rpartition("_")[2])))
    return replace(
        found,
        files=(*found.files, *later),
        left_out=tuple(file for file in found.left_out if file not in later),
        assembly=MODELS,
        layout=NAME,
    )


def explain_fsdp(listing: Listing) -> tuple[str, str, str] | None:
    """Say how the FSDP checkpoints of accelerate and of the Trainer are merged."""
    for directory in listing.directories:
        if _FSDP_SHARDS.fullmatch(directory.name):
            advice = (
                "where you trust it, merge it with `accelerate merge-weights "
                f"{quote_path(directory)} {quote_path(listing.path)}`, which writes safetensors"
            )
            return f"{directory.name}/", "FSDP shards, a torch distributed checkpoint", advice
    whole = next((file for file in listing.files if _FSDP_WHOLE.fullmatch(file.name)), None)
    if whole is None:
        return None
    what = "the whole model of FSDP in a pickle, which can run code and is never opened"
    return whole.name, what, f"where you trust it, load it with PyTorch and {SAVE}"
