"""From what the user names to an ordered run."""

import difflib
import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from altgrad_inspect.checkpoints.assemblies import NANOTRON
from altgrad_inspect.checkpoints.candidates import OpenedCandidate, name_candidate, open_candidate
from altgrad_inspect.checkpoints.hub_runs import open_hub_cache
from altgrad_inspect.checkpoints.layouts import LAYOUTS
from altgrad_inspect.checkpoints.layouts.components import (
    PIPELINE,
    DiffusersLayout,
    describe_foreign_components,
    find_set_aside,
    is_pipeline,
)
from altgrad_inspect.checkpoints.layouts.contents import is_nested_checkpoint
from altgrad_inspect.checkpoints.layouts.families import require_one_family
from altgrad_inspect.checkpoints.layouts.flat import FlatLayout
from altgrad_inspect.checkpoints.layouts.foreign import describe_foreign_directory
from altgrad_inspect.checkpoints.layouts.hub_cache import is_hub_cache
from altgrad_inspect.checkpoints.layouts.listing import (
    WEIGHTS_SUFFIX,
    Candidate,
    Listing,
    read_listing,
)
from altgrad_inspect.checkpoints.layouts.nanotron import read_latest
from altgrad_inspect.checkpoints.layouts.olmo import find_unsharded_twins
from altgrad_inspect.checkpoints.layouts.single import SingleLayout
from altgrad_inspect.checkpoints.layouts.step_directories import StepDirectoriesLayout
from altgrad_inspect.checkpoints.layouts.step_names import is_set_aside, is_shard_name
from altgrad_inspect.checkpoints.layouts.trainer import TrainerLayout
from altgrad_inspect.checkpoints.layouts.weights import MODEL_NAMES
from altgrad_inspect.checkpoints.ordering import note_latest
from altgrad_inspect.checkpoints.repeated_notes import fold_repeats
from altgrad_inspect.checkpoints.runs import build_run
from altgrad_inspect.checkpoints.weight_index import INDEX_SUFFIX
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError, NothingMatchedError
from altgrad_inspect.refs import RunRef
from altgrad_inspect.settings import Order

_MOST_SHOWN: Final = 5
_MOST_SEARCHED: Final = 50


def discover_run(targets: Sequence[str | Path], *, order: Order = "step") -> RunRef:
    """Find the checkpoints of a run and put them in order.

    Args:
        targets: One directory, one glob, or checkpoints (files or directories, also globs).
        order: What decides: ``step``; ``name``, numbers by their value; or ``given``, the
            order of ``targets``. The latter two number the checkpoints from 0.

    Returns:
        At least one complete checkpoint; incomplete ones are in ``skipped`` with a note,
        unless they were named one by one.

    Raises:
        NothingMatchedError: A directory or a glob without any checkpoint.
        CheckpointError: A path that does not exist, a step that appears twice, a named
            checkpoint that cannot be used, or checkpoints of a kind that is not read.
        ConfigError: The order is ``given``, and one name stands for several checkpoints.
    """
    names = [str(target) for target in targets]
    if not names:
        msg = "no run was named, expected a directory, checkpoints or a glob (name one)"
        raise NothingMatchedError(msg)
    paths = [_expand(name) for name in names]
    if len(names) > 1:
        named = [path for matched in paths for path in matched]
        opened = [open_candidate(name_candidate(_checkpoint_in(path))) for path in named]
        return build_run(f"{names[0]} … {names[-1]}", opened, are_named=True, order=order)
    if paths[0] != [Path(names[0])]:
        return _discover_glob(names[0], paths[0], order)
    path = paths[0][0]
    if path.is_dir():
        return _discover_directory(names[0], path, order)
    checkpoint = _whole_checkpoint(path) if path.name.endswith(INDEX_SUFFIX) else path
    opened = [open_candidate(name_candidate(checkpoint))]
    return build_run(names[0], opened, are_named=True, order=order)


def _expand(name: str) -> list[Path]:
    """Return the path itself if it exists, else what it matches as a glob."""
    path = Path(name)
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        # Not Path.glob, which takes no absolute pattern.
        matched = sorted(glob.glob(name, recursive=True)) if glob.has_magic(name) else []  # noqa: PTH207
        if matched:
            return [Path(match) for match in matched]
        raise _missing(name, path) from error
    except OSError as error:
        msg = (
            f"{display_name(name)}: cannot be read: {error.strerror}, expected a readable "
            "directory or file (check its permissions)"
        )
        raise CheckpointError(msg) from error
    return [path]


