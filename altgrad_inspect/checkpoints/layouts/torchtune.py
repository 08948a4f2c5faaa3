"""torchtune: ``epoch_0/`` with a Hugging Face checkpoint, ``recipe_state/`` beside it.

Format: torchtune, ``training/checkpointing/_checkpointer.py``. The recipe's state and adapters
in ``.pt`` files are pickles; adapters in safetensors lie beside the merged model.
"""

import re
from dataclasses import replace
from typing import Final

from altgrad_inspect.checkpoints.layouts.listing import Listing
from altgrad_inspect.checkpoints.layouts.weights import Weights, find_weights

NAME: Final = "torchtune"
_EPOCH: Final = re.compile(r"epoch_[0-9]{1,15}")
_RECIPE_STATE: Final = "recipe_state"


def find_torchtune_weights(listing: Listing) -> Weights | None:
    """Return the weights of an epoch, None if the directory is not of torchtune.

    Raises:
        CheckpointError: The weights are not complete.
    """
    if not _EPOCH.fullmatch(listing.path.name):
        return None
    root = listing.path.absolute().parent
    if not (root / _RECIPE_STATE).is_dir():
        return None
    found = find_weights(listing)
    return None if found is None else replace(found, layout=NAME)
