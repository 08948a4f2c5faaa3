"""What every rule is given, and how an alert is named."""

import json
from dataclasses import dataclass, field
from hashlib import blake2b

import pyarrow as pa

from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.layer_history import (
    LayerHistory,
    MatrixHistory,
    find_layer_histories,
    find_matrix_histories,
)
from altgrad_inspect.trends.peers import find_matrices
from altgrad_inspect.trends.series import Series


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that is known about a run.

    Attributes:
        series: Smoothed series, of ranks and of flips.
        ranks: The ranks table, if there is one.
        flips: The flips table, if there is one.
        losses: (step, mean training loss since the checkpoint before), ascending; empty if
            the run logged none.
        settings: Thresholds of the rules.
        layer_histories: The rows of ``flips``, by layer and quantizer.
        matrix_histories: What the rows of ``ranks`` say of the weights, by layer and matrix.
        matrices: Names of the layers that are matrices and not vectors.
    """

    series: tuple[Series, ...]
    ranks: pa.Table | None
    flips: pa.Table | None
    losses: tuple[tuple[int, float], ...] = ()
    settings: TrendSettings
    layer_histories: tuple[LayerHistory, ...] = field(init=False)
    matrix_histories: tuple[MatrixHistory, ...] = field(init=False)
    matrices: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        histories = find_layer_histories(self.flips)
        layers = {history.layer for history in histories}
        object.__setattr__(self, "layer_histories", histories)
        object.__setattr__(self, "matrix_histories", find_matrix_histories(self.ranks))
        object.__setattr__(self, "matrices", find_matrices(layers, self.ranks))


def build_fingerprint(rule: str, layer: str, matrix: int, metric: str) -> str:
    """Return the stable name of an alert: 16 hexadecimal digits.

    It does not depend on steps or numbers, so that a baseline of known alerts still knows
    them after more training.
    """
    parts = json.dumps([rule, layer, matrix, metric]).encode()
    return blake2b(parts, digest_size=8).hexdigest()
