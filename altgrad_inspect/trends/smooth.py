"""One series of one metric: warm-up, baseline, exponential moving average, state.

Words, all over the checkpoints of one series in order:

- A *value* is null where the metric is undefined (a zero matrix, NaN weights). Null values
  take no part in anything below; at such a step the state before it is repeated.
- *Warm-up*: the value with index ``i`` (from 0) at step ``t`` belongs to it if
  ``i < warmup_checkpoints`` or ``t - t_first < warmup_fraction * (t_last - t_first)``, where
  ``t_first`` and ``t_last`` are the steps of the first and the last value.
- *Baseline*: with ``n`` values in the warm-up, the median of those from index ``n // 2`` on.
- *EMA*: e_1 = x_1, then e_t = a_t * x_t + (1 - a_t) * e_{t-1}. At the last value of the
  warm-up it restarts: there e is the baseline. So what comes before is for the eye only,
  and a wild start has no weight in what is judged.
- ``a_t`` is ``alpha``, or with a half-life ``1 - 2 ** (-(t - t_previous) / half_life_steps)``,
  so that uneven spacing forgets at an even pace.
- *Drop*: (baseline - e_t) / baseline, after the warm-up and for a baseline above zero.
- With fewer than ``MIN_VALUES`` values everything is ``insufficient``, not ``ok``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from altgrad_inspect.records import TrendState
from altgrad_inspect.settings import TrendSettings

MIN_VALUES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When a drop is worth a word.

    Attributes:
        warning: Drops above this are a warning, in (0, 1).
        critical: Drops above this are critical, in (0, 1); never if None.
    """

    warning: float
    critical: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothedPoint:
    """One step of a smoothed series; the fields are columns of ``trends.parquet``."""

    step: int
    value: float | None
    ema: float | None
    baseline: float | None
    drop_fraction: float | None
    state: TrendState


def find_warmup(steps: Sequence[int], settings: TrendSettings) -> int:
    """Return how many of the values belong to the warm-up: at least 1, at most all.

    Args:
        steps: Strictly increasing steps of the values, at least one.
        settings: Uses ``warmup_checkpoints`` and ``warmup_fraction``.
    """
    end = steps[0] + settings.warmup_fraction * (steps[-1] - steps[0])
    by_steps = sum(step < end for step in steps)
    return min(max(settings.warmup_checkpoints, by_steps), len(steps))


def find_baseline(values: Sequence[float]) -> float:
    """Return the median of the later half of the warm-up's values, the middle one included."""
    return median(values[len(values) // 2 :])


def measure_alpha(num_steps: int, settings: TrendSettings) -> float:
    """Return the weight of a value that comes ``num_steps`` after the one before, in (0, 1]."""
    if settings.half_life_steps is None:
        return settings.alpha
    return float(1 - 2 ** (-num_steps / settings.half_life_steps))


def smooth(
    steps: Sequence[int],
    values: Sequence[float],
    settings: TrendSettings,
    *,
    restart: tuple[int, float] | None = None,
) -> list[float]:
    """Return the exponential moving average of ``values``, one number a value.

    Args:
        steps: Strictly increasing training steps, as many as values.
        values: Finite numbers.
        settings: Uses ``alpha`` or ``half_life_steps``.
        restart: (index, number): there the average becomes that number.
    """
    averages: list[float] = []
    for index, value in enumerate(values):
        if restart is not None and index == restart[0]:
            averages.append(restart[1])
        elif not averages:
            averages.append(value)
        else:
            alpha = measure_alpha(steps[index] - steps[index - 1], settings)
            averages.append(averages[-1] + alpha * (value - averages[-1]))
    return averages


def find_thresholds(warning: float) -> Thresholds:
    """Return the thresholds of a drop that is a warning above ``warning``.

    Critical is twice that. A drop of something positive stays below 1, so for a warning above
    1/3 critical is the middle between it and 1, which joins the other branch without a jump.
    """
    return Thresholds(warning=warning, critical=min(2 * warning, (1 + warning) / 2))


def _judge(drop: float | None, thresholds: Thresholds) -> TrendState:
    if drop is None or drop <= thresholds.warning:
        return TrendState.OK
    if thresholds.critical is not None and drop > thresholds.critical:
        return TrendState.CRITICAL
    return TrendState.WARNING


def _smooth_values(
    steps: Sequence[int],
    values: Sequence[float],
    settings: TrendSettings,
    thresholds: Thresholds,
) -> list[SmoothedPoint]:
    """Smooth a series without nulls."""
    warmup, baseline = 0, None
    if len(values) >= MIN_VALUES:
        warmup = find_warmup(steps, settings)
        baseline = find_baseline(values[:warmup])
    restart = (warmup - 1, baseline) if baseline is not None else None
    averages = smooth(steps, values, settings, restart=restart)
    points = []
    for index, (step, value, ema) in enumerate(zip(steps, values, averages, strict=True)):
        drop = None
        if baseline is None:
            state = TrendState.INSUFFICIENT
        elif index < warmup:
            state = TrendState.WARMUP
        else:
            drop = (baseline - ema) / baseline if baseline > 0 else None
            state = _judge(drop, thresholds)
        points.append(
            SmoothedPoint(
                step=step,
                value=value,
                ema=ema,
                baseline=baseline,
                drop_fraction=drop,
                state=state,
            )
        )
    return points


def smooth_series(
    steps: Sequence[int],
    values: Sequence[float | None],
    settings: TrendSettings,
    thresholds: Thresholds,
) -> list[SmoothedPoint]:
    """Smooth one series as the head of this file says.

    Args:
        steps: Strictly increasing training steps.
        values: As many; finite, or None where the metric is undefined.
        settings: Smoothing and warm-up.
        thresholds: When a drop is a warning and when it is critical.

    Returns:
        One point a step, nulls included.
    """
    defined = [
        (step, value) for step, value in zip(steps, values, strict=True) if value is not None
    ]
    smoothed = iter(
        _smooth_values(
            [step for step, _ in defined], [value for _, value in defined], settings, thresholds
        )
    )
    enough = len(defined) >= MIN_VALUES
    before = TrendState.WARMUP if enough else TrendState.INSUFFICIENT
    points: list[SmoothedPoint] = []
    for step, value in zip(steps, values, strict=True):
        if value is not None:
            points.append(next(smoothed))
            continue
        last = points[-1] if points else None
        points.append(
            SmoothedPoint(
                step=step,
                value=None,
                ema=last.ema if last else None,
                baseline=last.baseline if last else None,
                drop_fraction=last.drop_fraction if last else None,
                state=last.state if last else before,
            )
        )
    return points
