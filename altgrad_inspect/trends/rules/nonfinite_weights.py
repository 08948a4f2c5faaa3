"""``nonfinite-weights``: NaN or Inf among the weights of a layer.

The flips table counts them in every checkpoint but the first, vectors included; the ranks
table tells of matrices at every checkpoint. Both are asked.
"""

import re
from collections import defaultdict
from typing import Final

from altgrad_inspect.display import display_name
from altgrad_inspect.records import Alert, Severity
from altgrad_inspect.trends.layer_history import MatrixState
from altgrad_inspect.trends.rules.evidence import Evidence, build_fingerprint
from altgrad_inspect.trends.rules.flip_alert import render_recovery
from altgrad_inspect.trends.stretch import find_last_stretch

RULE: Final = "nonfinite-weights"

METRIC: Final = "num_nonfinite"

_REASON: Final = re.compile(r"([\d,]+) NaN and ([\d,]+) Inf")

_Counts = dict[str, dict[int, int | None]]
"""Layer to step to the number of non-finite weights, None where it is not known."""


def find_nonfinite_weights(evidence: Evidence) -> list[Alert]:
    """Return an alert for every layer that ever held NaN or Inf."""
    counts = _count_in_ranks(evidence)
    for history in evidence.layer_histories:
        for transition in history.transitions:
            counted = transition.num_nonfinite
            if counted is None:
                counted = counts[history.layer].get(transition.step_to)
            counts[history.layer][transition.step_to] = counted
    alerts = (_find_nonfinite(layer, counts[layer]) for layer in sorted(counts))
    return [alert for alert in alerts if alert is not None]


def _count_in_ranks(evidence: Evidence) -> _Counts:
    """Add up the matrices of each layer; one that is not known leaves the others' count."""
    counts: _Counts = defaultdict(dict)
    for history in evidence.matrix_histories:
        steps = counts[history.layer]
        for step, state, reason in history.states:
            before = steps.get(step)
            steps[step] = before
            if state is MatrixState.NONFINITE:
                steps[step] = (before or 0) + _read_count(reason)
            elif state is not MatrixState.UNKNOWN:
                steps[step] = before or 0
    return counts


def _read_count(reason: str | None) -> int:
    """Return the number that the reason of the row gives; at least 1."""
    match = _REASON.match(reason or "")
    return sum(int(number.replace(",", "")) for number in match.groups()) if match else 1


def _find_nonfinite(layer: str, counts: dict[int, int | None]) -> Alert | None:
    steps = sorted(counts)
    signs = [None if counts[step] is None else counts[step] != 0 for step in steps]
    stretch = find_last_stretch(signs, min_length=1)
    if stretch is None:
        return None
    onset = steps[stretch.onset]
    most = max(counts[steps[index]] or 0 for index in stretch.faults)
    text = f"{display_name(layer)} holds {counts[onset]:,} NaN or Inf since step {onset}"
    if most > (counts[onset] or 0):
        text += f", up to {most:,} later"
    return Alert(
        fingerprint=build_fingerprint(RULE, layer, 0, METRIC),
        rule=RULE,
        severity=Severity.CRITICAL,
        layer=layer,
        matrix=0,
        metric=METRIC,
        step_onset=onset,
        step_detected=onset,
        value=float(counts[onset] or 0),
        baseline=0.0,
        drop_fraction=None,
        message=text + render_recovery(stretch, steps),
    )
