"""What weights are rounded onto: format, granularity, scale rule, and how ties are broken.

No tensor here, so a command line can check a specification before torch is loaded.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from altgrad_inspect.formats import ALIASES, ElementFormat

_SHORT: Final = {full: short for short, full in reversed(list(ALIASES.items()))}


class ScaleRule(StrEnum):
    """How a scale follows from the weights it covers; see ``altgrad_inspect.quantize.rules``.

    All but the first four are the arithmetic of one project, to the last bit; where that was
    read is in ``altgrad_inspect.quantize.recipes``.
    """

    AMAX = "amax"  #: amax / max of the format.
    POW2 = "pow2"  #: That, rounded up to a power of two.
    NONE = "none"  #: 1.
    FIXED = "fixed"  #: A given number.
    TORCHAO = "torchao"  #: Weights times max / amax, which is computed in float64.
    TORCHAO_POW2 = "torchao-pow2"  #: That factor, rounded down to a power of two.
    TE = "te"  #: Weights times max / amax.
    TE_POW2 = "te-pow2"  #: That factor, rounded down to a power of two.
    TE_DELAYED = "te-delayed"  #: As ``te``, from the amax of the checkpoint before.
    DEEPSEEK = "deepseek"  #: max(amax, 1e-4) / max.
    DEEPSEEK_UE8M0 = "deepseek-ue8m0"  #: That, rounded up to a power of two by log2.
    DEEPGEMM = "deepgemm"  #: Weights times 1 / (max(amax, 1e-4) / max).
    DEEPGEMM_UE8M0 = "deepgemm-ue8m0"  #: That, the scale rounded up to a power of two.
    TRANSFORMERS = "transformers"  #: Weights times max / amax; its reciprocal is stored.
    TRANSFORMERS_UE8M0 = "transformers-ue8m0"  #: That, rounded up to a power of two by log2.
    FLOAT8_TENSOR = "float8-tensor"  #: amax / max in the dtype of the weights.
    CT_FP8 = "ct-fp8"  #: The same, with another scale for zeros.
    MX_FLOOR = "mx-floor"  #: 2**(floor(log2(amax)) - exponent of max).
    MX_EVEN = "mx-even"  #: That, of amax rounded to the mantissa of the format.
    MX_CEIL = "mx-ceil"  #: 2**(ceil(log2(amax)) - exponent of max).
    MX_RCEIL = "mx-rceil"  #: amax / max, rounded up to a power of two.
    MX_RCEIL_MUL = "mx-rceil-mul"  #: amax * (1 / max), rounded up to a power of two.
    MX_RCEIL_LOG2 = "mx-rceil-log2"  #: As ``mx-rceil``, by a float32 log2.
    MX_MODELOPT = "mx-modelopt"  #: The same, with another factor for the smallest scale.
    MX_CT = "mx-ct"  #: As ``mx-even``, with one mantissa bit for FP8 too.
    MX_FLOOR_LOG2 = "mx-floor-log2"  #: As ``mx-floor``, by a float32 log2.
    NVFP4_TORCHAO = "nvfp4-torchao"  #: E4M3 scale a block, float32 scale a matrix.
    NVFP4_MODELOPT = "nvfp4-modelopt"  #: The same in another order.
    NVFP4_CT = "nvfp4-ct"  #: The same with the reciprocal of the scale of the matrix.
    NVFP4_TE = "nvfp4-te"  #: The same, all multiplied.
    INT4_TORCHAO = "int4-torchao"  #: amax / 7.5, weights times its reciprocal.
    INT4_BF16 = "int4-bf16"  #: (max - min) / 15, from the minimum on.
    INT4_CT = "int4-ct"  #: amax / 7.5.
    INT4_CT_ASYM = "int4-ct-asym"  #: (max - min) / 15 with an integer zero point.
    BITNET = "bitnet"  #: Mean magnitude.
    NF4 = "nf4"  #: Weights times 1 / amax.
    ALTGRAD = "altgrad"  #: 1.01 * amax / max.


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
        kind: ``tensor``, ``channel``, ``block``, ``group``, or ``flat``: runs of weights in
            the order they are stored in, over the ends of rows.
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
            case "group" | "flat":
                return f"{self.kind}={self.block_cols}"
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
CHANNEL: Final = Granularity(kind="channel", block_rows=1, block_cols=None)
