"""What every rule is given, and how an alert is named."""

import json
from dataclasses import dataclass
from hashlib import blake2b

import pyarrow as pa

from altgrad_inspect.settings import TrendSettings
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
    """

    series: tuple[Series, ...]
    ranks: pa.Table | None
    flips: pa.Table | None
    losses: tuple[tuple[int, float], ...] = ()
    settings: TrendSettings


def build_fingerprint(rule: str, layer: str, matrix: int, metric: str) -> str:
    """Return the stable name of an alert: 16 hexadecimal digits.

    It does not depend on steps or numbers, so that a baseline of known alerts still knows
    them after more training.
    """
    parts = json.dumps([rule, layer, matrix, metric]).encode()
    return blake2b(parts, digest_size=8).hexdigest()
