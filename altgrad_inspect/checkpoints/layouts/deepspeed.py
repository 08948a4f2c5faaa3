"""DeepSpeed: ``global_step500/`` with a state a rank, in pickles, which are not read.

Format: DeepSpeed, ``runtime/engine.py:_get_ckpt_name`` and ``utils/zero_to_fp32.py``.
"""

import re
from typing import Final

from altgrad_inspect.checkpoints.layouts.conversion import quote_path
from altgrad_inspect.checkpoints.layouts.listing import Listing, read_listing
from altgrad_inspect.errors import CheckpointError

_STATES: Final = re.compile(
    r"((bf16_|fp16_)?zero_pp_rank_[0-9]+_)?mp_rank_[0-9]+_(model|optim)_states\.pt"
)
_TAG: Final = re.compile(r"global_step[0-9]{1,15}")


def explain_deepspeed(listing: Listing) -> tuple[str, str, str] | None:
    """Say how the states of all ranks are merged."""
    root, file = listing.path.parent, _find_states(listing)
    for directory in listing.directories if file is None else ():
        if _TAG.fullmatch(directory.name):
            try:
                inside = _find_states(read_listing(directory))
            except CheckpointError:
                continue
            if inside is not None:
                root, file = listing.path, f"{directory.name}/{inside}"
                break
    if file is None:
        return None
    advice = (
        f"where you trust it, merge it with `python zero_to_fp32.py {quote_path(root)} OUT "
        "--safe_serialization`; DeepSpeed puts that program there"
    )
    return file, "a checkpoint of DeepSpeed in pickles, one a rank", advice


def _find_states(listing: Listing) -> str | None:
    return next((file.name for file in listing.files if _STATES.fullmatch(file.name)), None)
