"""A recipe: a quantizer that a training or inference stack uses, under the name people know."""

from dataclasses import dataclass
from typing import Final

from altgrad_inspect.formats import ElementFormat
from altgrad_inspect.quantize.quantizer import Granularity, Quantizer, ScaleRule, Ties

BLOCK_128: Final = Granularity(kind="block", block_rows=128, block_cols=128)

PADS: Final = "padded with zeros, which leaves amax as it is"
REFUSES: Final = "refused by the source; here a block of its own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A named quantizer and where its arithmetic is defined.

    Attributes:
        quantizer: Format, granularity, rule and ties; its ``name`` is the recipe's.
        summary: Scale and rounding in one line, e.g. ``s = 448/amax, code of w*s``.
        source: Where that was read: project and file.
        edges: What becomes of a block that is cut short by the edge of the layer; empty where
            there is none.
        is_approximate: What the stack does cannot be told from the weights alone.
    """

    quantizer: Quantizer
    summary: str
    source: str
    edges: str = ""
    is_approximate: bool = False

    @property
    def name(self) -> str:
        """What ``--quant`` calls it."""
        return str(self.quantizer)


def group(size: int) -> Granularity:
    """Return ``size`` weights of a row that share a scale."""
    return Granularity(kind="group", block_rows=1, block_cols=size)


def named(
    name: str,
    fmt: ElementFormat,
    granularity: Granularity,
    rule: ScaleRule,
    *,
    ties: Ties = Ties.EVEN,
) -> Quantizer:
    """Return the quantizer of a recipe."""
    return Quantizer(fmt=fmt, granularity=granularity, rule=rule, ties=ties, name=name)
