"""What weights are rounded onto: format, granularity, scale rule, and how ties are broken.

No tensor here, so a command line can check a specification before torch is loaded.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from altgrad_inspect.formats import ALIASES, ElementFormat

_SHORT: Final = {full: short for short, full in reversed(list(ALIASES.items()))}


class ScaleRule(StrEnum):
    """How a scale follows from the weights it covers; see ``altgrad_inspect.quantize.rules``."""

    AMAX = "amax"  #: amax / max of the format.
    POW2 = "pow2"  #: That, rounded up to a power of two.
    NONE = "none"  #: 1.
    FIXED = "fixed"  #: A given number.


class Ties(StrEnum):
    """Where the middle between two values goes."""

    EVEN = "even"  #: To the value whose code is even.
    ZERO = "zero"  #: To the smaller magnitude.
    AWAY = "away"  #: To the larger magnitude.


class MasterCast(StrEnum):
    """What weights are cast to before they are quantized."""

    NONE = "none"  #: Nothing: they are quantized as stored.
    BF16 = "bf16"  #: bfloat16, nearest even, as where a trainer keeps its weights in that.


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
        ties: Where the middle between two values goes.
        master_cast: What weights are cast to first.
        name: Of the recipe that this is, if it has one.
    """

    fmt: ElementFormat
    granularity: Granularity
    rule: ScaleRule = ScaleRule.AMAX
    fixed_scale: float | None = None
    ties: Ties = Ties.EVEN
    master_cast: MasterCast = MasterCast.NONE
    name: str | None = None

    def __str__(self) -> str:
        element = _SHORT.get(self.fmt.name, self.fmt.name)
        scale = repr(self.fixed_scale) if self.rule is ScaleRule.FIXED else str(self.rule)
        named = self.name or f"{element}:{self.granularity}:{scale}"
        return named if self.master_cast is MasterCast.NONE else f"{named}@{self.master_cast}"


TENSOR: Final = Granularity(kind="tensor", block_rows=None, block_cols=None)
