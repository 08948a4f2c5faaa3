"""The storage schemes by name: what is stored, what a weight is, and where that is defined.

Facts only, so that they can be listed without torch; what reads them is in ``schemes``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeFacts:
    """One way in which quantized weights are stored.

    Attributes:
        name: One word for messages and tables.
        summary: What is stored and what a weight is, in one line.
        source: Where that is defined: project and file.
    """

    name: str
    summary: str
    source: str


_ALL: Final = (
    SchemeFacts(
        name="block-fp8",
        summary="P.weight in FP8 times P.weight_scale_inv, one a block of 128 x 128 or a tensor",
        source="DeepSeek-V3: README_WEIGHTS.md, inference/kernel.py; transformers: "
        "integrations/finegrained_fp8.py",
    ),
    SchemeFacts(
        name="lora-update",
        summary="scaling * P.lora_B @ P.lora_A, the update an adapter makes (--adapters merged)",
        source="peft: tuners/lora/layer.py:get_delta_weight",
    ),
)

SCHEME_FACTS: Final[Mapping[str, SchemeFacts]] = MappingProxyType(
    {facts.name: facts for facts in _ALL}
)
"""Every scheme, by name."""