def _missing(name: str, path: Path) -> CheckpointError | NothingMatchedError:
    shown = display_name(name)
    if glob.has_magic(name):
        msg = f"{shown}: matches nothing, expected at least one checkpoint (check the glob)"
        return NothingMatchedError(msg)
    if "://" in name:
        msg = f"{shown}: is a URL, expected a path (copy the run to this machine)"
        return CheckpointError(msg)
    ancestor = path
    while not ancestor.parent.is_dir() and ancestor.parent != ancestor:
        ancestor = ancestor.parent
    try:
        siblings = [entry.name for entry in ancestor.parent.iterdir()]
    except (OSError, ValueError):
        siblings = []
    close = difflib.get_close_matches(ancestor.name, siblings, n=1)
    advice = f"did you mean {display_name(str(ancestor.parent / close[0]))}?" if close else ""
    msg = f"{shown}: does not exist, expected a run ({advice or 'check the path'})"
    return CheckpointError(msg)


def _discover_glob(name: str, matched: Sequence[Path], order: Order) -> RunRef:
    paths: dict[Path, None] = {}
    ignored: list[str] = []
    asks_for_copies = is_set_aside(Path(name).name)  # e.g. checkpoint-*/unet_ema
    for path in matched:
        checkpoint = _whole_checkpoint(path)
        is_weights = checkpoint.is_dir() or checkpoint.name.endswith(WEIGHTS_SUFFIX)
        if is_weights and (asks_for_copies or not is_set_aside(checkpoint.name)):
            paths[checkpoint] = None
        else:
            ignored.append(f"{display_name(str(path))}: matched, and is no step of the run")
    candidates = [name_candidate(path) for path in paths]
    if all(one.layout == FlatLayout.name for one in candidates) and _lie_together(paths):
        require_one_family(name, next(iter(paths)).parent, candidates)
    opened = [open_candidate(candidate) for candidate in candidates]
    ignored += [str(one.problem) for one in opened if not one.has_weights and not one.is_foreign]
    found = [one for one in opened if one.has_weights or one.is_foreign]
    if not found:
        msg = (
            f"{display_name(name)}: matches {len(matched)} paths and no checkpoint, expected "
            f"{_examples()} (check the glob)"
        )
        raise NothingMatchedError(msg)
    return build_run(name, found, are_named=False, notes=ignored, order=order)


def _lie_together(paths: Iterable[Path]) -> bool:
    return len({path.parent for path in paths}) == 1


def _whole_checkpoint(path: Path) -> Path:
    """Return the directory for a file that only is a checkpoint with what lies beside it."""
    is_shard = path.name.endswith(WEIGHTS_SUFFIX) and is_shard_name(path.stem)
    group = name_candidate(path) if is_shard else None
    if group is not None and group.files:
        return group.path
    is_part = path.name.endswith(INDEX_SUFFIX) or is_shard
    is_whole_model = path.name.endswith(WEIGHTS_SUFFIX) and path.stem in MODEL_NAMES
    return path.parent if is_part or is_whole_model else path


def _checkpoint_in(path: Path) -> Path:
    """Return what of a path in a list of checkpoints is the checkpoint."""
    if not path.is_dir():
        return _whole_checkpoint(path) if path.name.endswith(INDEX_SUFFIX) else path
    listing = read_listing(path)
    flat = FlatLayout().find_candidates(listing)
    inside = [*TrainerLayout().find_candidates(listing), *flat]
    if len(inside) > 1 and not any(file.stem in MODEL_NAMES for file in listing.weight_files):
        msg = (
            f"{display_name(str(path))}: is a run of {len(inside)} checkpoints, expected one "
            "checkpoint (name the run alone, or its checkpoints)"
        )
        raise CheckpointError(msg)
    return flat[0].path if len(flat) == 1 == len(listing.weight_files) else path


def _discover_directory(name: str, path: Path, order: Order) -> RunRef:
    listing = read_listing(path)
    if is_hub_cache(listing):
        opened, notes = open_hub_cache(listing)
        return build_run(name, opened, are_named=False, notes=notes, order=order)
    notes = [*_note_set_aside(listing), *_note_links(listing)]
    in_directories = [
        open_candidate(candidate)
        for layout in (TrainerLayout(), StepDirectoriesLayout())
        for candidate in layout.find_candidates(listing)
    ]
    if any(one.has_weights for one in in_directories):
        steps, others = _split_off_others(in_directories)
        notes += [*_note_beside(listing), *others, *_note_unfinished(path, steps)]
        return build_run(name, steps, are_named=False, notes=notes, root=path, order=order)
    in_files = () if is_pipeline(listing) else FlatLayout().find_candidates(listing)
    if in_files:
        require_one_family(name, path, in_files)
        flat = [open_candidate(candidate) for candidate in in_files]
        notes += _note_unused(listing, in_files)
        return build_run(name, flat, are_named=False, notes=notes, root=path, order=order)
    if DiffusersLayout().find_candidates(listing):
        notes = _note_links(listing)  # which copies are kept apart is said with the components
    elif not (SingleLayout().find_candidates(listing) or is_nested_checkpoint(listing)):
        raise _nothing_found(name, listing, in_directories)
    opened = [open_candidate(name_candidate(path))]
    return build_run(name, opened, are_named=True, notes=notes, order=order)


