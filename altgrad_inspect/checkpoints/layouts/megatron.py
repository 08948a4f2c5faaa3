"""Megatron: ``iter_0001000/mp_rank_00/model_optim_rng.pt`` or a distributed checkpoint.

Format: Megatron-LM, ``megatron/training/checkpointing.py:get_checkpoint_name``. Neither is read:
one is pickles, the other a torch distributed checkpoint whose metadata is a pickle.
"""

import re
from typing import Final

from altgrad_inspect.checkpoints.layouts.conversion import quote_path
from altgrad_inspect.checkpoints.layouts.listing import Listing

TRACKER: Final = "latest_checkpointed_iteration.txt"
_RANK: Final = re.compile(r"mp_rank_[0-9]{2,3}(_[0-9]{3})?(_[0-9]{3})?")


def explain_megatron(listing: Listing) -> tuple[str, str, str] | None:
    """Say how a checkpoint of Megatron is exported."""
    rank = next((one for one in listing.directories if _RANK.fullmatch(one.name)), None)
    names = {file.name for file in listing.files}
    if rank is not None:
        found, what = f"{rank.name}/", "a checkpoint of Megatron in pickles, one a rank"
    elif {"common.pt", "metadata.json"} <= names:
        found, what = "common.pt", "a distributed checkpoint of Megatron (torch_dist)"
    elif TRACKER in names:
        found, what = TRACKER, "the root of a run of Megatron"
    else:
        return None
    advice = (
        "export it with Megatron Bridge: `python examples/conversion/convert_checkpoints.py export "
        f"--hf-model MODEL --megatron-path {quote_path(listing.path)} --hf-path OUT`, which "
        "writes safetensors"
    )
    if rank is not None:
        advice += "; a checkpoint in pickles is first saved as torch_dist by Megatron itself"
    return found, what, advice
