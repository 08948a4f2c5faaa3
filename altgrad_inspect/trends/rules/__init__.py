"""The rules: one file each, all of them in `RULES`.

A rule looks at everything that is known about the run and returns its alerts. It has no
side effects and does not know the other rules, but for `outlier`, which explains the rank rules.
"""

from collections.abc import Callable
from typing import Final

from altgrad_inspect.records import Alert
from altgrad_inspect.trends.rules.bit_stalled import find_bit_stalls
from altgrad_inspect.trends.rules.dead_layer import find_dead_layers
from altgrad_inspect.trends.rules.evidence import Evidence
from altgrad_inspect.trends.rules.flips_fading import find_fading_flips
from altgrad_inspect.trends.rules.frozen import find_frozen
from altgrad_inspect.trends.rules.nonfinite_weights import find_nonfinite_weights
from altgrad_inspect.trends.rules.oscillation import find_oscillations
from altgrad_inspect.trends.rules.outlier import find_outliers
from altgrad_inspect.trends.rules.rank_break import find_rank_breaks
from altgrad_inspect.trends.rules.rank_drop import find_rank_drops
from altgrad_inspect.trends.rules.rank_early import find_early_signs
from altgrad_inspect.trends.rules.rank_slide import find_rank_slides
from altgrad_inspect.trends.rules.saturation import find_saturations
from altgrad_inspect.trends.rules.scale_jump import find_scale_jumps

Rule = Callable[[Evidence], list[Alert]]

RULES: Final[tuple[Rule, ...]] = (
    find_rank_drops,
    find_rank_breaks,
    find_rank_slides,
    find_early_signs,
    find_outliers,
    find_nonfinite_weights,
    find_dead_layers,
    find_frozen,
    find_bit_stalls,
    find_oscillations,
    find_saturations,
    find_scale_jumps,
    find_fading_flips,
)
