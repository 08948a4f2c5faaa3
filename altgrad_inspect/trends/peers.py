"""What a layer is compared with: its peers, in the narrowest circle that says something.

The circles, from the narrowest: layers of the same name in other blocks; layers of the same
role; all matrices of the run. Matrices are compared with matrices and vectors (biases, norms)
with vectors, since a vector's weights sit nearly all at one place of the number format; and
the whole run is no circle for a vector.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import Final

import pyarrow as pa

from altgrad_inspect.roles import Role, find_role, peer_group

_VECTOR_ROLES: Final = frozenset({Role.NORM})


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerLevel:
    """What the peers of one layer do.

    Attributes:
        median: The median of their values.
        num_peers: How many they are, the layer itself not counted; at least 1.
    """

    median: float
    num_peers: int


class Peers:
    """The values of one moment, e.g. the flip fractions of one transition, in circles.

    Args:
        values: Layer to value; layers whose value says nothing are left out by the caller.
        matrices: Names of the layers that are matrices.
    """

    def __init__(self, values: Mapping[str, float], matrices: Collection[str]) -> None:
        self._values = values
        self._matrices = matrices
        self._members: dict[str, list[float]] = defaultdict(list)
        for layer, value in values.items():
            for circle in _circles(layer, is_matrix=layer in matrices):
                self._members[circle].append(value)
        for members in self._members.values():
            members.sort()

    def find_level(self, layer: str, *, least: float = 0.0) -> PeerLevel | None:
        """Return what the peers of ``layer`` do; None if it has no peers.

        Args:
            layer: Name of the layer, whether it has a value itself or not.
            least: A circle whose median is below this says nothing, and the next wider one
                is asked: when all layers of one name stopped together, their likes know.
        """
        for circle in _circles(layer, is_matrix=layer in self._matrices):
            peers = self._without(circle, layer)
            if peers:
                level = PeerLevel(median=median(peers), num_peers=len(peers))
                if level.median >= least:
                    return level
        return None

    def _without(self, circle: str, layer: str) -> list[float]:
        members = self._members.get(circle, [])
        if layer not in self._values:
            return members
        index = bisect_left(members, self._values[layer])
        return members[:index] + members[index + 1 :]


def find_matrices(layers: Collection[str], ranks: pa.Table | None) -> frozenset[str]:
    """Return which of ``layers`` are matrices: those with ranks; without ranks, by their names."""
    if ranks is not None:
        return frozenset(map(str, ranks.column("layer").unique().to_pylist()))
    return frozenset(
        layer
        for layer in layers
        if not layer.endswith("bias") and find_role(layer) not in _VECTOR_ROLES
    )


@lru_cache(maxsize=1 << 16)
def _circles(layer: str, *, is_matrix: bool) -> tuple[str, ...]:
    kind = "matrix" if is_matrix else "vector"
    role = find_role(layer)
    circles = [f"{kind} name {peer_group(layer)}"]
    if role is not Role.OTHER:
        circles.append(f"{kind} role {role}")
    if is_matrix:
        circles.append("matrix")
    return tuple(circles)
