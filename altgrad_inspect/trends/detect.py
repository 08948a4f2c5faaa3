"""From tables to trend points and alerts: the way into this package."""

import pyarrow as pa

from altgrad_inspect.checkpoints.selection import matches
from altgrad_inspect.records import Alert, TrendPoint
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.rules import RULES
from altgrad_inspect.trends.rules.evidence import Evidence
from altgrad_inspect.trends.series import find_flip_series, find_rank_series


def find_trends(
    ranks: pa.Table | None, settings: TrendSettings, flips: pa.Table | None = None
) -> tuple[list[TrendPoint], list[Alert]]:
    """Smooth every series of the tables and run every rule over them.

    Args:
        ranks: Table with the columns of ``RANKS``, or None.
        settings: Smoothing, warm-up and thresholds.
        flips: Table with the columns of ``FLIPS``, or None.

    Returns:
        Rows of ``trends.parquet``: stable and effective rank of the weights of every matrix,
        and ``flip_fraction[quantizer]`` of every layer; and rows of ``alerts.parquet``.

    Raises:
        ConfigError: A pattern in ``settings.critical_layers`` is empty or no regular expression.
    """
    series = []
    if ranks is not None:
        critical = frozenset(
            layer
            for layer in {str(name) for name in ranks.column("layer").to_pylist()}
            if any(matches(pattern, layer) for pattern in settings.critical_layers)
        )
        series += find_rank_series(ranks, settings, critical)
    if flips is not None:
        series += find_flip_series(flips, settings)
    evidence = Evidence(series=tuple(series), ranks=ranks, flips=flips, settings=settings)
    points = [point for one in series for point in one.points]
    return points, [alert for rule in RULES for alert in rule(evidence)]
