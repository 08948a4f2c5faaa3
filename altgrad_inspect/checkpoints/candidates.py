"""What looked like a checkpoint by its name, opened: its step, its files, what is wrong."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from altgrad_inspect.checkpoints.assemblies import DCP_SHARDS, OLMO, assemble_layers
from altgrad_inspect.checkpoints.assemblies.olmo import has_olmo_keys
from altgrad_inspect.checkpoints.layouts.components import (
    describe_foreign_components,
    find_components,
    is_pipeline,
)
from altgrad_inspect.checkpoints.layouts.contents import find_contents
from altgrad_inspect.checkpoints.layouts.dcp_shards import DIRECTORY as SHARDED
from altgrad_inspect.checkpoints.layouts.flat import FlatLayout, find_flat
from altgrad_inspect.checkpoints.layouts.foreign import (
    describe_foreign_directory,
    describe_foreign_file,
)
from altgrad_inspect.checkpoints.layouts.hub_cache import find_revision, name_revision
from altgrad_inspect.checkpoints.layouts.listing import Candidate, Listing, read_listing
from altgrad_inspect.checkpoints.layouts.nanotron import METADATA_NAME, read_last_train_step
from altgrad_inspect.checkpoints.layouts.single import SingleLayout
from altgrad_inspect.checkpoints.layouts.step_directories import StepDirectoriesLayout
from altgrad_inspect.checkpoints.layouts.step_names import is_shard_name, parse_step_name
from altgrad_inspect.checkpoints.layouts.trainer import TrainerLayout
from altgrad_inspect.checkpoints.layouts.weights import (
    MODEL_NAMES,
    Weights,
    check_weights,
    find_stem,
    shard_stem,
)
from altgrad_inspect.checkpoints.trainer_state import FILE_NAME, read_global_step
from altgrad_inspect.checkpoints.weight_index import INDEX_SUFFIX
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.refs import PLAIN, CheckpointRef

_STEP_FILES: Final[tuple[tuple[str, Callable[[Path], int | None]], ...]] = (
    (FILE_NAME, read_global_step),
    (METADATA_NAME, read_last_train_step),
)
"""Where trainers write down the step of a checkpoint, and how it is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedCandidate:
    """A candidate after a look at its files.

    Attributes:
        candidate: What it was taken for.
        step: From the trainer's own file if there is one, else from the name, else None.
        weights: Its weight files; None if it has none, or ``problem`` hides them.
        problem: Why it cannot be used; None for a complete checkpoint.
        has_weights: There are weights, even if not all of them.
        is_foreign: There are weights of another kind, which are never opened.
        notes: What is worth a sentence.
        step_notes: How ``step`` was found, where that is worth one.
        shapes: Of its layers, where they are only known from the shards that are there.
    """

    candidate: Candidate
    step: int | None
    weights: Weights | None = None
    problem: CheckpointError | None = None
    has_weights: bool = True
    is_foreign: bool = False
    notes: tuple[str, ...] = ()
    step_notes: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        """The directory whose other files describe this checkpoint."""
        path = self.candidate.path
        return path if path.is_dir() else path.parent


def name_candidate(path: Path) -> Candidate:
    """Make a candidate of a directory or file that the user named.

    A file called ``model.safetensors`` has the step of its directory, and so has ``sharded/``.
    """
    named = Path.cwd() / path
    if named.name == SHARDED:
        return _at(path, name_candidate(path.absolute().parent))
    if path.is_dir():
        return _name_directory(path, named)
    if named.stem in MODEL_NAMES:
        return _at(path, name_candidate(path.absolute().parent))
    listing = Listing(path=named.parent, directories=(), files=(named,), links=())
    found = FlatLayout().find_candidates(listing)
    if found and not found[0].files:
        return _at(path, found[0])
    among_others = _find_among_others(path)
    if among_others is not None:
        return among_others
    by_word = _name_by_word(path, named)
    return by_word if by_word.unit else _step_above(path) or by_word


def _name_directory(path: Path, named: Path) -> Candidate:
    listing = Listing(path=named.parent, directories=(named,), files=(), links=())
    found = (
        *TrainerLayout().find_candidates(listing),
        *StepDirectoriesLayout().find_candidates(listing),
    )
    if found:
        return _at(path, found[0])
    revision = find_revision(path)
    if revision is not None:
        return replace(name_revision(path.parent.parent, revision), path=path)
    return _step_above(path) or _name_by_word(path, named)


def _name_by_word(path: Path, named: Path) -> Candidate:
    """A name that tells a step beside other words, e.g. ``best_step_7.safetensors``."""
    step = parse_step_name(named.stem) if path.suffix else None
    single = SingleLayout.name
    if step is None or step.unit == "":
        return Candidate(path=path, layout=single)
    return Candidate(path=path, layout=single, step=step.step, stage=step.stage, unit=step.unit)


def _find_among_others(path: Path) -> Candidate | None:
    """A file whose step, or what belongs to it, only shows beside the other files."""
    try:
        return find_flat(path, read_listing(path.parent))
    except CheckpointError:  # the file itself says what is wrong
        return None


def _step_above(path: Path) -> Candidate | None:
    """What has no step itself, in a directory that is called by one, e.g. ``step_7/unet``."""
    step = parse_step_name(path.absolute().parent.name)
    if step is None or step.unit == "":
        return None
    return Candidate(
        path=path, layout=SingleLayout.name, step=step.step, stage=step.stage, unit=step.unit
    )


