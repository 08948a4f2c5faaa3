"""All ranks of a run side by side, as the rules about ranks need them."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.breaks import Break, find_breaks
from altgrad_inspect.trends.peer_ranks import MIN_PEERS, GroupKey, PeerRanks, find_group
from altgrad_inspect.trends.series import Series
from altgrad_inspect.trends.track import Track, find_tracks
from altgrad_inspect.trends.transient import (
    ABRUPT,
    IMPROVING,
    LATE,
    LEARNING,
    ORDINARY,
    OWN,
    SHARED,
    Judgement,
    is_early,
    judge_pace,
)

_SHARED_PART: Final = 0.5
_ORDINARY: Final = 6.5
_STEEP_SHARE: Final = 0.25
_STEEP_FALL: Final = 0.1
_NEWEST: Final = 4

Losses = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedBreak:
    """More than half of the layers of one name broke at one step.

    Attributes:
        group: Name of the peer group, and metric.
        step: When.
        members: (track, break) of those that broke.
        num_layers: How many there are.
    """

    group: GroupKey
    step: int
    members: tuple[tuple[Track, Break], ...]
    num_layers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fall:
    """A decline to be judged.

    Attributes:
        since: First step of what is judged; at least four values lie there or after.
        onset: Where it began.
        step: Where it is lowest.
        drop: How much it fell, below 1.
    """

    since: int
    onset: int
    step: int
    drop: float


class RankView:
    """Tracks, peers and breaks of a run.

    Args:
        series: All series of the run; those of other metrics are left out.
        losses: (step, loss), ascending.
        settings: Thresholds.
    """

    def __init__(self, series: Iterable[Series], losses: Losses, settings: TrendSettings) -> None:
        self.tracks = find_tracks(series)
        self.peers = PeerRanks(self.tracks)
        self.settings = settings
        self._losses = losses
        self._breaks = {
            _key(track): [
                one
                for one in find_breaks(
                    track.steps,
                    track.logs,
                    least_fall=track.log_threshold,
                    least_deviations=settings.break_deviations,
                )
                if one.index >= settings.warmup_checkpoints
            ]
            for track in self.tracks
        }
        self.shared_breaks = self._find_shared_breaks()
        self._shared_steps = {(one.group, one.step) for one in self.shared_breaks}
        self._num_tracks = Counter(track.series.metric for track in self.tracks)
        self._num_breaks = Counter(
            (track.series.metric, track.steps[one.index])
            for track in self.tracks
            for one in self._breaks[_key(track)]
        )

    def list_lone_breaks(self, track: Track) -> list[Break]:
        """Return the breaks that ``track`` shares with no majority of its peers."""
        group = find_group(track)
        return [
            one
            for one in self._breaks[_key(track)]
            if (group, track.steps[one.index]) not in self._shared_steps
        ]

    def find_shared_steps(self, track: Track, since: int) -> list[int]:
        """Return the steps from ``since`` on at which the whole role of ``track`` broke."""
        group = find_group(track)
        return sorted(step for name, step in self._shared_steps if name == group and step >= since)

    def is_run_wide(self, metric: str, step: int) -> bool:
        """Return whether more than half of all matrices broke at ``step``."""
        return 2 * self._num_breaks[metric, step] > self._num_tracks[metric]

    def is_loss_improving(self, step: int) -> bool:
        """Return whether the loss from ``step`` on is no higher than before; False if unknown."""
        before = [loss for at, loss in self._losses if at < step]
        after = [loss for at, loss in self._losses if at >= step]
        return bool(before and after) and max(after[0], after[-1]) <= before[-1]

    def is_learning(self, step: int) -> bool:
        """Return whether the run was in the steep part of its learning at ``step``.

        Of the loss's way down to ``step``, in ln(loss), the last three checkpoints made more
        than a quarter, and more than a tenth of the loss. False if it is not known.
        """
        losses = [math.log(loss) for at, loss in self._losses if at <= step and 0 < loss < math.inf]
        return bool(losses) and _is_steep(losses[0], losses[-_NEWEST:][0], losses[-1])

    def was_learning(self, step: int) -> bool:
        """Return whether the run had more than a quarter of its learning so far yet to do."""
        losses = [(at, math.log(loss)) for at, loss in self._losses if 0 < loss < math.inf]
        before = [log for at, log in losses if at < step]
        return bool(before) and _is_steep(before[0], before[-1], losses[-1][1])

    def is_own(self, track: Track, step: int) -> bool | None:
        """Return whether the fall of ``track`` by ``step`` is its own; None with too few peers."""
        fall = self.peers.find_own_fall(track, step)
        wander = -math.log1p(-self.settings.rank_wander_fraction)
        return None if fall is None else fall > max(track.log_threshold, wander)

    def judge(self, track: Track, fall: Fall) -> Judgement:
        """Judge a decline of ``track``; see `altgrad_inspect.trends.transient`."""
        shared = self.find_shared_steps(track, fall.since)
        own = self.is_own(track, fall.step)
        if shared and not own:
            return Judgement(
                is_fault=False,
                reason=f"Its whole role broke at step {shared[-1]}, which rank-break judges.",
            )
        judgement = OWN if own else self._judge_course(track, fall)
        if judgement.is_fault and self.is_ordinary(track, (fall.onset, fall.step)):
            return ORDINARY
        return LEARNING if judgement.is_fault and self.is_learning(fall.step) else judgement

    def _judge_course(self, track: Track, fall: Fall) -> Judgement:
        if any(
            track.steps[one.index] >= fall.since and self.is_accused(track, one)
            for one in self.list_lone_breaks(track)
        ):
            return ABRUPT
        first = sum(at < fall.since for at in track.steps)
        judgement = judge_pace(
            track.steps[first:], track.logs[first:], fall.drop, self.settings.rank_wander_fraction
        )
        if judgement.is_fault and self.is_shared(track, fall.step, -math.log1p(-fall.drop)):
            course = self.peers.find_course(track)
            if course is not None and is_early(track.steps[first:], course[first:]):
                return SHARED
            if self.is_loss_improving(fall.onset):
                return IMPROVING
        return LEARNING if judgement is LATE and self.was_learning(fall.onset) else judgement

    def is_ordinary(self, track: Track, steps: tuple[int, int]) -> bool:
        """Return whether the whole run was in such motion that a fall says nothing.

        So it is while a learning rate warms up: ranks go up and down everywhere. A fall is
        ordinary below `_ORDINARY` times the upper quartile of how far the others went, if the
        loss goes on improving or, where none is known, the others do not fall with it.

        Args:
            track: The layer's.
            steps: The first low value, and the lowest one.
        """
        before = max((at for at in track.steps if at < steps[0]), default=track.steps[0])
        motion = self.peers.measure_motion(track, (before, steps[1]))
        high, low = track.find_log(before), track.find_log(steps[1])
        if motion is None or high is None or low is None:
            return False
        fall = high - low
        if fall >= _ORDINARY * motion.upper:
            return False
        if self._losses:
            return self.is_loss_improving(steps[0])
        return motion.fall < _SHARED_PART * fall

    def is_shared(self, track: Track, step: int, fall: float) -> bool:
        """Return whether the peers of ``track`` lost as much since their first values.

        Args:
            track: The layer's.
            step: When.
            fall: What it lost, in ln(metric): half of that may be its own.
        """
        course, log = self.peers.find_course(track), track.find_log(step)
        if course is None or log is None:
            return False
        index = sum(at <= step for at in track.steps) - 1
        return course[index] - (log - track.logs[0]) < _SHARED_PART * fall

    def is_accused(self, track: Track, one: Break) -> bool:
        """Return whether a lone break is a fault."""
        return self.find_excuse(track, one) is None

    def find_excuse(self, track: Track, one: Break) -> str | None:
        """Return why a lone break is no fault; None if it is one.

        It is none if the layer only comes down like its peers did before it, if the whole run is
        in motion, if the run is in the steep part of its learning, or if most of it broke as
        well while the loss goes on improving.
        """
        step = track.steps[one.index]
        if self.is_shared(track, step, one.fall) or self.is_ordinary(track, (step, step)):
            return "Others of the run did the same by then."
        if self.is_learning(step):
            return "The run was still learning fast, as it is when healthy ranks fall."
        if self.is_run_wide(track.series.metric, step) and self.is_loss_improving(step):
            return "Most of the run did the same, while the loss went on improving."
        return None

    def _find_shared_breaks(self) -> list[SharedBreak]:
        found = []
        for group, tracks in self.peers.list_groups():
            layers = [track for track in tracks if track.logs]
            counts = Counter(
                track.steps[one.index] for track in layers for one in self._breaks[_key(track)]
            )
            for step, count in sorted(counts.items()):
                if len(layers) < MIN_PEERS or 2 * count <= len(layers):
                    continue
                found.append(
                    SharedBreak(
                        group=group,
                        step=step,
                        members=tuple(
                            (track, one)
                            for track in layers
                            for one in self._breaks[_key(track)]
                            if track.steps[one.index] == step
                        ),
                        num_layers=len(layers),
                    )
                )
        return found


def _is_steep(first: float, middle: float, last: float) -> bool:
    """Return whether the way from ``middle`` on was a large part of all of it, in ln(loss)."""
    return middle - last > max(_STEEP_SHARE * (first - last), -math.log1p(-_STEEP_FALL))


def _key(track: Track) -> tuple[str, int, str]:
    return track.series.layer, track.series.matrix, track.series.metric
