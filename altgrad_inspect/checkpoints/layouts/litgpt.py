"""litgpt: ``step-00001000/lit_model.pth``, which is a pickle and not read.

Format: litgpt, ``pretrain.py`` and ``scripts/convert_lit_checkpoint.py``.
"""

from typing import Final

from altgrad_inspect.checkpoints.layouts.conversion import SAVE, quote_path
from altgrad_inspect.checkpoints.layouts.listing import Listing

_FILES: Final = ("lit_model.pth", "lit_model.pth.lora")


def explain_litgpt(listing: Listing) -> tuple[str, str, str] | None:
    """Say how a checkpoint of litgpt is converted."""
    file = next((one for one in listing.files if one.name in _FILES), None)
    if file is None:
        return None
    advice = (
        "where you trust it, convert it with `litgpt convert_pretrained_checkpoint "
        f"{quote_path(listing.path)} CLEAN` (not needed after finetuning) and `litgpt "
        f"convert_from_litgpt CLEAN OUT`, load OUT/model.pth with PyTorch and {SAVE}"
    )
    return file.name, "a checkpoint of litgpt in a pickle, which can run code", advice
