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
        name="bnb-4bit",
        summary="NF4 or FP4 codes, quant_map[code] times absmax, one a flat block of 64; absmax "
        "may be codes itself",
        source="bitsandbytes: functional.py:QuantState, dequantize_4bit; Dettmers et al. 2023, "
        "arXiv:2305.14314",
    ),
    SchemeFacts(
        name="bnb-int8",
        summary="P.weight in int8 times P.SCB / 127, one a row",
        source="bitsandbytes: _ops.py:int8_vectorwise_dequant; Dettmers et al. 2022, "
        "arXiv:2208.07339",
    ),
    SchemeFacts(
        name="awq",
        summary="P.qweight, 8 codes of 4 bits a word along the outputs (gemm) or inputs (gemv): "
        "(code - zero) times P.scales, one a group of inputs",
        source="AutoAWQ: awq/utils/packing_utils.py, awq/modules/linear/gemm.py, gemv.py; Lin et "
        "al. 2023, arXiv:2306.00978",
    ),
    SchemeFacts(
        name="gptq",
        summary="P.qweight, codes of 1 to 8 bits packed along the inputs: (code - zero) times "
        "P.scales, one a group of inputs or as P.g_idx says; v1, v2, planar and auto-round",
        source="GPTQModel: nn_modules/qlinear/__init__.py, utils/model.py, "
        "utils/planar_packing.py; auto-round: inference/backend.py; Frantar et al. 2022, "
        "arXiv:2210.17323",
    ),
    SchemeFacts(
        name="bitnet",
        summary="P.weight, four ternary codes a byte, rows in quarters, divided (bitlinear) or "
        "multiplied (autobitlinear) by one P.weight_scale",
        source="transformers: integrations/bitnet.py; Ma et al. 2024, arXiv:2402.17764",
    ),
    SchemeFacts(
        name="hqq",
        summary="P.W_q, codes of 1 to 8 bits in parts that lie over each other: (code - P.zero) "
        "times P.scale, one a group along axis 0 or 1",
        source="hqq: core/quantize.py, core/bitpack.py; Badri and Shaji 2023, "
        "mobiusml.github.io/hqq_blog",
    ),
)

SCHEME_FACTS: Final[Mapping[str, SchemeFacts]] = MappingProxyType(
    {facts.name: facts for facts in _ALL}
)
"""Every scheme, by name."""
