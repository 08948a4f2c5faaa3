"""The cache of the Hugging Face hub: revisions of one repository, by commit.

models--org--name/refs/step1000                 the commit that the branch is at
models--org--name/snapshots/<commit>/...        links to ../../blobs/<digest>

A branch whose name tells a step is a checkpoint; others, such as ``main``, are not.

Source: huggingface_hub: file_download.py, constants.py.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from altgrad_inspect.checkpoints.layouts.listing import Candidate, Listing
from altgrad_inspect.checkpoints.layouts.step_names import StepName, parse_step_name
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.storage.local import LocalReader

REFS: Final = "refs"
SNAPSHOTS: Final = "snapshots"
MAIN: Final = "main"
_REPOSITORY: Final = "models--"
_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")
_NOT_BRANCHES: Final = "refs/"  # pull requests, and copies that the hub converted
_LARGEST_REF_BYTES: Final = 1024
_MOST_LEVELS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A branch or tag in the cache.

    Attributes:
        name: Its name, e.g. ``step1000``.
        step: The step that the name tells, None if it tells none.
        commit: What it is at; None if its file does not say.
    """

    name: str
    step: StepName | None
    commit: str | None


class HubCacheLayout:
    """The directory of one repository in the cache."""

    name = "hub-cache"
    example = "models--org--name/"

    def find_candidates(self, listing: Listing) -> tuple[Candidate, ...]:
        """Return the snapshots of the revisions that are steps; of ``main`` if none is."""
        if not is_hub_cache(listing):
            return ()
        revisions = read_revisions(listing.path)
        chosen = [one for one in revisions if one.step is not None] or [
            one for one in revisions if one.name == MAIN
        ]
        return tuple(name_revision(listing.path, one) for one in chosen)


def is_hub_cache(listing: Listing) -> bool:
    """Say whether a directory is that of one repository in a cache."""
    names = {directory.name for directory in listing.directories}
    return SNAPSHOTS in names and (REFS in names or listing.path.name.startswith(_REPOSITORY))


def name_revision(repository: Path, revision: Revision) -> Candidate:
    """Make a candidate of a revision; its path is that of the ref if that has no commit."""
    step = revision.step or StepName(step=0)
    return Candidate(
        path=repository / SNAPSHOTS / revision.commit
        if revision.commit
        else repository / REFS / revision.name,
        layout=HubCacheLayout.name,
        step=step.step if revision.step else None,
        stage=step.stage,
        unit=step.unit,
        label=f"{REFS}/{revision.name}",
    )


def read_revisions(repository: Path) -> tuple[Revision, ...]:
    """Read the branches and tags of a repository, sorted by name."""
    refs = repository / REFS
    found = []
    for path in _walk(refs, _MOST_LEVELS):
        name = path.relative_to(refs).as_posix()
        if not name.startswith(_NOT_BRANCHES):
            found.append(Revision(name=name, step=_parse(name), commit=_read_commit(path)))
    return tuple(sorted(found, key=lambda one: one.name))


def find_revision(snapshot: Path) -> Revision | None:
    """Return the revision with a step that is at a snapshot which the user named, if there is one.

    Where several are, the first by name.
    """
    path = snapshot.absolute()
    if path.parent.name != SNAPSHOTS or not (path.parent.parent / REFS).is_dir():
        return None
    revisions = read_revisions(path.parent.parent)
    return next((one for one in revisions if one.step and one.commit == path.name), None)


def find_way_out(repository: Path, snapshot: Path) -> Path | None:
    """Return an entry of a snapshot that is a link to somewhere outside of the repository."""
    home = repository.resolve()
    entries = [snapshot]
    for directory, directories, files in os.walk(snapshot):
        entries += [Path(directory) / name for name in (*directories, *files)]
    return next((entry for entry in entries if entry.is_symlink() and _leaves(entry, home)), None)


def _leaves(link: Path, home: Path) -> bool:
    try:
        return not link.resolve().is_relative_to(home)
    except (OSError, RuntimeError):  # a loop of links, which leads nowhere
        return False


def _walk(directory: Path, levels: int) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            yield directory / entry.name
        elif levels > 1 and not entry.is_symlink():
            yield from _walk(directory / entry.name, levels - 1)


def _parse(name: str) -> StepName | None:
    step = parse_step_name(name)
    return step if step is not None and (step.unit or name.isdecimal()) else None


def _read_commit(path: Path) -> str | None:
    """Return the commit in a ref; None if it is not one, so that it never leads elsewhere."""
    try:
        with LocalReader(path) as reader:
            content = reader.read(0, min(reader.size_bytes, _LARGEST_REF_BYTES))
    except CheckpointError:
        return None
    text = content.decode(errors="replace").strip()
    return text if _COMMIT.fullmatch(text) else None


def describe_missing(repository: Path, revision: Revision) -> str:
    """Say which snapshot is not there, and how to get it."""
    subject = display_name(str(repository / REFS / revision.name))
    if revision.commit is None:
        return f"{subject}: holds no commit, expected one (download that revision again)"
    return (
        f"{subject}: its snapshot {revision.commit[:12]} is not in the cache, expected it "
        f"(download revision {display_name(revision.name)} again)"
    )