def _at(path: Path, found: Candidate) -> Candidate:
    return Candidate(
        path=path, layout=found.layout, step=found.step, stage=found.stage, unit=found.unit
    )


def open_candidate(candidate: Candidate) -> OpenedCandidate:
    """Find the weights of a candidate and read their headers; never raises for its content."""
    is_directory = candidate.path.is_dir()
    step, step_notes = _read_step(candidate, is_directory=is_directory)
    try:
        weights = _find_in_directory(candidate) if is_directory else _open_file(candidate)
        if weights is not None:
            candidate = replace(candidate, layout=weights.layout or candidate.layout)
            weights, shapes = _check_assembly(candidate, weights)
            beside = (
                f"{display_name(str(file))}: lies beside the weights and is not read"
                for file in weights.left_out
            )
            return OpenedCandidate(
                candidate=candidate,
                step=step,
                weights=weights,
                notes=(*weights.notes, *beside),
                step_notes=step_notes,
                shapes=shapes,
            )
    except CheckpointError as error:
        return OpenedCandidate(candidate=candidate, step=step, problem=error, step_notes=step_notes)
    return _open_without_weights(candidate, step, step_notes)


def _check_assembly(
    candidate: Candidate, weights: Weights
) -> tuple[Weights, dict[str, tuple[int, ...]]]:
    """Read the headers, and see whether the files make whole layers where they hold parts."""
    headers = check_weights(weights)
    if weights.assembly == PLAIN and has_olmo_keys(headers):
        weights = replace(weights, assembly=OLMO)
    if weights.assembly == PLAIN:
        return weights, {}
    ref = CheckpointRef(
        step=0,
        path=candidate.path,
        layout=candidate.layout,
        files=weights.files,
        assembly=weights.assembly,
        layer_files=weights.layer_files,
    )
    layers, _ = assemble_layers(ref, headers)
    if weights.assembly != DCP_SHARDS:
        return weights, {}
    return weights, {name: layer.shape for name, layer in layers.items()}


def _read_step(candidate: Candidate, *, is_directory: bool) -> tuple[int | None, tuple[str, ...]]:
    subject = display_name(str(candidate.path))
    if not is_directory and candidate.path.stem not in MODEL_NAMES:
        return candidate.step, ()  # the file beside it describes other checkpoints too
    directory = candidate.path if is_directory else candidate.path.parent
    for name, read in _STEP_FILES:
        try:
            step = read(directory)
        except CheckpointError as error:
            return candidate.step, (f"{error}; the step is taken from the name",)
        if step is None:
            continue
        says_a_step = candidate.unit == "step" or name != FILE_NAME
        if says_a_step and candidate.step not in {step, None}:
            return step, (f"{subject}: its {name} says step {step}, which counts",)
        return step, ()
    return candidate.step, ()


def _find_in_directory(candidate: Candidate) -> Weights | None:
    listing = read_listing(candidate.path)
    is_step = candidate.unit != ""
    if is_pipeline(listing):
        return find_components(listing, is_step=is_step) or find_contents(listing)
    return find_contents(listing) or find_components(listing, is_step=is_step)


def _open_file(candidate: Candidate) -> Weights:
    path = candidate.path
    subject = display_name(str(path))
    stem = shard_stem(path.stem) if candidate.files else None
    group = find_stem(read_listing(path.parent), stem) if stem is not None else None
    if group is not None:
        return group
    foreign = describe_foreign_file(path.name)
    if foreign is not None:
        what, advice = foreign
        around = describe_foreign_directory(read_listing(path.parent))
        if around is not None and around[0] == path.name:
            _, what, advice = around
        msg = f"{subject}: is {what}, expected a safetensors file ({advice})"
        raise CheckpointError(msg)
    if path.name.endswith(INDEX_SUFFIX) or is_shard_name(path.stem):
        msg = (
            f"{subject}: is one part of a checkpoint, expected all of it "
            f"(name the directory {display_name(str(path.parent))})"
        )
        raise CheckpointError(msg)
    return Weights(files=(path,))


def _open_without_weights(
    candidate: Candidate, step: int | None, step_notes: tuple[str, ...]
) -> OpenedCandidate:
    subject = display_name(str(candidate.path))
    listing = read_listing(candidate.path)
    foreign = describe_foreign_directory(listing) or describe_foreign_components(listing)
    if len(listing.weight_files) > 1:
        shown = ", ".join(display_name(file.name, limit=60) for file in listing.weight_files[:2])
        msg = (
            f"{subject}: holds {len(listing.weight_files)} safetensors files, {shown} among them, "
            "and none is called model.safetensors, expected to know which one is the model (name "
            "the files by a glob)"
        )
    elif foreign is None:
        msg = (
            f"{subject}: holds no weights, expected model.safetensors or its shards "
            "(it is still being written, or is no checkpoint)"
        )
    else:
        file_name, what, advice = foreign
        msg = (
            f"{subject}: holds {display_name(file_name)}, {what}, expected safetensors files "
            f"({advice})"
        )
    return OpenedCandidate(
        candidate=candidate,
        step=step,
        problem=CheckpointError(msg),
        has_weights=False,
        is_foreign=foreign is not None,
        step_notes=step_notes,
    )
