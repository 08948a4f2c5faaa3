"""Weights that ModelOpt stored, against ModelOpt itself.

``make_reference`` made the files in ``tests/data/modelopt`` (nvidia-modelopt 0.47.0 on a CPU); the
tests of the schemes read them where the library is not installed.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from altgrad_inspect.checkpoints.checkpoint import open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.layer_reader import LayerReader

qtensor = pytest.importorskip("modelopt.torch.quantization.qtensor")
export = pytest.importorskip("modelopt.torch.export.quant_utils")

REFERENCE = Path(__file__).parents[1] / "data" / "modelopt"
SHAPE, EXPERTS = (10, 64), (2, 6, 32)
F32 = torch.float32
ALGORITHMS = {
    "fp8_whole": "FP8",
    "fp8_rows": "FP8_PER_CHANNEL_PER_TOKEN",
    "fp8_blocks": "FP8_PB_WO",
    "mxfp8": "MXFP8",
    "nvfp4": "NVFP4",
    "mxfp4": "W4A8_MXFP4_FP8",
    "int8": "W8A16",
    "int4": "W4A16_AWQ",
}

Layer = tuple[dict[str, Tensor], Tensor]
"""Stored tensors by name, and the weights that the library makes of them."""


def store_fp8(name: str, weight: Tensor) -> Layer:
    scale = weight.abs().amax() / 448
    codes = export.to_quantized_weight(weight, scale, "fp8")
    restored = export.from_quantized_weight(codes, scale, "fp8", F32)
    return {f"{name}.weight": codes, f"{name}.weight_scale": scale}, restored


def store_fp8_rows(name: str, weight: Tensor) -> Layer:
    scale = weight.abs().amax(1).clamp(min=1e-6) / 448
    codes = export.to_quantized_weight(weight, scale, "fp8_pc_pt")
    restored = codes.to(F32) * scale[:, None]
    return {f"{name}.weight": codes, f"{name}.weight_scale": scale}, restored


def store_fp8_blocks(name: str, weight: Tensor) -> Layer:
    size = 32 if weight.shape == SHAPE else 128
    rows, cols = weight.shape
    padded = torch.nn.functional.pad(weight, (0, -cols % size, 0, -rows % size))
    blocks = padded.reshape(-(-rows // size), size, -(-cols // size), size)
    scale = blocks.abs().amax((1, 3), keepdim=True).clamp(min=1e-6) / 448
    codes = export.to_quantized_weight(weight, scale, "fp8_pb_wo", block_size=size)
    grid = scale.reshape(scale.shape[0], scale.shape[2])
    restored = qtensor.FP8QTensor(weight.shape, F32, codes).dequantize(
        F32, scale=grid, block_sizes={-1: size, -2: size}
    )
    return {f"{name}.weight": codes, f"{name}.weight_scale": scale}, restored


def store_mxfp8(name: str, weight: Tensor) -> Layer:
    packed, scale = qtensor.MXFP8QTensor.quantize(weight)
    stored = {f"{name}.weight": packed._quantized_data, f"{name}.weight_scale": scale}
    return stored, packed.dequantize(F32, scale=scale)


def store_nvfp4(name: str, weight: Tensor, *, transposed: bool = False) -> Layer:
    packed, scale, second = qtensor.NVFP4QTensor.quantize(weight, 16)
    restored = packed.dequantize(F32, scale=scale, double_scale=second, block_sizes={-1: 16})
    codes = packed._quantized_data
    if transposed:
        codes, scale = codes.transpose(1, 2), scale.transpose(1, 2)
    prefix = f"{name}_" if weight.dim() == 3 else f"{name}."
    stored = {
        name if weight.dim() == 3 else f"{name}.weight": codes,
        f"{prefix}weight_scale": scale,
        f"{prefix}weight_scale_2": second,
    }
    return stored, restored


def store_mxfp4(name: str, weight: Tensor) -> Layer:
    packed, scale = qtensor.MXFP4QTensor.quantize(weight, block_size=32)
    scale = scale.reshape(*weight.shape[:-1], -1)
    restored = packed.dequantize(F32, scale=scale, block_sizes={-1: 32}).reshape(weight.shape)
    return {f"{name}.weight": packed._quantized_data, f"{name}.weight_scale": scale}, restored


def store_int8(name: str, weight: Tensor) -> Layer:
    scale = weight.abs().amax(1).clamp(min=1e-6) / 127
    codes = export.to_quantized_weight(weight, scale, "int8_wo")
    restored = export.from_quantized_weight(codes, scale, "int8_wo", F32)
    return {f"{name}.weight": codes, f"{name}.weight_scale": scale}, restored


def store_int4(name: str, weight: Tensor, group: int = 32) -> Layer:
    """The library has no inverse of its packing: what it rounds to, before it packs."""
    scale = weight.reshape(*weight.shape[:-1], -1, group).abs().amax(-1).clamp(min=1e-6) / 7
    wide = scale.repeat_interleave(group, -1)
    codes = export.pack_int4_in_uint8(weight, scale, group)
    restored = (weight / wide).round().clamp(-8, 7) * wide
    return {f"{name}.weight": codes, f"{name}.weight_scale": scale}, restored


STORES = {
    "fp8_whole": store_fp8,
    "fp8_rows": store_fp8_rows,
    "fp8_blocks": store_fp8_blocks,
    "mxfp8": store_mxfp8,
    "nvfp4": store_nvfp4,
    "mxfp4": store_mxfp4,
    "int8": store_int8,
    "int4": store_int4,
}


def store_all(weight: Tensor, experts: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    tensors: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    for name, store in STORES.items():
        stored, weights[f"{name}.weight"] = store(name, weight.clone())
        tensors |= stored
    for name, transposed in (("experts.up_proj", False), ("experts.down_proj", True)):
        stored, weights[name] = store_nvfp4(name, experts.clone(), transposed=transposed)
        tensors |= stored
    return {name: one.contiguous() for name, one in tensors.items()}, weights


def make_reference(directory: Path) -> None:
    """Three checkpoints with a layer of every kind, and the weights of the first one."""
    generator = torch.Generator().manual_seed(0)
    weight, experts = (torch.randn(shape, generator=generator) for shape in (SHAPE, EXPERTS))
    for step in range(3):
        tensors, weights = store_all(weight, experts)
        others = {"fp8_whole.input_scale": torch.ones(()), "int4.pre_quant_scale": torch.ones(64)}
        save_file(tensors | others, directory / "run" / f"step_{step}.safetensors")
        if step == 0:
            save_file(weights, directory / "weights_0.safetensors")
        weight = weight + 0.05 * torch.randn(SHAPE, generator=generator)
        experts = experts + 0.1 * torch.randn(EXPERTS, generator=generator)
        weight[step, 3] = 6.0 + step
    layers = {name: {"quant_algo": algorithm} for name, algorithm in ALGORITHMS.items()}
    section = {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    content = {"producer": {"name": "modelopt"}, "quantization": section}
    (directory / "run" / "hf_quant_config.json").write_text(json.dumps(content, indent=1))


def load(path: Path) -> dict[str, Tensor]:
    layers = open_checkpoint(discover_run([path]).checkpoints[0]).layers
    with LayerReader(torch.device("cpu")) as reader:
        return {name: reader.load(layer).values.clone() for name, layer in layers.items()}


def test_the_reference_files_are_what_the_library_makes(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    make_reference(tmp_path)
    for path in sorted(tmp_path.rglob("*.safetensors")):
        made, kept = load_file(path), load_file(REFERENCE / path.relative_to(tmp_path))
        assert set(made) == set(kept)
        for name, one in made.items():
            assert one.dtype == kept[name].dtype
            assert torch.equal(one.double(), kept[name].double()), name


@pytest.mark.parametrize("has_config", [True, False])
@pytest.mark.parametrize("rows", [64, 130])
def test_weights_are_the_librarys_bit_for_bit(
    tmp_path: Path, rows: int, *, has_config: bool
) -> None:
    generator = torch.Generator().manual_seed(rows)
    spread = torch.randn(rows, 1, generator=generator).exp()
    weight = spread * torch.randn(rows, 160, generator=generator)
    weight[3] = 0.0
    tensors, expected = store_all(weight, torch.randn(3, 16, 64, generator=generator))
    save_file(tensors, tmp_path / "model.safetensors")
    if has_config:
        content = {"quantization": {"quant_algo": "MIXED_PRECISION"}}
        (tmp_path / "hf_quant_config.json").write_text(json.dumps(content))
    found = load(tmp_path / "model.safetensors")
    assert set(found) == set(expected)
    for name, one in expected.items():
        assert torch.equal(found[name], one), name


@pytest.mark.parametrize("shape", [(16, 64), (3, 8, 64)])
def test_every_code_and_scale_of_nvfp4_and_mxfp4(tmp_path: Path, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    packed = torch.randint(
        0, 256, (*shape[:-1], 32), dtype=torch.uint8, generator=generator
    ).contiguous()
    packed.view(-1)[:256] = torch.arange(256, dtype=torch.uint8)
    bits = torch.arange(packed.numel() // 8, dtype=torch.int32) % 127
    fine = bits.to(torch.uint8).view(torch.float8_e4m3fn).reshape(*shape[:-1], 4)
    exponents = (torch.arange(packed.numel() // 16) % 255).to(torch.uint8)
    exponents = exponents.reshape(*shape[:-1], 2)
    second = torch.tensor(0.00123)
    tensors = {
        "a.weight": packed,
        "a.weight_scale": fine,
        "a.weight_scale_2": second,
        "b.weight": packed.clone(),
        "b.weight_scale": exponents,
    }
    save_file(tensors, tmp_path / "model.safetensors")
    found = load(tmp_path / "model.safetensors")
    size = torch.Size(shape)
    expected = qtensor.NVFP4QTensor(size, F32, packed).dequantize(
        F32, scale=fine, double_scale=second, block_sizes={-1: 16}
    )
    assert torch.equal(found["a.weight"], expected)
    expected = qtensor.MXFP4QTensor(size, F32, packed).dequantize(
        F32, scale=exponents, block_sizes={-1: 32}
    )
    assert torch.equal(found["b.weight"], expected.reshape(shape))
