"""One verdict a layer: the first in the order of `Verdict` that its rows support."""

from collections.abc import Sequence

from altgrad_inspect.records import Alert, VerdictRecord
from altgrad_inspect.trends.rules.evidence import Evidence


def find_verdicts(evidence: Evidence, alerts: Sequence[Alert]) -> list[VerdictRecord]:
    """Judge every layer that has a row in the ranks or flips table."""
    del evidence, alerts
    return []
