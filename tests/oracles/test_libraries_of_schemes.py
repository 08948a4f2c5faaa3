"""Files that torchao, optimum-quanto and transformers write or read, decoded as they decode them.

Random weights of many magnitudes and every code; reference files of the same libraries, which
need none of them, are in ``tests/data``.
"""

import importlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from altgrad_inspect.checkpoints.layer_reader import LayerReader
from tests.checkpoints.schemes.stored_layers import load, open_stored, store

pytestmark = pytest.mark.filterwarnings("ignore")


def need(name: str) -> Any:
    """Import a library, which may warn, or skip the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            pytest.skip(f"{name} is not installed")


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    spread = torch.logspace(-3, 2, shape[-2])[:, None]
    return torch.randn(*shape, generator=generator) * spread


def torchao_tensors(seed: int) -> dict[str, Any]:
    mx = need("torchao.prototype.mx_formats.mx_tensor").MXTensor.to_mx
    nvfp4 = need("torchao.prototype.mx_formats.nvfp4_tensor")
    ao = need("torchao.quantization")
    block = need("torchao.quantization.granularity").PerBlock
    float8, int8 = ao.Float8Tensor.from_hp, ao.Int8Tensor.from_hp
    intx, asymmetric = ao.IntxUnpackedToInt8Tensor.from_hp, ao.MappingType.ASYMMETRIC
    wide, cube = draw(300, 256, seed=seed), draw(3, 128, 64, seed=seed)
    packed, whole = torch.float4_e2m1fn_x2, nvfp4.per_tensor_amax_to_scale(wide.abs().max())
    three_bits: Any = vars(torch)["int3"]  # its types are not declared
    bits = {
        f"int{n}_{n}.weight": intx(wide, (1, 64), getattr(torch, f"int{n}")) for n in range(1, 9)
    }
    return {
        **bits,
        "f8_row.weight": float8(wide, granularity=ao.PerRow()),
        "f8_tensor.weight": float8(wide, granularity=ao.PerTensor()),
        "f8_block.weight": float8(wide[:256], granularity=block([128, 128])),
        "f8_e5m2.weight": float8(wide, torch.float8_e5m2, granularity=ao.PerRow()),
        "int8.weight": int8(wide, granularity=ao.PerRow()),
        "int8_asymmetric.weight": int8(wide + 1, granularity=ao.PerRow(), mapping_type=asymmetric),
        "int3_asymmetric.weight": intx(wide + 1, (1, 16), three_bits, mapping_type=asymmetric),
        "mx8.weight": mx(wide, torch.float8_e4m3fn),
        "mx8_swizzled.weight": mx(wide, torch.float8_e5m2, is_swizzled_scales=True),
        "mx6.weight": mx(wide, "fp6_e2m3"),
        "mx6_e3m2.weight": mx(wide, "fp6_e3m2", is_swizzled_scales=True),
        "mx4.weight": mx(wide, packed),
        "mx4_swizzled.weight": mx(wide, packed, is_swizzled_scales=True),
        "mx4_stack.weight": mx(cube, packed, is_swizzled_scales=True),
        "nvfp4.weight": nvfp4.NVFP4Tensor.to_nvfp4(wide),
        "nvfp4_two_levels.weight": nvfp4.NVFP4Tensor.to_nvfp4(
            wide, per_tensor_scale=whole, is_swizzled_scales=True
        ),
        "nvfp4_stack.weight": nvfp4.NVFP4Tensor.to_nvfp4(cube, is_swizzled_scales=True),
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_torchao(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    support = need("torchao.prototype.safetensors.safetensors_support")
    tensors = torchao_tensors(seed)
    flat, metadata = support.flatten_tensor_state_dict(tensors)
    expect(store(tmp_path / "step_1", flat, metadata), tensors)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", ["qint8", "qint4", "qint2", "qfloat8_e4m3fn", "qfloat8_e5m2"])
def test_quanto(tmp_path: Path, kind: str, seed: int) -> None:
    quanto = need("optimum.quanto")
    torch.manual_seed(seed)
    model = torch.nn.ModuleDict(
        {
            "grouped": torch.nn.Linear(384, 24),
            "thin": torch.nn.Linear(160, 9),
            "odd": torch.nn.Linear(20, 7, bias=False),
            "conv": torch.nn.Conv2d(3, 5, 2),
            "grouped_conv": torch.nn.Conv2d(32, 5, 3),
        }
    )
    quanto.quantize(model, weights=getattr(quanto, kind))
    quanto.freeze(model)
    tensors = {f"{name}.weight": one.weight for name, one in model.items()}
    path = store(
        tmp_path / "step_1", {key: one.detach() for key, one in model.state_dict().items()}
    )
    expect(path, tensors)


def expect(path: Path, tensors: Mapping[str, Any]) -> None:
    """Every tensor is read as its own library dequantizes it, bit for bit, but for shapes."""
    checkpoint = open_stored(path)
    with LayerReader(torch.device("cpu")) as reader:
        for name, tensor in tensors.items():
            found = reader.load(checkpoint.layers[name])
            expected = tensor.dequantize().detach()
            assert torch.equal(found.values.flatten(), expected.flatten()), name
            assert found.coded is not None


def test_transformers_reads_gpt_oss(tmp_path: Path) -> None:
    mxfp4 = need("transformers.integrations.mxfp4")
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (4, 96, 6, 16), generator=generator, dtype=torch.uint8)
    scales = torch.randint(0, 255, (4, 96, 6), generator=generator, dtype=torch.uint8)
    path = store(tmp_path / "step_1", {"w_blocks": blocks, "w_scales": scales})
    expected = mxfp4.convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    assert torch.equal(load(path, "w").values, expected.transpose(1, 2))
