"""A repository in the cache of the Hugging Face hub, opened as a run."""

from pathlib import Path

from altgrad_inspect.checkpoints.candidates import OpenedCandidate, open_candidate
from altgrad_inspect.checkpoints.layouts.hub_cache import (
    MAIN,
    SNAPSHOTS,
    HubCacheLayout,
    Revision,
    describe_missing,
    find_way_out,
    name_revision,
    read_revisions,
)
from altgrad_inspect.checkpoints.layouts.listing import Candidate, Listing
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError, NothingMatchedError

_MOST_SHOWN = 5


def open_hub_cache(listing: Listing) -> tuple[list[OpenedCandidate], list[str]]:
    """Open the revisions that are steps; if there are none, the one model that is there.

    Returns:
        The candidates, at least one, and notes.

    Raises:
        NothingMatchedError: No branch tells a step, and it is not clear which one is meant.
    """
    repository = listing.path
    revisions = read_revisions(repository)
    steps = [one for one in revisions if one.step is not None]
    if not steps:
        candidate, notes = _choose_one(repository, revisions)
        return [_open(repository, candidate)], notes
    others = [one.name for one in revisions if one.step is None]
    opened = [
        _open(repository, name_revision(repository, one), missing=describe_missing(repository, one))
        for one in steps
    ]
    return opened, _note_others(repository, others)


def _open(repository: Path, candidate: Candidate, missing: str | None = None) -> OpenedCandidate:
    way_out = find_way_out(repository, candidate.path)
    if way_out is not None:
        problem = (
            f"{display_name(str(way_out))}: is a link out of the repository, expected one to a "
            "file in its blobs (do not trust this cache, or name a copy of the files)"
        )
    elif missing is not None and not candidate.path.is_dir():
        problem = missing
    else:
        return open_candidate(candidate)
    return OpenedCandidate(
        candidate=candidate, step=candidate.step, problem=CheckpointError(problem)
    )


def _choose_one(repository: Path, revisions: tuple[Revision, ...]) -> tuple[Candidate, list[str]]:
    """Return ``main``, or the only snapshot."""
    main = next((one for one in revisions if one.name == MAIN and one.commit), None)
    if main is not None and (repository / SNAPSHOTS / str(main.commit)).is_dir():
        others = [one.name for one in revisions if one.name != MAIN]
        return name_revision(repository, main), _note_others(repository, others)
    snapshots = sorted(path for path in (repository / SNAPSHOTS).iterdir() if path.is_dir())
    if len(snapshots) == 1:
        return Candidate(path=snapshots[0], layout=HubCacheLayout.name), []
    msg = (
        f"{display_name(str(repository))}: holds {len(snapshots)} snapshots and no branch whose "
        "name tells a step, expected branches such as step1000 (name the snapshots one by one, "
        "in their order)"
    )
    raise NothingMatchedError(msg)


def _note_others(repository: Path, names: list[str]) -> list[str]:
    if not names:
        return []
    shown = ", ".join(display_name(name, limit=40) for name in names[:_MOST_SHOWN])
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return [f"{display_name(str(repository))}: no step of the run by its name: {shown}{more}"]
