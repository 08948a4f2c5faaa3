"""What looked like a checkpoint by its name, opened: its step, its files, what is wrong."""

from dataclasses import dataclass, replace
from pathlib import Path

from altgrad_inspect.checkpoints.layouts.components import find_components
from altgrad_inspect.checkpoints.layouts.flat import FlatLayout, find_flat
from altgrad_inspect.checkpoints.layouts.foreign import (
    describe_foreign_directory,
    describe_foreign_file,
)
from altgrad_inspect.checkpoints.layouts.hub_cache import find_revision, name_revision
from altgrad_inspect.checkpoints.layouts.listing import Candidate, Listing, read_listing
from altgrad_inspect.checkpoints.layouts.single import SingleLayout
from altgrad_inspect.checkpoints.layouts.step_directories import StepDirectoriesLayout
from altgrad_inspect.checkpoints.layouts.step_names import is_shard_name, parse_step_name
from altgrad_inspect.checkpoints.layouts.trainer import TrainerLayout
from altgrad_inspect.checkpoints.layouts.weights import (
    MODEL_NAMES,
    Weights,
    check_weights,
    find_stem,
    find_weights,
    shard_stem,
)
from altgrad_inspect.checkpoints.trainer_state import read_global_step
from altgrad_inspect.checkpoints.weight_index import INDEX_SUFFIX
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError


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
    """

    candidate: Candidate
    step: int | None
    weights: Weights | None = None
    problem: CheckpointError | None = None
    has_weights: bool = True
    is_foreign: bool = False
    notes: tuple[str, ...] = ()

    @property
    def directory(self) -> Path:
        """The directory whose other files describe this checkpoint."""
        path = self.candidate.path
        return path if path.is_dir() else path.parent


def name_candidate(path: Path) -> Candidate:
    """Make a candidate of a directory or file that the user named.

    A file called ``model.safetensors`` has the step of its directory.
    """
    named = Path.cwd() / path
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
    step, notes = _read_step(candidate, is_directory=is_directory)
    try:
        weights = _find_in_directory(candidate) if is_directory else _open_file(candidate)
        if weights is not None:
            check_weights(weights)
            notes += weights.notes
            notes += [
                f"{display_name(str(file))}: lies beside the weights and is not read"
                for file in weights.left_out
            ]
            return OpenedCandidate(
                candidate=candidate, step=step, weights=weights, notes=tuple(notes)
            )
    except CheckpointError as error:
        return OpenedCandidate(candidate=candidate, step=step, problem=error, notes=tuple(notes))
    return _open_without_weights(candidate, step, tuple(notes))


def _read_step(candidate: Candidate, *, is_directory: bool) -> tuple[int | None, list[str]]:
    subject = display_name(str(candidate.path))
    if not is_directory and candidate.path.stem not in MODEL_NAMES:
        return candidate.step, []  # the file beside it describes other checkpoints too
    try:
        step = read_global_step(candidate.path if is_directory else candidate.path.parent)
    except CheckpointError as error:
        return candidate.step, [f"{error}; the step is taken from the name"]
    if step is None:
        return candidate.step, []
    if candidate.unit == "step" and step != candidate.step:
        return step, [f"{subject}: its trainer_state.json says step {step}, which counts"]
    return step, []


def _find_in_directory(candidate: Candidate) -> Weights | None:
    listing = read_listing(candidate.path)
    return find_components(listing, is_step=candidate.unit != "") or find_weights(listing)


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
    candidate: Candidate, step: int | None, notes: tuple[str, ...]
) -> OpenedCandidate:
    subject = display_name(str(candidate.path))
    foreign = describe_foreign_directory(read_listing(candidate.path))
    weight_files = read_listing(candidate.path).weight_files
    if len(weight_files) > 1:
        shown = ", ".join(display_name(file.name, limit=60) for file in weight_files[:2])
        msg = (
            f"{subject}: holds {len(weight_files)} safetensors files, {shown} among them, and none "
            "is called model.safetensors, expected to know which one is the model (name the files "
            "by a glob)"
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
        notes=notes,
    )
