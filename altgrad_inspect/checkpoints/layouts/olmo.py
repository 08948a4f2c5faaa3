"""OLMo: ``step1000-unsharded/model.safetensors`` of OLMo-1, distributed ones of OLMo-core.

Format: OLMo, ``olmo/train.py`` and ``olmo/safetensors_util.py``; OLMo-core,
``src/olmo_core/train/checkpoint.py``. Sharded checkpoints of either are pickles or torch
distributed checkpoints, which are not read.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from altgrad_inspect.checkpoints.layouts.conversion import quote_path
from altgrad_inspect.checkpoints.layouts.listing import Listing
from altgrad_inspect.checkpoints.layouts.weights import Weights, find_weights

NAME: Final = "olmo"
UNSHARDED: Final = "-unsharded"
_STEP: Final = re.compile(r"step[0-9]{1,15}")
_OLMO_CORE: Final = "model_and_optim"
_SHARDED: Final = frozenset({"model", "optim"})


def find_olmo_weights(listing: Listing) -> Weights | None:
    """Return the weights of an unsharded checkpoint, None if the directory is none.

    Raises:
        CheckpointError: The weights are not complete.
    """
    name = listing.path.name
    if not name.endswith(UNSHARDED) or not _STEP.fullmatch(name.removesuffix(UNSHARDED)):
        return None
    found = find_weights(listing)
    return None if found is None else replace(found, layout=NAME)


def explain_olmo(listing: Listing) -> tuple[str, str, str] | None:
    """Say how a sharded checkpoint of OLMo-core or OLMo-1 is converted."""
    names = {directory.name for directory in listing.directories}
    here = quote_path(listing.path)
    if _OLMO_CORE in names:
        advice = (
            "convert it with OLMo-core's `python src/examples/huggingface/"
            f"convert_checkpoint_to_hf.py -i {here} -o OUT`, which writes safetensors"
        )
        return f"{_OLMO_CORE}/", "a torch distributed checkpoint (DCP) of OLMo-core", advice
    if _STEP.fullmatch(listing.path.name) and names >= _SHARDED:
        advice = (
            "where you trust it, convert it with OLMo's `python scripts/unshard.py --model-only "
            f"--safe-tensors {here} {quote_path(_unsharded(listing.path))}`"
        )
        return "model/", "the shards of a checkpoint of OLMo-1, in pickles", advice
    return None


def find_unsharded_twins(paths: Iterable[Path], complete: Iterable[Path]) -> frozenset[Path]:
    """Return the sharded ones among ``paths`` whose unsharded ones are among ``complete``."""
    whole = frozenset(complete)
    return frozenset(
        path for path in paths if _STEP.fullmatch(path.name) and _unsharded(path) in whole
    )


def _unsharded(path: Path) -> Path:
    return path.with_name(path.name + UNSHARDED)
