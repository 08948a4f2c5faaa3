"""Which series a ranks table and a flips table hold, and what is asked of each."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import pyarrow as pa

from altgrad_inspect.records import TrendPoint
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.smooth import Thresholds, find_thresholds, smooth_series

RANK_METRICS: Final = ("stable_rank", "effective_rank")
"""Both, since each is blind where the other sees: a growing top singular value halves the
stable rank and leaves the effective rank; a decaying tail does the opposite."""

FLIP_METRIC: Final = "flip_fraction"

FADING_DROP: Final = 0.9
"""Flips below a tenth of their baseline fade; a schedule does that too, so never critical."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One metric of one matrix over the run, smoothed.

    Attributes:
        layer: Name of the layer.
        matrix: Index in a stack of matrices; 0 for a metric of the whole layer.
        metric: The column that is smoothed; for flips with the quantizer, as in
            ``flip_fraction[e4m3:tensor:amax]``.
        points: One a step, in order; never empty.
    """

    layer: str
    matrix: int
    metric: str
    points: tuple[TrendPoint, ...]


def build_series(
    *,
    layer: str,
    matrix: int,
    metric: str,
    values: Iterable[tuple[int, float | None]],
    settings: TrendSettings,
    thresholds: Thresholds,
) -> Series:
    """Smooth one metric of one matrix.

    Args:
        layer: Name of the layer.
        matrix: Index in a stack of matrices, else 0.
        metric: Name of the metric.
        values: (step, value) in any order, each step once; None where it is undefined.
        settings: Smoothing and warm-up.
        thresholds: When a drop is a warning and when it is critical.
    """
    ordered = sorted(values, key=lambda pair: pair[0])
    smoothed = smooth_series(
        [step for step, _ in ordered], [value for _, value in ordered], settings, thresholds
    )
    points = tuple(
        TrendPoint(
            layer=layer,
            matrix=matrix,
            metric=metric,
            step=point.step,
            value=point.value,
            ema=point.ema,
            baseline=point.baseline,
            drop_fraction=point.drop_fraction,
            threshold=thresholds.warning,
            state=point.state,
        )
        for point in smoothed
    )
    return Series(layer=layer, matrix=matrix, metric=metric, points=points)


def find_rank_series(
    ranks: pa.Table, settings: TrendSettings, critical_layers: frozenset[str]
) -> list[Series]:
    """Return two series a matrix: its stable and its effective rank, of the weights.

    Args:
        ranks: Table with the columns of ``RANKS``, in any order; rows about updates are
            left out.
        settings: Smoothing, warm-up and the threshold.
        critical_layers: Names of the layers that get half of the threshold.

    Returns:
        Sorted by layer, then matrix; at each the metrics in the order of `RANK_METRICS`.
    """
    names = ("layer", "matrix", "step", "subject", *RANK_METRICS)
    rows = zip(*(ranks.column(name).to_pylist() for name in names), strict=True)
    weights = sorted((row for row in rows if row[3] == "weight"), key=lambda row: row[:3])
    series = []
    for (layer, matrix), group in groupby(weights, key=lambda row: row[:2]):
        threshold = settings.rank_drop_threshold
        thresholds = find_thresholds(threshold / 2 if layer in critical_layers else threshold)
        members = list(group)
        series += [
            build_series(
                layer=layer,
                matrix=matrix,
                metric=metric,
                values=[(row[2], row[index]) for row in members],
                settings=settings,
                thresholds=thresholds,
            )
            for index, metric in enumerate(RANK_METRICS, start=4)
        ]
    return series


def find_flip_series(flips: pa.Table, settings: TrendSettings) -> list[Series]:
    """Return one series a layer and quantizer: the flip fraction of each transition.

    Args:
        flips: Table with the columns of ``FLIPS``, in any order.
        settings: Smoothing and warm-up.

    Returns:
        Sorted by layer, then quantizer; the step of a point is that of the later checkpoint.
    """
    names = ("layer", "quantizer", "step_to", FLIP_METRIC)
    columns = (flips.column(name).to_pylist() for name in names)
    rows = sorted(zip(*columns, strict=True), key=lambda row: row[:3])
    return [
        build_series(
            layer=layer,
            matrix=0,
            metric=f"{FLIP_METRIC}[{quantizer}]",
            values=[(row[2], row[3]) for row in group],
            settings=settings,
            thresholds=Thresholds(warning=FADING_DROP, critical=None),
        )
        for (layer, quantizer), group in groupby(rows, key=lambda row: row[:2])
    ]
