"""What libraries make of weights: ordinals and the scale that they store, recipe by recipe.

Every function takes float32 or bfloat16 weights of whole blocks and returns ordinals in their
shape, one scale a block, and whether weights are multiplied by it. Imports are inside, so that
each library is needed by its own functions only.
"""

# mypy: ignore-errors
# ruff: noqa: C408, FBT001, FBT003

import os
from collections.abc import Callable

import torch
from torch import Tensor

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

Quantized = tuple[Tensor, Tensor, str]
"""Ordinals, scales, and which of the two of ours these are: ``values`` or ``multipliers``."""


def signed(codes: Tensor, bits: int) -> Tensor:
    """Sign-magnitude codes as ordinals."""
    codes = codes.view(torch.uint8).to(torch.int16)
    magnitude = codes & ((1 << (bits - 1)) - 1)
    return torch.where(codes >> (bits - 1) == 1, -magnitude, magnitude)


def unpack(packed: Tensor) -> Tensor:
    """Two codes of 4 bits a byte, low one first."""
    packed = packed.view(torch.uint8)
    return torch.stack([packed & 15, packed >> 4], dim=-1).flatten(-2)


def from_values(values: Tensor, positive: list[float]) -> Tensor:
    """Ordinals of values of a grid."""
    places = torch.searchsorted(torch.tensor(positive), values.abs().float().contiguous())
    return torch.where(values < 0, -places, places).to(torch.int16)


def e8m0(codes: Tensor) -> Tensor:
    return torch.exp2(codes.view(torch.uint8).to(torch.float32) - 127)


E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
E2M3 = [i / 8 for i in range(16)] + [i / 4 for i in range(8, 16)] + [i / 2 for i in range(8, 16)]


# torchao 0.18


def torchao_float8(axis: int | None, pow2: bool) -> Callable[[Tensor], Quantized]:
    def run(weights: Tensor) -> Quantized:
        from torchao.float8.config import ScalingGranularity
        from torchao.float8.float8_training_tensor import hp_tensor_and_scale_to_float8
        from torchao.float8.float8_utils import tensor_to_scale

        kind = ScalingGranularity.TENSORWISE if axis is None else ScalingGranularity.AXISWISE
        factor = tensor_to_scale(
            weights,
            torch.float8_e4m3fn,
            scaling_granularity=kind,
            axiswise_dim=axis,
            round_scales_to_power_of_2=pow2,
        )
        coded = hp_tensor_and_scale_to_float8(weights, factor, torch.float8_e4m3fn)
        return signed(coded._data, 8), factor, "multipliers"

    return run


def torchao_float8_tensor(per_row: bool) -> Callable[[Tensor], Quantized]:
    def run(weights: Tensor) -> Quantized:
        from torchao.quantization import Float8Tensor
        from torchao.quantization.granularity import PerRow, PerTensor

        coded = Float8Tensor.from_hp(weights, granularity=PerRow() if per_row else PerTensor())
        return signed(coded.qdata, 8), coded.scale, "values"

    return run


def torchao_mx(element: str, mode: str) -> Callable[[Tensor], Quantized]:
    def run(weights: Tensor) -> Quantized:
        from torchao.prototype.mx_formats.config import ScaleCalculationMode
        from torchao.prototype.mx_formats.constants import DTYPE_FP6_E2M3, DTYPE_FP6_E3M2
        from torchao.prototype.mx_formats.mx_tensor import to_mx

        dtype = {
            "e4m3": torch.float8_e4m3fn,
            "e5m2": torch.float8_e5m2,
            "e2m3": DTYPE_FP6_E2M3,
            "e3m2": DTYPE_FP6_E3M2,
            "e2m1": torch.float4_e2m1fn_x2,
        }[element]
        scales, codes = to_mx(weights.contiguous(), dtype, 32, ScaleCalculationMode(mode))
        bits = {"e4m3": 8, "e5m2": 8, "e2m3": 6, "e3m2": 6, "e2m1": 4}[element]
        codes = unpack(codes) if bits == 4 else codes
        return signed(codes, bits), e8m0(scales), "values"

    return run


def torchao_nvfp4(weights: Tensor) -> Quantized:
    from torchao.prototype.mx_formats.nvfp4_tensor import nvfp4_quantize, per_tensor_amax_to_scale

    whole = per_tensor_amax_to_scale(weights.abs().max())
    scales, codes = nvfp4_quantize(weights.contiguous(), per_tensor_scale=whole)
    return signed(unpack(codes), 4), scales.float() * whole, "values"


def torchao_int4(weights: Tensor) -> Quantized:
    from torchao.quantization.quant_primitives import quantize_affine
    from torchao.quantization.utils import get_group_qparams_symmetric

    scales, zeros = get_group_qparams_symmetric(weights, 4, 32, torch.float32)
    codes = quantize_affine(weights, (1, 32), scales, zeros, torch.int8, -8, 7)
    return codes.to(torch.int16), scales, "values"


