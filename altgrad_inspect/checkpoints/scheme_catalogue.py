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
        name="mxfp4",
        summary="P_blocks of two FP4 codes a byte, times 2^(P_scales - 127), one a block of 32; "
        "[experts, out, in], which the model holds as [experts, in, out]",
        source="gpt-oss: gpt_oss/torch/weights.py; transformers: integrations/mxfp4.py; OCP MX "
        "v1.0",
    ),
    SchemeFacts(
        name="torchao",
        summary="M._weight_qdata, M._weight_scale, ...: Float8Tensor, Int8Tensor, "
        "IntxUnpackedToInt8Tensor, Int4Tensor, MXTensor and NVFP4Tensor, scales swizzled or not",
        source="torchao 0.18: prototype/safetensors/, quantization/quantize_/workflows/, "
        "prototype/mx_formats/",
    ),
    SchemeFacts(
        name="quanto",
        summary="P.weight._data times _scale, int8 or FP8; P.weight._data._data of 4 or 2 bits "
        "times _scale, less _shift",
        source="optimum-quanto 0.2.7: tensor/qbytes.py, tensor/qbits.py, tensor/packed.py",
    ),
    SchemeFacts(
        name="generic",
        summary="int8 or FP8 codes beside a scale and maybe a zero point, of no known scheme: "
        "(code - zero point) * scale, with a warning",
        source="names and shapes alone; e.g. fracast 0.1.0: X.qweight beside X.scale",
    ),
)

SCHEME_FACTS: Final[Mapping[str, SchemeFacts]] = MappingProxyType(
    {facts.name: facts for facts in _ALL}
)
"""Every scheme, by name."""
