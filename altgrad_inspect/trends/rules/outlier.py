"""``outlier-dominated``: one weight grew until it was the spectral norm, and the rank fell.

The outlier share is (max abs(w) / s1)^2; near 1 the largest singular value is one weight. A high
share by itself is no fault: a healthy, published encoder has a layer at 0.98. So the
share has to rise above ``outlier_share`` from below and stay there, while another rule says
something about the rank of that matrix: ``rank-drop``, ``rank-break``, ``rank-slide`` or
``rank-early``. Severity: as theirs, at least warning.

Detected: the first value of the last unbroken stretch above ``outlier_share``. Onset: the first
of the unbroken run of values up to it that lie more than a quarter of the way from the median
of the values before to ``outlier_share``.

It cannot see an outlier that was there from the first checkpoint on, nor several weights that
grow together: the share is that of the largest one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median
from typing import Final

import pyarrow as pa

from altgrad_inspect.display import display_name
from altgrad_inspect.records import Alert, Severity
from altgrad_inspect.trends.rules.evidence import Evidence, build_fingerprint
from altgrad_inspect.trends.rules.rank_break import find_rank_breaks
from altgrad_inspect.trends.rules.rank_drop import find_rank_drops
from altgrad_inspect.trends.rules.rank_early import find_early_signs
from altgrad_inspect.trends.rules.rank_slide import find_rank_slides

RULE: Final = "outlier-dominated"
METRIC: Final = "outlier_share"

_ONSET_SHARE: Final = 0.25
_RULES: Final = (find_rank_drops, find_rank_breaks, find_rank_slides, find_early_signs)

MatrixKey = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rise:
    """An outlier share that rose above the limit, as indices into its values.

    Attributes:
        onset: Where it began to rise.
        detected: Where it was above the limit first.
        before: The median share before it was above the limit.
    """

    onset: int
    detected: int
    before: float


def find_outliers(evidence: Evidence) -> list[Alert]:
    """Return an alert for every matrix that lost rank while one of its weights took over."""
    shares = find_outlier_shares(evidence.ranks)
    rises = {
        key: rise
        for key, values in shares.items()
        if (rise := find_rise([share for _, share in values], evidence.settings.outlier_share))
    }
    if not rises:
        return []
    worst: dict[MatrixKey, Alert] = {}
    for alert in (alert for rule in _RULES for alert in rule(evidence)):
        key = (alert.layer, alert.matrix)
        known = worst.get(key)
        if known is None or alert.severity.rank > known.severity.rank:
            worst[key] = alert
    return [
        _build_alert(key, shares[key], rise, worst[key])
        for key, rise in rises.items()
        if key in worst
    ]


def find_outlier_shares(
    ranks: pa.Table | None,
) -> Mapping[MatrixKey, Sequence[tuple[int, float]]]:
    """Return (step, share) of every matrix of weights, in order; undefined ones left out.

    Args:
        ranks: Table with the columns of ``RANKS``, in any order, or None.
    """
    if ranks is None:
        return {}
    names = ("layer", "matrix", "step", METRIC, "subject")
    columns = (ranks.column(name).to_pylist() for name in names)
    rows = sorted(
        (
            row[:4]
            for row in zip(*columns, strict=True)
            if row[4] == "weight" and row[3] is not None
        ),
    )
    return {
        key: [(row[2], row[3]) for row in group]
        for key, group in groupby(rows, key=lambda row: row[:2])
    }


def find_rise(shares: Sequence[float], limit: float) -> Rise | None:
    """Return where ``shares`` rose above ``limit`` for good; None if they did not.

    Args:
        shares: In order, each in [0, 1].
        limit: In (0, 1).
    """
    below = [index for index, share in enumerate(shares) if share <= limit]
    if not below or below[-1] == len(shares) - 1:
        return None
    detected = below[-1] + 1
    before = median(shares[:detected])
    depth = before + _ONSET_SHARE * (limit - before)
    onset = detected
    while onset > 0 and shares[onset - 1] > depth:
        onset -= 1
    return Rise(onset=onset, detected=detected, before=before)


def _build_alert(
    key: MatrixKey, values: Sequence[tuple[int, float]], rise: Rise, cause: Alert
) -> Alert:
    layer, matrix = key
    steps = [step for step, _ in values]
    onset, detected = steps[rise.onset], steps[rise.detected]
    share = values[rise.detected][1]
    severity = max(cause.severity, Severity.WARNING, key=lambda one: one.rank)
    name = display_name(layer) + (f"[{matrix}]" if matrix else "")
    return Alert(
        fingerprint=build_fingerprint(RULE, layer, matrix, METRIC),
        rule=RULE,
        severity=severity,
        layer=layer,
        matrix=matrix,
        metric=METRIC,
        step_onset=onset,
        step_detected=detected,
        value=share,
        baseline=rise.before,
        drop_fraction=None,
        message=(
            f"One weight of {name} took over its spectral norm: its share rose from"
            f" {rise.before:.2f} to {values[-1][1]:.2f} since step {onset}, while the"
            f" {cause.metric.replace('_', ' ')} fell ({cause.rule})."
        ),
    )