def torchao_int4_bf16(weights: Tensor) -> Quantized:
    """The module gives values only; its codes follow from them and its own zero and scale."""
    from torchao.quantization.qat.fake_quantize_config import Int4WeightFakeQuantizeConfig
    from torchao.quantization.qat.fake_quantizer import Int4WeightFakeQuantizer

    config = Int4WeightFakeQuantizeConfig(group_size=128, activation_dtype=torch.bfloat16)
    weights = weights.float()
    values = Int4WeightFakeQuantizer(config)(weights).view(weights.shape[0], -1, 128)
    groups = weights.view(weights.shape[0], -1, 128)
    low = groups.amin(-1, keepdim=True)
    scales = torch.clamp(groups.amax(-1, keepdim=True) - low, min=1e-6) / 15
    codes = torch.arange(16).view(16, 1, 1, 1)
    grid = (codes - 8) * scales + (low + scales * 8)
    found = (grid == values).to(torch.int16).argmax(0)
    assert bool((grid == values).any(0).all())
    zeros = (-low / scales).round().clamp(0, 15).to(torch.int16)
    return (found - zeros).reshape(weights.shape).to(torch.int16), scales.squeeze(-1), "values"


# compressed-tensors 0.20


def _ct_blocks(weights: Tensor, rows: int, cols: int) -> Tensor:
    high, wide = weights.shape[0] // rows, weights.shape[1] // cols
    return weights.view(high, rows, wide, cols).transpose(1, 2).flatten(2)


def compressed_tensors(scheme: str) -> Callable[[Tensor], Quantized]:
    def run(weights: Tensor) -> Quantized:
        from compressed_tensors.quantization import QuantizationArgs
        from compressed_tensors.quantization.lifecycle.forward import quantize
        from compressed_tensors.quantization.utils.helpers import calculate_qparams, generate_gparam

        rows, cols = weights.shape
        args, block = {
            "tensor": (dict(num_bits=8, type="float", strategy="tensor"), (rows, cols)),
            "channel": (dict(num_bits=8, type="float", strategy="channel"), (1, cols)),
            "block": (
                dict(num_bits=8, type="float", strategy="block", block_structure=[128, 128]),
                (128, 128),
            ),
            "int4": (dict(num_bits=4, type="int", strategy="group", group_size=128), (1, 128)),
            "int4 asym": (
                dict(num_bits=4, type="int", strategy="group", group_size=128, symmetric=False),
                (1, 128),
            ),
            "nvfp4": (
                dict(
                    num_bits=4,
                    type="float",
                    strategy="tensor_group",
                    group_size=16,
                    scale_dtype=torch.float8_e4m3fn,
                    zp_dtype=torch.float8_e4m3fn,
                ),
                (1, 16),
            ),
            **{
                f"mx{bits}": (
                    dict(
                        num_bits=bits,
                        type="float",
                        strategy="group",
                        group_size=32,
                        scale_dtype=torch.uint8,
                        zp_dtype=torch.uint8,
                    ),
                    (1, 32),
                )
                for bits in (4, 6, 8)
            },
        }[scheme]
        args = QuantizationArgs(**args)
        grouped = _ct_blocks(weights, *block)
        low, high = grouped.amin(-1), grouped.amax(-1)
        whole = generate_gparam(weights.min(), weights.max()) if scheme == "nvfp4" else None
        scales, zeros = calculate_qparams(low, high, args, global_scale=whole)
        # As the GPU kernel does, which divides in float32 whatever the weights are.
        scale32 = scales.float().reshape(low.shape)
        given = scale32.reshape(1) if scheme == "tensor" else scale32
        zero_points = zeros.reshape(low.shape) if scheme == "int4 asym" else None
        codes = quantize(weights.float(), given, zero_points, args, global_scale=whole)
        if scheme.startswith("int4"):
            ordinals = codes.to(torch.int16)
            if zero_points is not None:
                ordinals -= zero_points.to(torch.int16).repeat_interleave(128, 1)
        elif args.num_bits == 8:
            ordinals = signed(codes.to(torch.float8_e4m3fn), 8)
        else:
            ordinals = from_values(codes, E2M1 if args.num_bits == 4 else E2M3)
        return ordinals, scale32 if whole is None else scale32 / whole, "values"

    return run


# transformers 5.23


def transformers_fp8(scale_fmt: str | None) -> Callable[[Tensor], Quantized]:
    def run(weights: Tensor) -> Quantized:
        from types import SimpleNamespace

        from transformers.integrations.finegrained_fp8 import Fp8Quantize

        config = SimpleNamespace(weight_block_size=[128, 128], scale_fmt=scale_fmt)
        done = Fp8Quantize(SimpleNamespace(quantization_config=config)).convert(
            {"x.weight": weights}
        )
        return signed(done["x.weight"], 8), done["x.weight_scale_inv"].float(), "values"

    return run


