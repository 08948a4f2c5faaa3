"""Safetensors of torch's distributed checkpoints: ``shard-00001-model-00001-of-00001``.

Format: torch, ``distributed/checkpoint/hf_storage.py``: a file a rank, beside each other, or in
``sharded/`` where they are consolidated into ``model-00001-of-00002.safetensors``.
"""

from dataclasses import replace
from typing import Final

from altgrad_inspect.checkpoints.assemblies import DCP_SHARDS
from altgrad_inspect.checkpoints.assemblies.dcp_shards import FILE_NAME
from altgrad_inspect.checkpoints.layouts.listing import Listing, read_listing
from altgrad_inspect.checkpoints.layouts.weights import Weights, find_weights
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError

DIRECTORY: Final = "sharded"


def find_dcp_shards(listing: Listing) -> Weights | None:
    """Return the consolidated files of a checkpoint, else its shards; None if it has none.

    Raises:
        CheckpointError: It has neither as a whole.
    """
    shards = tuple(file for file in listing.weight_files if FILE_NAME.fullmatch(file.name))
    where = "the shards beside it"
    directory = next((one for one in listing.directories if one.name == DIRECTORY), None)
    if not shards and directory is not None:
        inside = read_listing(directory).weight_files
        shards = tuple(file for file in inside if FILE_NAME.fullmatch(file.name))
        where = f"{DIRECTORY}/"
    if not shards:
        return None
    others = tuple(file for file in listing.files if file not in shards)
    try:
        whole, trouble = find_weights(replace(listing, files=others)), None
    except CheckpointError as error:
        whole, trouble = None, error
    subject = display_name(str(listing.path))
    if whole is not None:
        note = f"{subject}: {where} holds the same weights in shards, which are not read again"
        return replace(whole, notes=(*whole.notes, note))
    notes = () if trouble is None else (f"{trouble}; the shards in {where} are read instead",)
    return Weights(files=shards, assembly=DCP_SHARDS, layout=DCP_SHARDS, notes=notes)