def _split_off_others(
    opened: Sequence[OpenedCandidate],
) -> tuple[list[OpenedCandidate], list[str]]:
    """Take out what is no loss: sharded twins, directories without weights, bare numbers."""
    complete = [one for one in opened if one.problem is None]
    twins = {(one.candidate.stage, one.step) for one in complete}
    sharded = find_unsharded_twins(
        [one.candidate.path for one in opened], [one.candidate.path for one in complete]
    )
    steps: list[OpenedCandidate] = []
    notes: list[tuple[str, str]] = []
    for one in opened:
        shown = display_name(str(one.candidate.path))
        is_twin = (one.candidate.stage, one.step) in twins
        if one.candidate.path in sharded:
            notes.append((shown, f"{shown}: is not read, its unsharded copy is the same step"))
        elif one.has_weights or not (is_twin or one.candidate.unit == ""):
            steps.append(one)
        else:
            notes.append((shown, f"not read: {one.problem}"))
    return steps, fold_repeats(notes)


def _note_unfinished(root: Path, opened: Sequence[OpenedCandidate]) -> list[str]:
    steps = [
        one.step or 0
        for one in opened
        if one.weights is not None and one.weights.layout == NANOTRON
    ]
    return note_latest(str(root), max(steps), read_latest(root)) if steps else []


def _note_set_aside(listing: Listing) -> list[str]:
    aside = [file for file in listing.weight_files if is_set_aside(file.stem)]
    aside += find_set_aside(listing)
    return [f"{display_name(str(one))}: not a step of the run by its name" for one in aside]


def _note_links(listing: Listing) -> list[str]:
    return [
        f"{display_name(str(link))}: a link to another entry of the run"
        for link in listing.links
        if link.is_dir() or link.name.endswith(WEIGHTS_SUFFIX)
    ]


def _note_beside(listing: Listing) -> list[str]:
    usual = [file for file in listing.weight_files if not is_set_aside(file.stem)]
    usual += [file for file in listing.files if file.name == PIPELINE]
    if not usual:
        return []
    shown = display_name(str(usual[0]))
    return [f"{shown}: a model beside the checkpoints is not a step of the run"]


def _note_unused(listing: Listing, candidates: Sequence[Candidate]) -> list[str]:
    used = {file for one in candidates for file in (one.path, *one.files)}
    return [
        f"{display_name(str(file))}: has no step in its name and is not read"
        for file in listing.weight_files
        if file not in used and not is_set_aside(file.stem)
    ]


def _nothing_found(
    name: str, listing: Listing, opened: Sequence[OpenedCandidate]
) -> CheckpointError | NothingMatchedError:
    for one in opened:
        if one.is_foreign and one.problem is not None:
            return one.problem
    subject = display_name(name)
    foreign = describe_foreign_directory(listing) or describe_foreign_components(listing)
    if foreign is not None:
        file_name, what, advice = foreign
        msg = f"{subject}: holds {display_name(file_name)}, {what}, expected {_examples()}"
        return CheckpointError(f"{msg} ({advice})")
    shown = [f"{entry.name}/" for entry in listing.directories]
    shown += [entry.name for entry in listing.files]
    found = ", ".join(display_name(entry, limit=40) for entry in shown[:_MOST_SHOWN]) or "nothing"
    found += f" and {len(shown) - _MOST_SHOWN} more" if len(shown) > _MOST_SHOWN else ""
    run = _run_inside(listing)
    advice = f"did you mean {display_name(str(run))}?" if run else "name the directory of a run"
    if len(listing.weight_files) > 1:
        advice = "the names of its files tell no steps: name the files one by one, in their order"
    msg = f"{subject}: holds no checkpoints, expected {_examples()}; found {found} ({advice})"
    return NothingMatchedError(msg)


def _run_inside(listing: Listing) -> Path | None:
    for directory in listing.directories[:_MOST_SEARCHED]:
        try:
            inside = read_listing(directory)
        except CheckpointError:
            continue
        if any(layout.find_candidates(inside) for layout in LAYOUTS):
            return directory
    return None


def _examples() -> str:
    *first, last = (layout.example for layout in LAYOUTS)
    return f"{', '.join(first)} or {last}"
