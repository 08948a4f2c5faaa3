"""Checkpoints that are not safetensors: said what they are, never opened."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from altgrad_inspect.checkpoints.layouts.accelerate import explain_fsdp
from altgrad_inspect.checkpoints.layouts.conversion import convert_dcp
from altgrad_inspect.checkpoints.layouts.deepspeed import explain_deepspeed
from altgrad_inspect.checkpoints.layouts.listing import Listing
from altgrad_inspect.checkpoints.layouts.litgpt import explain_litgpt
from altgrad_inspect.checkpoints.layouts.megatron import explain_megatron
from altgrad_inspect.checkpoints.layouts.olmo import explain_olmo
from altgrad_inspect.checkpoints.layouts.torchtitan import explain_torchtitan

EXPLANATIONS: Final[tuple[Callable[[Listing], tuple[str, str, str] | None], ...]] = (
    explain_megatron,
    explain_litgpt,
    explain_deepspeed,
    explain_fsdp,
    explain_olmo,
    explain_torchtitan,
)
"""Layouts that are known and not read: each says what it found, what that is, and advice."""

_SAVE: Final = "where you trust it, load it with PyTorch and save it with safetensors.torch"
_DCP_SUFFIX: Final = ".distcp"
_KINDS: Final = (
    (
        (_DCP_SUFFIX,),
        "a torch distributed checkpoint (DCP)",
        convert_dcp(Path("DIRECTORY")),
    ),
    (
        (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt"),
        "a pickle, which can run code and is never opened",
        f"{_SAVE}.save_file",
    ),
    ((".npz", ".npy"), "numpy arrays", "save them with safetensors.numpy.save_file"),
    ((".gguf",), "a GGUF file", "use the checkpoint it was made from"),
    ((".h5", ".hdf5", ".keras"), "an HDF5 file", "convert it to safetensors"),
    ((".msgpack",), "a Flax checkpoint", "save it with safetensors.flax.save_file"),
    ((".onnx",), "an ONNX file", "use the checkpoint it was made from"),
)
_NOT_WEIGHTS: Final = re.compile(
    r"(optimizer|scheduler|scaler|sampler|rng_state|random_states|training_args|dataloader)"
    r"[-_.0-9a-z]*\.(pt|pth|bin|pkl)"
)


def describe_foreign_file(name: str) -> tuple[str, str] | None:
    """Say what a file is by its name, and how to convert it; None if it is not a checkpoint."""
    lowered = name.lower()
    if _NOT_WEIGHTS.fullmatch(lowered):
        return None
    for suffixes, what, advice in _KINDS:
        if lowered.endswith(suffixes):
            return what, advice
    return None


def describe_foreign_directory(listing: Listing) -> tuple[str, str, str] | None:
    """Return the name of the first entry that is a foreign checkpoint, what it is, and advice."""
    for explain in EXPLANATIONS:
        explained = explain(listing)
        if explained is not None:
            return explained
    for file in listing.files:
        described = describe_foreign_file(file.name)
        if described is not None and file.name.endswith(_DCP_SUFFIX):
            return file.name, described[0], convert_dcp(listing.path)
        if described is not None:
            return file.name, *described
    return None
