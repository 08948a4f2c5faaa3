"""Courses of ranks over a run, healthy and not, and what the rules say about them."""

from collections.abc import Mapping, Sequence

from altgrad_inspect.records import Alert, Severity
from altgrad_inspect.settings import DEFAULT_CRITICAL_LAYERS, TrendSettings
from altgrad_inspect.trends.rules.evidence import Evidence
from altgrad_inspect.trends.rules.rank_break import find_rank_breaks
from altgrad_inspect.trends.rules.rank_drop import find_rank_drops
from altgrad_inspect.trends.rules.rank_early import find_early_signs
from altgrad_inspect.trends.rules.rank_slide import find_rank_slides
from altgrad_inspect.trends.series import build_series
from altgrad_inspect.trends.smooth import find_thresholds

STABLE, EFFECTIVE = "stable_rank", "effective_rank"
RANK_RULES = (find_rank_drops, find_rank_breaks, find_rank_slides, find_early_signs)

Courses = Mapping[tuple[str, str], Sequence[float | None]]

# A small GPT trained from scratch, a checkpoint every 100 steps, nothing wrong.
MLP_INPUT = [57.6, 43.7, 29.3, 25.0, 22.2, 18.3, 15.5, 13.6, 12.6, 12.0, 11.7, 11.5, 11.3]
HEAD_STABLE = [43.9, 1.5, 1.2, *[1.1] * 10]
HEAD_EFFECTIVE = [119, 94, 74, 60, 54, 47, 44.5, 43, 42, 41.3, 40.8, 40.3, 40.0]
# The same with its learning rate times 40 from step 700 on.
MLP_BROKEN = [*MLP_INPUT[:7], 2.9, 2.8, 2.9, 2.7, 2.6]
# The attention inputs at the end of the warm-up of the learning rate.
ATTENTION = [40, 36, 8, 6.8, 6.2, 5.9, 5.8, 5.7, 5.7, 5.6, 5.6]
LOSS = [5.5, 4.0, 3.1, 2.6, 2.3, 2.1, 1.9, 1.8, 1.7, 1.6, 1.55, 1.52, 1.5]
LOSS_BROKEN = [*LOSS[:7], 3.0, 2.9, 2.9, 2.8, 2.8]


def evidence_of(
    courses: Courses,
    *,
    losses: Sequence[float] = (),
    steps: Sequence[int] | None = None,
    until: int | None = None,
    settings: TrendSettings | None = None,
) -> Evidence:
    """Return the evidence of (layer, metric) courses, the first ``until`` checkpoints of them."""
    tuning = settings or TrendSettings()
    series = []
    for (layer, metric), values in courses.items():
        at = steps or range(100, 100 * len(values) + 1, 100)
        is_critical = any(pattern in layer for pattern in DEFAULT_CRITICAL_LAYERS)
        threshold = tuning.rank_drop_threshold / (2 if is_critical else 1)
        series.append(
            build_series(
                layer=layer,
                matrix=0,
                metric=metric,
                values=_pair(at, values)[:until],
                settings=tuning,
                thresholds=find_thresholds(threshold),
            )
        )
    at = steps or range(100, 100 * len(losses) + 1, 100)
    known = list(zip(at, losses, strict=False))[:until]
    return Evidence(
        series=tuple(series), ranks=None, flips=None, losses=tuple(known), settings=tuning
    )


def _pair(steps: Sequence[int], values: Sequence[float | None]) -> list[tuple[int, float | None]]:
    return [
        (step, None if value is None else float(value))
        for step, value in zip(steps, values, strict=True)
    ]


def alerts_of(evidence: Evidence) -> list[Alert]:
    """Return what the rules about ranks say."""
    return [alert for rule in RANK_RULES for alert in rule(evidence)]


def accusations_of(evidence: Evidence) -> list[Alert]:
    """Return what they say at warning or above."""
    return [alert for alert in alerts_of(evidence) if alert.severity is not Severity.INFO]


def watch(
    courses: Courses, *, losses: Sequence[float] = (), steps: Sequence[int] | None = None
) -> dict[int, list[Alert]]:
    """Return the accusations after each checkpoint as it came, by number of checkpoints."""
    length = max(len(values) for values in courses.values())
    return {
        until: accusations_of(evidence_of(courses, losses=losses, steps=steps, until=until))
        for until in range(1, length + 1)
    }


def peers_of(course: Sequence[float], name: str = "h.{}.mlp.c_fc", num: int = 6) -> Courses:
    """Return like courses of ``num`` blocks, each at another level and with 2 % of noise."""
    return {
        (name.format(block), STABLE): [
            value * (0.8 + 0.08 * block) * (1 + 0.02 * ((7 * block + 3 * at) % 5 - 2) / 2)
            for at, value in enumerate(course)
        ]
        for block in range(num)
    }
