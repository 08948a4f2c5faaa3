"""A rank against those of its peers: the same matrix in the other blocks and experts.

What a schedule or the early transient does to a layer it does to its peers as well. A decline
is a layer's *own* where both of these are below the lower quartile of its peers, at the same
step, by more than the layer's threshold and by more than healthy layers wander:

- what is left of its first value. Counted from the first one on, so that a layer which comes
  down one checkpoint after the others is not accused;
- the value itself. So a layer that only comes down to where its peers are is not accused.

Blind where a quarter of the peers has the fault too, and below `MIN_PEERS` peers.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Final

from altgrad_inspect.roles import peer_group
from altgrad_inspect.trends.track import Track

MIN_PEERS: Final = 3

MIN_OTHERS: Final = 8

GroupKey = tuple[str, str]
"""Name of the peer group, and metric."""


def find_group(track: Track) -> GroupKey:
    """Return the group of layers and the metric that ``track`` is compared within."""
    return peer_group(track.series.layer), track.series.metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """How far the other matrices of the run moved, in ln(metric).

    Attributes:
        upper: Upper quartile of their distances, up or down; at least 0.
        fall: The fall in the middle; negative for a rise.
    """

    upper: float
    fall: float


class PeerRanks:
    """All ranks of a run, by group.

    Args:
        tracks: Those of all layers.
    """

    def __init__(self, tracks: Iterable[Track]) -> None:
        self._tracks: dict[str, list[Track]] = defaultdict(list)
        self._groups: dict[GroupKey, list[Track]] = defaultdict(list)
        for track in tracks:
            self._groups[find_group(track)].append(track)
            self._tracks[track.series.metric].append(track)
        self._seen: dict[tuple[GroupKey, int], list[tuple[Track, float, float]]] = {}

    def list_groups(self) -> list[tuple[GroupKey, list[Track]]]:
        """Return every group with its members, sorted."""
        return sorted(self._groups.items(), key=lambda item: item[0])

    def find_own_fall(self, track: Track, step: int) -> float | None:
        """Return how much further a layer fell than its peers, in ln(metric).

        Args:
            track: The layer's.
            step: When.

        Returns:
            The lesser of the two distances at the head of this file, negative for a layer
            that does better than its peers; None with fewer than `MIN_PEERS` peers.
        """
        log = track.find_log(step)
        others = [
            (other_log, change)
            for other, other_log, change in self._look(find_group(track), step)
            if other is not track
        ]
        if log is None or len(others) < MIN_PEERS:
            return None
        level = quantiles([one for one, _ in others], n=4, method="inclusive")[0]
        change = quantiles([one for _, one in others], n=4, method="inclusive")[0]
        return min(level - log, change - (log - track.logs[0]))

    def find_course(self, track: Track) -> tuple[float, ...] | None:
        """Return what is left of the first value of its peers, in the middle.

        Returns:
            The median change of ln(metric) since the first value at each step of ``track``;
            None with fewer than `MIN_PEERS` peers at any of them.
        """
        course = []
        for step in track.steps:
            seen = self._look(find_group(track), step)
            changes = [change for other, _, change in seen if other is not track]
            if len(changes) < MIN_PEERS:
                return None
            course.append(median(changes))
        return tuple(course)

    def measure_motion(self, track: Track, steps: tuple[int, int]) -> Motion | None:
        """Return how far all others went meanwhile; None with fewer than `MIN_OTHERS`.

        Args:
            track: The layer's, left out; only others of its metric count.
            steps: From and to.
        """
        falls = []
        for other in self._tracks[track.series.metric]:
            before, after = (other.find_log(step) for step in steps)
            if other is not track and before is not None and after is not None:
                falls.append(before - after)
        if len(falls) < MIN_OTHERS:
            return None
        upper = quantiles([abs(fall) for fall in falls], n=4, method="inclusive")[2]
        return Motion(upper=upper, fall=median(falls))

    def _look(self, group: GroupKey, step: int) -> list[tuple[Track, float, float]]:
        """Return the members with a value by ``step``, that ln(value), and its change so far."""
        if (group, step) not in self._seen:
            values = ((track, track.find_log(step)) for track in self._groups[group])
            self._seen[group, step] = [
                (track, log, log - track.logs[0]) for track, log in values if log is not None
            ]
        return self._seen[group, step]
