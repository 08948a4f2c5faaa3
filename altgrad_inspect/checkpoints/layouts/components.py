"""Checkpoints of several models, one directory each: diffusers trainers and pipelines.

checkpoint-500/unet/diffusion_pytorch_model.safetensors
checkpoint-500/text_encoder/model.safetensors
checkpoint-500/unet_ema/diffusion_pytorch_model.safetensors    an average: kept apart

The directory becomes the first part of the layers' names: ``unet.conv_in.weight``. Adapters
that PEFT saves in directories of their names, and any other models side by side in the
directory of a step, are read in the same way; a model that is alone in its directory keeps
its names.

Source: diffusers: utils/constants.py, training_utils.py; peft: peft_model.py:save_pretrained.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from altgrad_inspect.checkpoints.assemblies import COMPONENTS
from altgrad_inspect.checkpoints.layouts.foreign import describe_foreign_directory
from altgrad_inspect.checkpoints.layouts.listing import Candidate, Listing, read_listing
from altgrad_inspect.checkpoints.layouts.step_names import is_set_aside, parse_step_name
from altgrad_inspect.checkpoints.layouts.weights import Weights, find_weights
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError

PIPELINE: Final = "model_index.json"
"""What says that a directory is a diffusers pipeline."""

_DIFFUSERS: Final = "diffusers"
_DIFFUSERS_WEIGHTS: Final = "diffusion_pytorch_model"
_DIFFUSERS_NAMES: Final = re.compile(
    r"(unet|transformer|text_encoder|image_encoder|vae|vqvae|movq|prior|controlnet|t2iadapter)"
    r"(_[0-9]+|_lora)?"
)
_NOT_COMPONENTS: Final = frozenset({"sharded"})
_MOST_COMPONENTS: Final = 64


class DiffusersLayout:
    """A pipeline, or what a diffusers trainer saved at one step."""

    name = _DIFFUSERS
    example = "unet/diffusion_pytorch_model.safetensors"

    def find_candidates(self, listing: Listing) -> tuple[Candidate, ...]:
        """Return the directory itself if it is one."""
        found = is_pipeline(listing) or (
            not listing.weight_files and _is_diffusers(_find_inside(listing))
        )
        return (Candidate(path=listing.path, layout=self.name),) if found else ()


def find_components(listing: Listing, *, is_step: bool) -> Weights | None:
    """Return the weight files of a checkpoint that holds its models in directories.

    Args:
        listing: Of the checkpoint.
        is_step: Its name says that it is one: then any models in it are its components, and
            not only those that diffusers would have put there.

    Returns:
        The files of all components; None if it has none, or has weights of its own and is
        no pipeline.

    Raises:
        CheckpointError: A component is incomplete.
    """
    if listing.weight_files and not is_pipeline(listing):
        return None
    inside = _find_inside(listing)
    is_diffusers = is_pipeline(listing) or _is_diffusers(inside)
    if not (is_diffusers or is_step):
        return None
    components = {name: find_weights(found) for name, found in inside.items()}
    complete = {name: found for name, found in components.items() if found is not None}
    if not complete:
        return None
    notes = _note_averages(listing)
    if len(complete) == 1 and not is_diffusers:
        (only,) = complete.values()
        return Weights(
            files=only.files, layer_files=only.layer_files, left_out=only.left_out, notes=notes
        )
    return _join(complete, layout=_DIFFUSERS if is_diffusers else None, notes=notes)


def _join(
    components: Mapping[str, Weights], *, layout: str | None, notes: tuple[str, ...]
) -> Weights:
    return Weights(
        files=tuple(file for found in components.values() for file in found.files),
        layer_files={
            f"{name}/{layer}": file_name
            for name, found in components.items()
            for layer, file_name in found.layer_files.items()
        },
        left_out=tuple(file for found in components.values() for file in found.left_out),
        components=components,
        assembly=COMPONENTS,
        layout=layout,
        notes=notes,
    )


def describe_foreign_components(listing: Listing) -> tuple[str, str, str] | None:
    """Say which file of a component is not read, what it is, and how to convert it."""
    for name, inside in _find_inside(listing).items():
        found = describe_foreign_directory(inside) if _DIFFUSERS_NAMES.fullmatch(name) else None
        if found is not None:
            file_name, what, advice = found
            return f"{name}/{file_name}", what, advice
    return None


def is_pipeline(listing: Listing) -> bool:
    """Say whether a directory is a diffusers pipeline, whatever else lies in it."""
    return any(file.name == PIPELINE for file in listing.files)


def find_set_aside(listing: Listing) -> list[Path]:
    """Return the directories of weights that their names keep apart from the steps of a run."""
    return [
        directory
        for directory in listing.directories
        if is_set_aside(directory.name) and _holds_weights(directory)
    ]


def _is_diffusers(inside: Mapping[str, Listing]) -> bool:
    return any(
        (_DIFFUSERS_NAMES.fullmatch(name) and found.weight_files)
        or any(file.name.startswith(f"{_DIFFUSERS_WEIGHTS}.") for file in found.weight_files)
        or any(file.name.startswith(f"{_DIFFUSERS_WEIGHTS}-") for file in found.weight_files)
        for name, found in inside.items()
    )


def _find_inside(listing: Listing) -> dict[str, Listing]:
    """List the directories that may be components."""
    names = [
        directory
        for directory in listing.directories
        if not is_set_aside(directory.name)
        and directory.name not in _NOT_COMPONENTS
        and not _is_step(directory)
    ]
    found = {}
    for directory in names[:_MOST_COMPONENTS]:
        try:
            found[directory.name] = read_listing(directory)
        except CheckpointError:
            continue
    return found


def _is_step(directory: Path) -> bool:
    """A step of a run, which is no component: ``checkpoint-500`` beside a final pipeline."""
    step = parse_step_name(directory.name)
    return directory.name.isdecimal() or (step is not None and step.unit != "")


def _note_averages(listing: Listing) -> tuple[str, ...]:
    """Say once a run, without the name of the checkpoint, which copies are kept apart."""
    aside = [directory.name for directory in find_set_aside(listing)]
    return tuple(
        f"{display_name(name)}/: a copy that is kept apart (to read it instead, name it by a "
        f"glob: '{display_name(str(listing.path.parent / '*' / name))}')"
        for name in aside
    )


def _holds_weights(directory: Path) -> bool:
    try:
        return bool(read_listing(directory).weight_files)
    except CheckpointError:
        return False
