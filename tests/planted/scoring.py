"""When a rule named a layer: judged as a watcher would, at each checkpoint as it came.

Nothing is read off the finished run. For every checkpoint the tables are cut to what there
was, and diagnosed again; a rule named a layer at the first checkpoint at which it said so
at warning or above.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from altgrad_inspect.records import Severity
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.detect import _find_losses, _find_series
from altgrad_inspect.trends.rules import RULES, Rule
from altgrad_inspect.trends.rules.evidence import Evidence
from tests.planted.recorder import Tables

MIN_CHECKPOINTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What was said at warning or above while a run went by.

    Attributes:
        steps: Steps of its checkpoints.
        first: (rule, layer) to the index of the checkpoint at which it was first said.
    """

    steps: tuple[int, ...]
    first: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def find_delay(self, layer: str, rules: Iterable[str], cause: int) -> int | None:
        """Return checkpoints from the first that shows the cause to the first that names it.

        0 is at once; None is never. What was said before ``cause`` does not count.
        """
        wanted = set(rules)
        found = [
            index
            for (rule, named), index in self.first.items()
            if named == layer and rule in wanted and index >= cause
        ]
        return min(found) - cause if found else None


def build_evidence(tables: Tables, settings: TrendSettings) -> Evidence:
    """Return what `diagnose` gives the rules."""
    return Evidence(
        series=tuple(_find_series(settings, tables.ranks, tables.flips)),
        ranks=tables.ranks,
        flips=tables.flips,
        losses=_find_losses(tables.checkpoints),
        settings=settings,
    )


def watch(
    tables: Tables,
    settings: TrendSettings,
    *,
    since: int = MIN_CHECKPOINTS,
    until: int | None = None,
    rules: Iterable[Rule] = RULES,
) -> Watch:
    """Run ``rules`` over ``tables`` at the checkpoints ``since`` to ``until``, as they came."""
    first: dict[tuple[str, str], int] = {}
    for index, step in enumerate(tables.steps):
        if index < since or (until is not None and index > until):
            continue
        evidence = build_evidence(tables.until(step), settings)
        for alert in (alert for rule in rules for alert in rule(evidence)):
            if alert.severity.rank >= Severity.WARNING.rank:
                first.setdefault((alert.rule, alert.layer), index)
    return Watch(steps=tables.steps, first=first)
