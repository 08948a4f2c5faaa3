"""Findings: the alerts and verdicts that a gate is to stop at.

A layer's verdict sums up its alerts, so it is a finding of its own only where no alert of
that layer is severe enough, or where it was asked for by name.
"""

import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

import pyarrow as pa

from altgrad_inspect.display import display_name
from altgrad_inspect.errors import ConfigError
from altgrad_inspect.records import Severity, Verdict
from altgrad_inspect.tables.schema import ALERTS
from altgrad_inspect.trends.rules import RULES
from altgrad_inspect.trends.rules.evidence import build_fingerprint

VERDICT_METRIC: Final = "verdict"
"""The metric of a finding that is a verdict."""

_GOOD: Final = frozenset({Verdict.HEALTHY, Verdict.UNDECIDED})

RULE_NAMES: Final = tuple(
    sorted(
        {str(vars(sys.modules[rule.__module__])["RULE"]) for rule in RULES}
        | {str(verdict) for verdict in Verdict if verdict not in _GOOD}
    )
)
"""What a finding can be called: the rules, and the verdicts that are not good news."""


def find_findings(
    alerts: pa.Table,
    verdicts: pa.Table,
    *,
    fail_on: Severity = Severity.WARNING,
    rule: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> pa.Table:
    """Return what is at least as severe as ``fail_on``, worst first.

    Args:
        alerts: Table with the columns of ``ALERTS``.
        verdicts: Table with the columns of ``VERDICTS``.
        fail_on: The least severity of a finding.
        rule: Only these rules and verdicts; all if empty.
        ignore: Rules and verdicts to leave out; they win.

    Returns:
        Table with the columns of ``ALERTS``: by severity, then onset, layer, matrix and rule.

    Raises:
        ConfigError: A rule is not known.
    """
    require_rules((*rule, *ignore))
    severe = [row for row in alerts.to_pylist() if _is_severe(row["severity"], fail_on)]
    covered = {row["layer"] for row in severe}
    found = severe + [
        _build_row(row)
        for row in verdicts.to_pylist()
        if _is_severe(row["severity"], fail_on)
        and row["verdict"] not in _GOOD
        and (row["layer"] not in covered or row["verdict"] in rule)
    ]
    named = {(row["layer"], row["rule"]) for row in severe}
    kept = [
        row
        for row in found
        if (not rule or row["rule"] in rule)
        and row["rule"] not in ignore
        and not (row["metric"] == VERDICT_METRIC and (row["layer"], row["rule"]) in named)
    ]
    return pa.Table.from_pylist(sorted(kept, key=_sort_key), schema=ALERTS.arrow)


def _is_severe(severity: str, fail_on: Severity) -> bool:
    return Severity(severity).rank >= fail_on.rank


def _sort_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    onset = row["step_onset"]
    return (
        -Severity(str(row["severity"])).rank,
        *(onset is None, onset or 0),
        *(row["layer"], row["matrix"] or 0, row["rule"], row["metric"]),
    )


def _build_row(verdict: Mapping[str, object]) -> dict[str, object]:
    rule, layer = str(verdict["verdict"]), str(verdict["layer"])
    return {
        "fingerprint": build_fingerprint(rule, layer, 0, VERDICT_METRIC),
        "rule": rule,
        "severity": verdict["severity"],
        "layer": layer,
        "matrix": 0,
        "metric": VERDICT_METRIC,
        "step_onset": verdict["step_onset"],
        "step_detected": None,
        "value": None,
        "baseline": None,
        "drop_fraction": None,
        "message": verdict["evidence"],
    }


def require_rules(names: Sequence[str]) -> None:
    """Find out before the work whether every one of ``names`` is a rule or a verdict.

    Raises:
        ConfigError: One is not.
    """
    for name in names:
        if name not in RULE_NAMES:
            close = get_close_matches(name, RULE_NAMES, n=1)
            expected = f"one like {close[0]}" if close else f"one of {', '.join(RULE_NAMES)}"
            msg = f"rule {display_name(name)}: is not known, expected {expected} (correct it)"
            raise ConfigError(msg)
