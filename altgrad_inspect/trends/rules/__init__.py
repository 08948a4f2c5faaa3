"""The rules: one file each, all of them in `RULES`.

A rule looks at everything that is known about the run and returns its alerts. It has no
side effects and does not know the other rules.
"""

from collections.abc import Callable
from typing import Final

from altgrad_inspect.records import Alert
from altgrad_inspect.trends.rules.evidence import Evidence
from altgrad_inspect.trends.rules.rank_drop import find_rank_drops

Rule = Callable[[Evidence], list[Alert]]

RULES: Final[tuple[Rule, ...]] = (find_rank_drops,)
