"""What the engine tells whoever watches it; it never prints.

A run sends one `Planned`, then a `LayerDone` for every layer as it finishes (in any
order), and a `Noted` whenever something is worth a sentence on stderr.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What is about to be read: the totals that progress is measured against."""

    num_checkpoints: int
    num_layers: int
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDone:
    """One layer went through the whole run.

    Attributes:
        layer: Its name.
        num_bytes: Bytes read for it, over all checkpoints.
        cost: Its share of the whole work, in [0, 1]; the shares add up to 1.
    """

    layer: str
    num_bytes: int
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """One sentence for stderr."""

    text: str


Event = Planned | LayerDone | Noted
Listener = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Listen to nothing."""
