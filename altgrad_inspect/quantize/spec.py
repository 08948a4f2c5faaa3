"""Quantizer specifications: ``ELEMENT[:GRANULARITY[:SCALE]]``.

    e4m3                       float8_e4m3fn, one scale a tensor, amax
    e5m2:channel               one scale a row of the (out, everything else) view
    e3m4:block=128x128         one scale a block of 128 rows and 128 columns
    e2m1:group=32:pow2         one scale a 32 weights of a row, a power of two
    int8:channel               symmetric integers
    e4m3:tensor:0.0078125      a fixed scale

No tensor here, so a command line can check a specification before torch is loaded.
"""

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from altgrad_inspect.errors import FormatError
from altgrad_inspect.formats import ALIASES, ElementFormat, element_format

_SHORT: Final = {full: short for short, full in reversed(list(ALIASES.items()))}


class ScaleRule(StrEnum):
    """How a scale follows from the weights it covers."""

    AMAX = "amax"  #: amax / max of the format.
    POW2 = "pow2"  #: That, rounded up to a power of two.
    NONE = "none"  #: 1.
    FIXED = "fixed"  #: A given number.


@dataclass(frozen=True, slots=True, kw_only=True)
class Granularity:
    """Which weights share a scale, on the (rows, columns) view of a layer.

    Attributes:
        kind: ``tensor``, ``channel``, ``block`` or ``group``.
        block_rows: Rows that share a scale; None means all of them.
        block_cols: Columns that share a scale; None means all of them.
    """

    kind: str
    block_rows: int | None
    block_cols: int | None

    def __str__(self) -> str:
        match self.kind:
            case "block":
                return f"block={self.block_rows}x{self.block_cols}"
            case "group":
                return f"group={self.block_cols}"
            case _:
                return self.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantizer:
    """A format, what shares a scale, and how the scale is chosen.

    Attributes:
        fmt: The format that scaled weights are rounded onto.
        granularity: Which weights share a scale.
        rule: How the scale follows from the weights.
        fixed_scale: The scale if ``rule`` is ``fixed``, above 0; else None.
    """

    fmt: ElementFormat
    granularity: Granularity
    rule: ScaleRule = ScaleRule.AMAX
    fixed_scale: float | None = None

    def __str__(self) -> str:
        element = _SHORT.get(self.fmt.name, self.fmt.name)
        scale = repr(self.fixed_scale) if self.rule is ScaleRule.FIXED else str(self.rule)
        return f"{element}:{self.granularity}:{scale}"


TENSOR: Final = Granularity(kind="tensor", block_rows=None, block_cols=None)

_GRANULARITY: Final = re.compile(
    r"(?P<plain>tensor|channel)|block=(?P<rows>\d+)x(?P<cols>\d+)|group=(?P<group>\d+)"
)


def _parse_granularity(text: str, spec: str) -> Granularity:
    match = _GRANULARITY.fullmatch(text)
    sizes = [int(size) for size in match.group("rows", "cols", "group") if size] if match else []
    if match is None or 0 in sizes:
        msg = (
            f"quantizer {spec!r}: granularity {text!r} is not known, "
            "expected tensor, channel, block=RxC or group=N with sizes of at least 1"
        )
        raise FormatError(msg)
    if match["plain"] == "channel":
        return Granularity(kind="channel", block_rows=1, block_cols=None)
    if match["group"]:
        return Granularity(kind="group", block_rows=1, block_cols=sizes[0])
    if match["rows"]:
        return Granularity(kind="block", block_rows=sizes[0], block_cols=sizes[1])
    return TENSOR


def _parse_scale(text: str, spec: str) -> tuple[ScaleRule, float | None]:
    if text in {ScaleRule.AMAX, ScaleRule.POW2, ScaleRule.NONE}:
        return ScaleRule(text), None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 2.0**-126 <= number < 2.0**128:
        msg = (
            f"quantizer {spec!r}: scale {text!r} is not known, "
            "expected amax, pow2, none or a number that is a normal float32"
        )
        raise FormatError(msg)
    return ScaleRule.FIXED, number


def parse_quantizer(spec: str) -> Quantizer:
    """Read ``ELEMENT[:GRANULARITY[:SCALE]]``; the rest defaults to ``tensor`` and ``amax``.

    Raises:
        FormatError: A part is not known or out of range; names the part and what it can be.
    """
    parts = spec.strip().split(":")
    if len(parts) > 3:
        msg = f"quantizer {spec!r}: too many parts, expected ELEMENT[:GRANULARITY[:SCALE]]"
        raise FormatError(msg)
    fmt = element_format(parts[0])
    granularity = _parse_granularity(parts[1], spec) if len(parts) > 1 else TENSOR
    rule, fixed = _parse_scale(parts[2], spec) if len(parts) > 2 else (ScaleRule.AMAX, None)
    return Quantizer(fmt=fmt, granularity=granularity, rule=rule, fixed_scale=fixed)
