"""FP8 and FP4 weights beside their scales, against what transformers makes of them."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from altgrad_inspect.checkpoints.checkpoint import open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.layer_reader import LayerReader

hf = pytest.importorskip("transformers.integrations.finegrained_fp8")

EVERY_BYTE = torch.arange(256, dtype=torch.uint8)
SCALES = [torch.float32, torch.bfloat16, torch.float16, torch.uint8, torch.float8_e8m0fnu]


def load(path: Path, name: str) -> Tensor:
    layers = open_checkpoint(discover_run([path]).checkpoints[0]).layers
    assert layers[name].scheme == "block-fp8"
    with LayerReader(torch.device("cpu")) as reader:
        return reader.load(layers[name]).values.clone()


def draw_bytes(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    content = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    content.view(-1)[:256] = EVERY_BYTE
    return content


def draw_scales(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    if dtype.itemsize == 1:  # every exponent but the NaN
        return torch.randint(0, 255, shape, dtype=torch.uint8, generator=generator).view(dtype)
    return (4 * torch.randn(shape, generator=generator)).exp().clamp(min=1e-4, max=6e4).to(dtype)


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.nan_to_num(), expected.nan_to_num())


@pytest.mark.parametrize("dtype", SCALES)
@pytest.mark.parametrize("last", ["weight_scale_inv", "scale", "qscale_weight"])
@pytest.mark.parametrize(
    ("shape", "scale_shape"),
    [
        ((256, 384), (2, 3)),
        ((512, 128), (4, 1)),
        ((96, 64), (96, 2)),
        ((3, 256, 128), (3, 2, 1)),
        ((128, 128), ()),
        ((128, 128), (1,)),
        ((2, 64, 96), (2, 1, 1)),
    ],
)
def test_every_fp8_code(
    tmp_path: Path,
    dtype: torch.dtype,
    last: str,
    shape: tuple[int, ...],
    scale_shape: tuple[int, ...],
) -> None:
    generator = torch.Generator().manual_seed(0)
    codes = draw_bytes(shape, generator).view(torch.float8_e4m3fn)
    scale = draw_scales(scale_shape, dtype, generator)
    save_file({"P.weight": codes, f"P.{last}": scale}, tmp_path / "model.safetensors")
    expected = hf.Fp8Dequantize(None)._dequantize_one(codes, scale, torch.float32)
    assert_same(load(tmp_path, "P.weight"), expected)


@pytest.mark.parametrize("dtype", SCALES)
@pytest.mark.parametrize("shape", [(64, 128), (4, 32, 64)])
def test_every_fp4_code(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    codes = draw_bytes(shape, generator).view(torch.int8)
    scale = draw_scales((*shape[:-1], shape[-1] // 16), dtype, generator)
    save_file({"P.weight": codes, "P.scale": scale}, tmp_path / "model.safetensors")
    config = {"quantization_config": {"quant_method": "fp8"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    expected = hf.Fp8Dequantize(None)._dequantize_one(codes, scale, torch.float32)
    assert_same(load(tmp_path, "P.weight"), expected)


@pytest.mark.parametrize("scale_fmt", ["float", "ue8m0"])
@pytest.mark.parametrize("shape", [(256, 384), (3, 256, 128)])
@pytest.mark.parametrize("name", ["P.weight", "P.experts.gate_up_proj"])
def test_what_it_quantizes(
    tmp_path: Path, scale_fmt: str, shape: tuple[int, ...], name: str
) -> None:
    settings = SimpleNamespace(
        weight_block_size=(128, 128), scale_fmt=scale_fmt, activation_scheme="dynamic"
    )
    quantizer = hf.Fp8Quantize(SimpleNamespace(quantization_config=settings))
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)).bfloat16()
    made = {
        key: (one[0] if isinstance(one, list) else one).data.contiguous()
        for key, one in quantizer.convert({name: weight}).items()
    }
    save_file(made, tmp_path / "model.safetensors")
    (scale,) = (one for key, one in made.items() if key.endswith("scale_inv"))
    expected = hf.Fp8Dequantize(None)._dequantize_one(made[name], scale, torch.float32)
    assert_same(load(tmp_path, name), expected)