def transformers_bitnet(weights: Tensor) -> Quantized:
    from transformers.integrations.bitnet import WeightQuant

    scale = 1.0 / weights.float().abs().mean().clamp_(min=1e-5)
    values = WeightQuant.apply(weights.float())
    return values.sign().to(torch.int16), scale.view(1, 1), "multipliers"


# bitsandbytes 0.50


def bitsandbytes_nf4(weights: Tensor) -> Quantized:
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(weights.contiguous(), blocksize=64, quant_type="nf4")
    packed = packed.view(-1)
    codes = torch.stack([packed >> 4, packed & 15], dim=-1).flatten()[: weights.numel()]
    return codes.to(torch.int16).view(weights.shape) - 7, state.absmax.view(1, -1), "values"


# ModelOpt 0.47


def modelopt_nvfp4(weights: Tensor) -> Quantized:
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    coded, scales, whole = NVFP4QTensor.quantize(weights.clone(), 16)
    ordinals = signed(unpack(coded._quantized_data), 4)
    return ordinals, scales.float() * whole, "values"


def modelopt_mxfp4(weights: Tensor) -> Quantized:
    from modelopt.torch.quantization.qtensor import MXFP4QTensor

    coded, scales = MXFP4QTensor.quantize(weights.clone(), 32)
    ordinals = signed(unpack(coded._quantized_data), 4)
    return ordinals, e8m0(scales).view(weights.shape[0], -1), "values"


def modelopt_mxfp8(weights: Tensor) -> Quantized:
    from modelopt.torch.quantization.qtensor import MXFP8QTensor

    scales = MXFP8QTensor.get_weights_scaling_factor(weights)
    codes = MXFP8QTensor.quantize_with_scale(weights, scales)
    return signed(codes, 8), e8m0(scales), "values"


_MX = {
    "mxfp8": "e4m3",
    "mxfp8-e5m2": "e5m2",
    "mxfp6-e2m3": "e2m3",
    "mxfp6-e3m2": "e3m2",
    "mxfp4": "e2m1",
}

LIBRARIES: dict[str, tuple[str, Callable[[Tensor], Quantized]]] = {
    "torchao-tensorwise": ("torchao", torchao_float8(None, False)),
    "torchao-tensorwise-pow2": ("torchao", torchao_float8(None, True)),
    "torchao-rowwise": ("torchao", torchao_float8(-1, True)),
    "torchao-rowwise-exact": ("torchao", torchao_float8(-1, False)),
    "torchao-float8-tensor": ("torchao", torchao_float8_tensor(False)),
    "torchao-float8-row": ("torchao", torchao_float8_tensor(True)),
    **{
        f"{name}{suffix}": ("torchao", torchao_mx(element, mode))
        for name, element in _MX.items()
        for suffix, mode in (
            ("", "floor"),
            ("-even", "even"),
            ("-ceil", "ceil"),
            ("-rceil-log2", "rceil"),
        )
    },
    "nvfp4-torchao": ("torchao", torchao_nvfp4),
    "int4-torchao": ("torchao", torchao_int4),
    "int4-bf16": ("torchao", torchao_int4_bf16),
    "ct-fp8": ("compressed_tensors", compressed_tensors("tensor")),
    "ct-fp8-channel": ("compressed_tensors", compressed_tensors("channel")),
    "ct-fp8-block": ("compressed_tensors", compressed_tensors("block")),
    "mxfp8-ct": ("compressed_tensors", compressed_tensors("mx8")),
    "mxfp6-e2m3-ct": ("compressed_tensors", compressed_tensors("mx6")),
    "mxfp4-ct": ("compressed_tensors", compressed_tensors("mx4")),
    "nvfp4-ct": ("compressed_tensors", compressed_tensors("nvfp4")),
    "int4-ct": ("compressed_tensors", compressed_tensors("int4")),
    "int4-ct-asym": ("compressed_tensors", compressed_tensors("int4 asym")),
    "transformers-fp8": ("transformers", transformers_fp8(None)),
    "transformers-fp8-ue8m0": ("transformers", transformers_fp8("ue8m0")),
    "bitnet": ("transformers", transformers_bitnet),
    "nf4": ("bitsandbytes", bitsandbytes_nf4),
    "nvfp4-modelopt": ("modelopt", modelopt_nvfp4),
    "mxfp4-modelopt": ("modelopt", modelopt_mxfp4),
    "mxfp8-modelopt": ("modelopt", modelopt_mxfp8),
}
"""Recipe -> library that defines it, and the function."""
