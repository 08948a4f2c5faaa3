"""``dead-layer``: all weights of a matrix, or of a vector, became zero.

Critical when it was alive before. Zero from the first checkpoint to the last is no new fault
(a bias that is not used, an adapter that was not trained yet): for information, or a warning
for the layers that ``trained_layers`` names. Zero at first and alive later is how biases and
adapters start, and no word is lost on it.

Matrices are judged by their rows in the ranks table. Vectors have none; there the flips table
tells that the norm of a checkpoint was zero, one transition later.
"""

from collections.abc import Iterable
from typing import Final

from altgrad_inspect.display import display_name
from altgrad_inspect.records import Alert, Severity
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.layer_history import LayerHistory, MatrixHistory, MatrixState
from altgrad_inspect.trends.rules.evidence import Evidence, build_fingerprint
from altgrad_inspect.trends.rules.flip_alert import render_recovery
from altgrad_inspect.trends.rules.frozen import is_trained
from altgrad_inspect.trends.stretch import find_last_stretch

RULE: Final = "dead-layer"

METRIC: Final = "frobenius_norm"

_SIGNS: Final = {
    MatrixState.ZERO: True,
    MatrixState.LIVE: False,
    MatrixState.NONFINITE: False,
    MatrixState.UNKNOWN: None,
}


def find_dead_layers(evidence: Evidence) -> list[Alert]:
    """Return an alert for every matrix and vector that is or was dead."""
    histories = [*evidence.matrix_histories, *_find_vectors(evidence)]
    alerts = (_find_dead(history, evidence.settings) for history in histories)
    return [alert for alert in alerts if alert is not None]


def _find_vectors(evidence: Evidence) -> Iterable[MatrixHistory]:
    """Return the states of the layers that have no rows in the ranks table."""
    known = {history.layer for history in evidence.matrix_histories}
    first_of = {history.layer: history for history in reversed(evidence.layer_histories)}
    for layer in sorted(first_of.keys() - known):
        yield _find_states(first_of[layer])


def _find_states(history: LayerHistory) -> MatrixHistory:
    states: dict[int, MatrixState] = {}
    for transition in history.transitions:
        measured = transition.usable and transition.update_norm is not None
        states.setdefault(transition.step_to, MatrixState.UNKNOWN)
        if not measured:
            states.setdefault(transition.step_from, MatrixState.UNKNOWN)
        elif not transition.starts_from_zero:
            states[transition.step_from] = MatrixState.LIVE
        else:
            states[transition.step_from] = MatrixState.ZERO
            still_zero = transition.update_norm == 0
            states[transition.step_to] = MatrixState.ZERO if still_zero else MatrixState.LIVE
    ordered = sorted(states.items())
    return MatrixHistory(
        layer=history.layer,
        matrix=0,
        states=tuple((step, state, None) for step, state in ordered),
    )


def _find_dead(history: MatrixHistory, settings: TrendSettings) -> Alert | None:
    steps = [step for step, _, _ in history.states]
    signs = [_SIGNS[state] for _, state, _ in history.states]
    stretch = find_last_stretch(signs, min_length=1)
    if stretch is None:
        return None
    name = display_name(history.layer) + (f"[{history.matrix}]" if history.matrix else "")
    if False in signs[: stretch.onset]:
        severity = Severity.CRITICAL
        text = f"All weights of {name} are zero since step {steps[stretch.onset]}"
        text += f", in {len(stretch.faults)} checkpoints; they were not before"
    elif stretch.recovered is None:
        severity = Severity.WARNING if is_trained(history.layer, settings) else Severity.INFO
        text = f"All weights of {name} are zero in every one of {len(stretch.faults)} checkpoints"
        text += f" from step {steps[stretch.onset]} on"
    else:
        return None
    return Alert(
        fingerprint=build_fingerprint(RULE, history.layer, history.matrix, METRIC),
        rule=RULE,
        severity=severity,
        layer=history.layer,
        matrix=history.matrix,
        metric=METRIC,
        step_onset=steps[stretch.onset],
        step_detected=steps[stretch.detected],
        value=0.0,
        baseline=None,
        drop_fraction=None,
        message=text + render_recovery(stretch, steps),
    )
