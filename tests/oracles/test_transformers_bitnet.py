"""Ternary weights that transformers packed, against its own layers."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.checkpoints.runs_on_disk import write_json
from tests.checkpoints.schemes.coded_layers import load_layer

bitnet = pytest.importorskip("transformers.integrations.bitnet")

SHAPE = (64, 48)


@pytest.mark.parametrize("linear_class", ["bitlinear", "autobitlinear"])
def test_weights_are_the_librarys_bit_for_bit(tmp_path: Path, linear_class: str) -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(-1, 2, SHAPE, generator=generator)
    packed = bitnet.pack_weights(codes.clone())
    scale = torch.rand(1, generator=generator) + 0.3
    save_file({"P.weight": packed, "P.weight_scale": scale}, tmp_path / "model.safetensors")
    settings = {"quant_method": "bitnet", "linear_class": linear_class}
    write_json(tmp_path / "config.json", {"quantization_config": settings})
    loaded = load_layer(tmp_path, "P.weight")
    with torch.compiler.set_stance("force_eager"):
        ternary = bitnet.unpack_weights(packed, torch.float32)
        assert torch.equal(ternary, codes.float())
        assert loaded.coded is not None
        assert torch.equal(loaded.coded.ordinals.reshape(SHAPE).float(), ternary)
        expected = ternary / scale if linear_class == "bitlinear" else ternary * scale
        assert torch.equal(loaded.values, expected)

        # Unit vectors as inputs give back the weights, up to the rounding of activations.
        if linear_class == "bitlinear":
            layer = bitnet.BitLinear(SHAPE[1], SHAPE[0], bias=False, dtype=torch.float32)
            layer.weight.copy_(packed)
        else:
            layer = bitnet.AutoBitLinear(SHAPE[1], SHAPE[0], bias=False, dtype=torch.float32)
            layer.weight.data.copy_(ternary)
        layer.weight_scale.copy_(scale)
        with torch.no_grad():
            outputs = layer(torch.eye(SHAPE[1]))
    assert torch.allclose(outputs.T, loaded.values, rtol=1e-6)
