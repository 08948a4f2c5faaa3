"""What a directory that is one checkpoint holds: the first layout that knows it decides."""

from collections.abc import Callable
from typing import Final

from altgrad_inspect.checkpoints.layouts.accelerate import find_accelerate_models
from altgrad_inspect.checkpoints.layouts.dcp_shards import find_dcp_shards
from altgrad_inspect.checkpoints.layouts.listing import Listing
from altgrad_inspect.checkpoints.layouts.nanotron import find_nanotron_weights
from altgrad_inspect.checkpoints.layouts.olmo import find_olmo_weights
from altgrad_inspect.checkpoints.layouts.torchtitan import find_torchtitan_weights
from altgrad_inspect.checkpoints.layouts.torchtune import find_torchtune_weights
from altgrad_inspect.checkpoints.layouts.weights import Weights, find_weights
from altgrad_inspect.errors import CheckpointError

FINDERS: Final[tuple[Callable[[Listing], Weights | None], ...]] = (
    find_nanotron_weights,
    find_torchtitan_weights,
    find_dcp_shards,
    find_accelerate_models,
    find_torchtune_weights,
    find_olmo_weights,
    find_weights,
)


def find_contents(listing: Listing) -> Weights | None:
    """Return the weights of a directory that is a checkpoint; None if it has none.

    Raises:
        CheckpointError: It has weights that are not complete.
    """
    for find in FINDERS:
        found = find(listing)
        if found is not None:
            return found
    return None


def is_nested_checkpoint(listing: Listing) -> bool:
    """Say whether a directory is a checkpoint whose weights lie in directories in it."""
    try:
        found = find_nanotron_weights(listing) or find_dcp_shards(listing)
    except CheckpointError:
        return True  # one that is not complete
    return found is not None
