"""A recipe: a quantizer that a training or inference stack uses, under the name people know."""

from dataclasses import dataclass

from altgrad_inspect.quantize.quantizer import Quantizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A named quantizer and where its arithmetic is defined.

    Attributes:
        quantizer: Format, granularity, rule and ties; its ``name`` is the recipe's.
        summary: Scale and rounding in one line, e.g. ``s = 448/amax, code of w*s``.
        source: Where that was read: project and file.
        is_approximate: What the stack does cannot be told from the weights alone.
    """

    quantizer: Quantizer
    summary: str
    source: str
    is_approximate: bool = False

    @property
    def name(self) -> str:
        """What ``--quant`` calls it."""
        return str(self.quantizer)
