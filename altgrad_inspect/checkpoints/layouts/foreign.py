"""Checkpoints that are not safetensors: said what they are, never opened."""

import re
from typing import Final

from altgrad_inspect.checkpoints.layouts.listing import Listing

_SAVE: Final = "where you trust it, load it with PyTorch and save it with safetensors.torch"
_CONVERT_DCP: Final = (
    "convert it with `python -m torch.distributed.checkpoint.format_utils dcp_to_torch`, "
    "then save the result with safetensors.torch.save_file"
)
_KINDS: Final = (
    (
        (".distcp",),
        "a torch distributed checkpoint (DCP)",
        _CONVERT_DCP,
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
    """Return the name of the first file that is a foreign checkpoint, what it is, and advice."""
    for file in listing.files:
        described = describe_foreign_file(file.name)
        if described is not None:
            return file.name, *described
    return None
