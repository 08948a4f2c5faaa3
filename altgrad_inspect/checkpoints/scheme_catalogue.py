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
        summary="P.weight in FP8 (experts: FP4) times P.weight_scale_inv, one a block or a tensor",
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
    SchemeFacts(
        name="fbgemm-fp8",
        summary="P.weight in FP8 times P.weight_scale, one a row",
        source="transformers: integrations/fbgemm_fp8.py",
    ),
    SchemeFacts(
        name="modelopt-fp8",
        summary="P.weight in FP8 times P.weight_scale, one a tensor, row or block, or "
        "exponents (MXFP8)",
        source="ModelOpt: torch/export/quant_utils.py, torch/quantization/qtensor/mxfp8_tensor.py",
    ),
    SchemeFacts(
        name="modelopt-fp4",
        summary="P.weight in FP4 times P.weight_scale times P.weight_scale_2 (NVFP4), "
        "or exponents (MXFP4)",
        source="ModelOpt: torch/quantization/qtensor/nvfp4_tensor.py, mxfp4_tensor.py",
    ),
    SchemeFacts(
        name="modelopt-int8",
        summary="P.weight in int8 times P.weight_scale, one a row (W8A16, W8A8_SQ_PER_CHANNEL)",
        source="ModelOpt: torch/export/quant_utils.py",
    ),
    SchemeFacts(
        name="modelopt-int4",
        summary="P.weight in int4, two rows to a byte, times P.weight_scale, one a "
        "group (W4A16_AWQ)",
        source="ModelOpt: torch/export/quant_utils.py:pack_int4_in_uint8",
    ),
    SchemeFacts(
        name="ct-pack",
        summary="P.weight_packed in integers of 1 to 8 bits, less P.weight_zero_point, "
        "times P.weight_scale (pack-quantized)",
        source="compressed-tensors: compressors/pack_quantized/helpers.py, in 0.20 "
        "and as it was in 0.9.4",
    ),
    SchemeFacts(
        name="ct-nvfp4",
        summary="P.weight_packed in FP4 times (P.weight_scale / P.weight_global_scale) "
        "(nvfp4-pack-quantized)",
        source="compressed-tensors: compressors/nvfp4/base.py",
    ),
    SchemeFacts(
        name="ct-mx",
        summary="P.weight_packed in FP4 or FP6 times exponents (mxfp4-, mxfp6-pack-quantized)",
        source="compressed-tensors: compressors/mxfp4/base.py, mxfp6/base.py, mx_utils.py",
    ),
    SchemeFacts(
        name="ct-int",
        summary="P.weight in int8, less P.weight_zero_point, times P.weight_scale (int-quantized)",
        source="compressed-tensors: compressors/naive_quantized/base.py",
    ),
    SchemeFacts(
        name="ct-float",
        summary="P.weight in FP8 times P.weight_scale (float-quantized), or exponents "
        "(mxfp8-quantized)",
        source="compressed-tensors: compressors/naive_quantized/base.py, mxfp8/base.py",
    ),
    SchemeFacts(
        name="native-f4",
        summary="P.weight in the dtype F4 times a scale a block, and one over all if there is one",
        source="safetensors: tensor.rs (Dtype::F4); no project has set the names",
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
