"""A rank against its peers, and against the run."""

import math

import pytest

from altgrad_inspect.trends.peer_ranks import MIN_OTHERS, MIN_PEERS, PeerRanks, find_group
from altgrad_inspect.trends.track import Track, find_tracks
from tests.trends.courses import EFFECTIVE, STABLE, Courses, evidence_of

UP = "h.{}.mlp.c_fc"


def ranks_of(courses: Courses) -> tuple[PeerRanks, dict[str, Track]]:
    tracks = find_tracks(evidence_of(courses).series)
    by_name = {track.series.layer: track for track in tracks if track.series.metric == STABLE}
    return PeerRanks(tracks), by_name


def block(number: int, *values: float | None) -> Courses:
    return {(UP.format(number), STABLE): list(values)}


def test_what_is_left_and_what_there_is_are_compared() -> None:
    peers = {**block(1, 10, 10), **block(2, 20, 20), **block(3, 30, 30)}
    ranks, tracks = ranks_of({**peers, **block(0, 20, 5)})
    # The lower quartile of 10, 20, 30 in logarithms is that of 10 and 20 in the middle.
    level = (math.log(10) + math.log(20)) / 2 - math.log(5)
    assert ranks.find_own_fall(tracks[UP.format(0)], 200) == pytest.approx(
        min(level, math.log(20 / 5))
    )
    assert ranks.find_own_fall(tracks[UP.format(3)], 200) == pytest.approx(0.0, abs=2)


def test_a_layer_that_comes_down_to_its_peers_did_not_fall_by_itself() -> None:
    peers = {**block(1, 5, 5), **block(2, 5, 5), **block(3, 5, 5)}
    ranks, tracks = ranks_of({**peers, **block(0, 20, 5)})
    assert ranks.find_own_fall(tracks[UP.format(0)], 200) == pytest.approx(0.0)


def test_a_layer_that_falls_like_its_peers_did_not_fall_by_itself() -> None:
    peers = {**block(1, 50, 25), **block(2, 50, 25), **block(3, 50, 25)}
    ranks, tracks = ranks_of({**peers, **block(0, 10, 5)})
    assert ranks.find_own_fall(tracks[UP.format(0)], 200) == pytest.approx(0.0)


@pytest.mark.parametrize("num_peers", [0, MIN_PEERS - 1, MIN_PEERS])
def test_too_few_peers_say_nothing(num_peers: int) -> None:
    courses: dict[tuple[str, str], list[float | None]] = {(UP.format(0), STABLE): [20.0, 5.0]}
    for number in range(1, num_peers + 1):
        courses[UP.format(number), STABLE] = [10.0, 10.0]
        courses[f"h.{number}.mlp.c_proj", STABLE] = [10.0, 10.0]
        courses[UP.format(number), EFFECTIVE] = [10.0, 10.0]
    courses[UP.format(9), STABLE] = [None, None]
    ranks, tracks = ranks_of(courses)
    known = num_peers >= MIN_PEERS
    assert (ranks.find_own_fall(tracks[UP.format(0)], 200) is not None) is known
    assert (ranks.find_course(tracks[UP.format(0)]) is not None) is known


def test_the_course_of_the_peers_is_their_median_change() -> None:
    peers = {
        **block(1, 10, 5, None),
        **block(2, 10, 2, 1),
        **block(3, 8, 8, 4),
        **block(4, 1, 1, 1),
    }
    ranks, tracks = ranks_of({**peers, **block(0, 20, 5, 5)})
    assert ranks.find_course(tracks[UP.format(0)]) == pytest.approx(
        (0.0, math.log(0.5) / 2, math.log(0.5))
    )


def test_the_group_is_name_and_metric() -> None:
    _, tracks = ranks_of(block(7, 1, 2))
    assert find_group(tracks[UP.format(7)]) == ("h.*.mlp.c_fc", STABLE)


def test_motion_is_that_of_all_others() -> None:
    courses: dict[tuple[str, str], list[float | None]] = {("own", STABLE): [10.0, 1.0]}
    for number in range(MIN_OTHERS):
        courses[f"layer-{number}", STABLE] = [1.0, 2.0 if number % 2 else 0.5]
        courses[f"layer-{number}", EFFECTIVE] = [1.0, 9.0]
    ranks, tracks = ranks_of(courses)
    motion = ranks.measure_motion(tracks["own"], (100, 200))
    assert motion is not None
    assert (motion.upper, motion.fall) == pytest.approx((math.log(2), 0.0))
    assert ranks.measure_motion(tracks["own"], (50, 200)) is None
    rising = {key: [1.0, 2.0] for key in courses if key[0] != "own"}
    ranks, tracks = ranks_of({("own", STABLE): [10.0, 1.0], **rising})
    motion = ranks.measure_motion(tracks["own"], (100, 200))
    assert motion is not None
    assert (motion.upper, motion.fall) == pytest.approx((math.log(2), -math.log(2)))
    del courses["layer-0", STABLE]
    ranks, tracks = ranks_of(courses)
    assert ranks.measure_motion(tracks["own"], (100, 200)) is None
