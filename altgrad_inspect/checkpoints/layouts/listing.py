"""What a layout sees of a directory, and what it makes of it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError

WEIGHTS_SUFFIX: Final = ".safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The entries of one directory, hidden ones left out, each kind sorted by name.

    Attributes:
        path: The directory.
        directories: Directories in it, also linked ones.
        files: Everything else in it.
        links: Links to another entry of the same directory, which are in neither of those.
    """

    path: Path
    directories: tuple[Path, ...]
    files: tuple[Path, ...]
    links: tuple[Path, ...]

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """The safetensors files."""
        return tuple(file for file in self.files if file.name.endswith(WEIGHTS_SUFFIX))


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A directory or file that a layout takes for a checkpoint.

    Attributes:
        path: The directory or file.
        layout: The layout's name.
        step: The step that its name gives, None if it gives none.
        stage: The stage that its name gives, else 0.
        unit: What the number in its name counts, e.g. ``"step"``; empty if it does not say.
        files: Its shards, where they lie beside those of others; then ``path`` is the first.
        label: What tells the step, where that is not the path: ``refs/step1000``.
    """

    path: Path
    layout: str
    step: int | None = None
    stage: int = 0
    unit: str = ""
    label: str = ""
    files: tuple[Path, ...] = ()


class Layout(Protocol):
    """A way in which runs lie on disk."""

    @property
    def name(self) -> str:
        """One word for messages and tables."""
        ...

    @property
    def example(self) -> str:
        """What a checkpoint of this layout is called, for messages."""
        ...

    def find_candidates(self, listing: Listing) -> tuple[Candidate, ...]:
        """Return what in the directory is a checkpoint by its name, in any order."""
        ...


def read_listing(directory: Path) -> Listing:
    """List a directory.

    Raises:
        CheckpointError: It cannot be listed.
    """
    directories: list[Path] = []
    files: list[Path] = []
    links: list[Path] = []
    try:
        home = directory.resolve()
        with os.scandir(directory) as entries:
            found = sorted((entry for entry in entries), key=lambda entry: entry.name)
        for entry in found:
            path = directory / entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and _link_parent(path) == home:
                links.append(path)
            elif _is_directory(entry):
                directories.append(path)
            else:
                files.append(path)
    except OSError as error:
        msg = (
            f"{display_name(str(directory))}: cannot be listed: {error.strerror}, expected a "
            "readable directory (check its permissions)"
        )
        raise CheckpointError(msg) from error
    return Listing(
        path=directory, directories=tuple(directories), files=tuple(files), links=tuple(links)
    )


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links, which only matters to who opens it
        return False


def _link_parent(link: Path) -> Path | None:
    try:
        return link.resolve().parent
    except (OSError, RuntimeError):  # a loop of links
        return None
