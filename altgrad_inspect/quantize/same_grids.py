"""Which quantizers are one and the same: equal grids under scales that cancel the difference.

Under an ``amax`` scale only the shape of a grid counts, not its size: E0M7 (m/128), E1M6 (four
times that) and int8 (128 times that) give every weight the same code, so a sweep over the three
is one experiment. This holds to the last bit where the sizes differ by a power of two, short of
weights so small that the scale itself underflows (below about 1e-36).
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from altgrad_inspect.formats import ElementFormat
from altgrad_inspect.quantize.quantizer import Quantizer, ScaleRule
from altgrad_inspect.quantize.rules.amax import UNSCALED_MAX

_RULES_BY_SIZE: Final = frozenset({ScaleRule.AMAX, ScaleRule.POW2, ScaleRule.NONE, ScaleRule.FIXED})
"""Rules whose scales follow from the largest value of the format, and from nothing else of it."""


def group_same_grids(quantizers: Iterable[Quantizer]) -> list[tuple[Quantizer, ...]]:
    """Put quantizers that are the same together, in the order of their first ones."""
    groups: list[list[Quantizer]] = []
    for quantizer in quantizers:
        home = next((group for group in groups if is_same_grid(group[0], quantizer)), None)
        if home is None:
            groups.append([quantizer])
        else:
            home.append(quantizer)
    return [tuple(group) for group in groups]


def is_same_grid(one: Quantizer, other: Quantizer) -> bool:
    """Whether both give every weight the same code, and differ in nothing but size and name."""
    if replace(one, name=None) == replace(other, name=None):
        return True
    if (one.granularity, one.ties, one.master_cast) != (
        other.granularity,
        other.ties,
        other.master_cast,
    ):
        return False
    ratio = find_ratio(one.fmt, other.fmt)
    if ratio is None:
        return False
    rules = {one.rule, other.rule}
    if not rules <= _RULES_BY_SIZE:
        return False
    if rules <= {ScaleRule.NONE, ScaleRule.FIXED}:
        return (one.fixed_scale or 1.0) == (other.fixed_scale or 1.0) * ratio
    is_scaled = max(one.fmt.max, other.fmt.max) < UNSCALED_MAX
    return len(rules) == 1 and (is_scaled or ratio == 1.0)


def find_ratio(one: ElementFormat, other: ElementFormat) -> float | None:
    """Return r, a power of two with value(other) = r * value(one) for all ordinals, or None."""
    if (one.lowest_ordinal, one.code_of_max) != (other.lowest_ordinal, other.code_of_max):
        return None
    if min(one.smallest, other.smallest) == 0 or math.isinf(max(one.max, other.max)):
        return None
    ratio = other.smallest / one.smallest
    if math.frexp(ratio)[0] != 0.5 or math.isinf(ratio):
        return None
    ordinals = range(one.lowest_ordinal, one.code_of_max + 1)
    same = all(other.value_of(ordinal) == ratio * one.value_of(ordinal) for ordinal in ordinals)
    return ratio if same else None
