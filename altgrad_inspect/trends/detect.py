"""From tables to trend points, alerts and verdicts: the way into this package."""

from dataclasses import dataclass

import pyarrow as pa

from altgrad_inspect.checkpoints.selection import matches
from altgrad_inspect.records import Alert, TrendPoint, VerdictRecord
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.rules import RULES
from altgrad_inspect.trends.rules.evidence import Evidence
from altgrad_inspect.trends.series import Series, find_flip_series, find_rank_series
from altgrad_inspect.trends.verdicts import find_verdicts


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What the tables of a run say.

    Attributes:
        points: Rows of ``trends.parquet``.
        alerts: Rows of ``alerts.parquet``.
        verdicts: Rows of ``verdicts.parquet``, one a layer.
    """

    points: tuple[TrendPoint, ...]
    alerts: tuple[Alert, ...]
    verdicts: tuple[VerdictRecord, ...]


def diagnose(
    settings: TrendSettings,
    *,
    ranks: pa.Table | None = None,
    flips: pa.Table | None = None,
    checkpoints: pa.Table | None = None,
) -> Diagnosis:
    """Smooth every series of the tables, run every rule over them, and judge every layer.

    Args:
        settings: Smoothing, warm-up and thresholds.
        ranks: Table with the columns of ``RANKS``, or None.
        flips: Table with the columns of ``FLIPS``, or None.
        checkpoints: Table with the columns of ``CHECKPOINTS``, or None; its losses are used.

    Raises:
        ConfigError: A pattern in ``settings.critical_layers`` is empty or no regular expression.
    """
    evidence = Evidence(
        series=tuple(_find_series(settings, ranks, flips)),
        ranks=ranks,
        flips=flips,
        losses=_find_losses(checkpoints),
        settings=settings,
    )
    alerts = tuple(alert for rule in RULES for alert in rule(evidence))
    return Diagnosis(
        points=tuple(point for one in evidence.series for point in one.points),
        alerts=alerts,
        verdicts=tuple(find_verdicts(evidence, alerts)),
    )


def _find_series(
    settings: TrendSettings, ranks: pa.Table | None, flips: pa.Table | None
) -> list[Series]:
    series = []
    if ranks is not None:
        layers: list[str] = ranks.column("layer").to_pylist()  # type: ignore[assignment]
        critical = frozenset(
            layer
            for layer in set(layers)
            if any(matches(pattern, layer) for pattern in settings.critical_layers)
        )
        series += find_rank_series(ranks, settings, critical)
    if flips is not None:
        series += find_flip_series(flips, settings)
    return series


def _find_losses(checkpoints: pa.Table | None) -> tuple[tuple[int, float], ...]:
    if checkpoints is None:
        return ()
    rows = checkpoints.select(["step", "loss"]).to_pylist()
    known = [(int(row["step"]), float(row["loss"])) for row in rows if row["loss"] is not None]
    return tuple(sorted(known))
