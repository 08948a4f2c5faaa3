"""Weights and codes that bitsandbytes stored, against bitsandbytes itself.

``make_reference`` made the files in ``tests/data/bitsandbytes`` (bitsandbytes 0.50.2 on a CPU);
the tests of the schemes read them where bitsandbytes is not installed.
"""

import importlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from altgrad_inspect.checkpoints.checkpoint import open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.layer_reader import LayerReader

bnb = pytest.importorskip("bitsandbytes")

REFERENCE = Path(__file__).parents[1] / "data" / "bitsandbytes"
STORAGES = (torch.uint8, torch.bfloat16, torch.float32)


def store_4bit(
    name: str, weight: Tensor, *, blocksize: int = 64, **options: object
) -> tuple[dict[str, Tensor], Tensor]:
    """The tensors of one layer, and the weights that the library makes of them.

    By its implementation for any device: the one for CPUs with AVX-512 (0.50.2) takes another
    block's maximum where the rows are no multiple of the block size.
    """
    codes, state = bnb.functional.quantize_4bit(weight, blocksize=blocksize, **options)
    packed = {f"{name}.{key}": one for key, one in state.as_dict(packed=True).items()}
    absmax = state.absmax
    if state.nested:
        absmax = bnb.functional.dequantize_blockwise(absmax, state.state2) + state.offset
    generic = importlib.import_module("bitsandbytes.backends.default.ops")
    restored = generic._dequantize_4bit_compute(
        codes.view(torch.uint8).reshape(-1),
        absmax,
        state.code,
        blocksize,
        list(weight.shape),
        weight.dtype,
    )
    return {name: codes, **packed}, restored.reshape(weight.shape)


def store_int8(path: str, weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    codes, maxima, _ = bnb.functional.int8_vectorwise_quant(weight.half())
    tensors = {
        f"{path}.weight": codes,
        f"{path}.SCB": maxima,
        f"{path}.weight_format": torch.tensor(0, dtype=torch.uint8),
    }
    return tensors, bnb.functional.int8_vectorwise_dequant(codes, maxima)


def make_reference(directory: Path) -> None:
    """Three checkpoints of every kind, and the weights of the first one."""
    (directory / "run").mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(12, 50, generator=generator)
    for step in range(3):
        tensors: dict[str, Tensor] = {}
        weights: dict[str, Tensor] = {}
        for kind in ("nf4", "fp4"):
            for nested in (False, True):
                name = f"{kind}{'_nested' * nested}.weight"
                stored, weights[name] = store_4bit(
                    name, weight, quant_type=kind, compress_statistics=nested
                )
                tensors |= stored
        stored, weights["in_bf16.weight"] = store_4bit(
            "in_bf16.weight", weight, quant_type="nf4", quant_storage=torch.bfloat16
        )
        tensors |= stored
        stored, weights["int8.weight"] = store_int8("int8", weight)
        save_file(tensors | stored, directory / "run" / f"step_{step}.safetensors")
        if step == 0:
            save_file(weights, directory / "weights_0.safetensors")
        weight = weight + 0.05 * torch.randn(weight.shape, generator=generator)
        weight[step, 3] = 6.0 + step


def load(path: Path) -> dict[str, Tensor]:
    layers = open_checkpoint(discover_run([path]).checkpoints[0]).layers
    with LayerReader(torch.device("cpu")) as reader:
        return {name: reader.load(layer).values.clone() for name, layer in layers.items()}


def test_the_reference_files_are_what_the_library_makes(tmp_path: Path) -> None:
    make_reference(tmp_path)
    for path in sorted(tmp_path.rglob("*.safetensors")):
        made, kept = load_file(path), load_file(REFERENCE / path.relative_to(tmp_path))
        assert set(made) == set(kept)
        for name, one in made.items():
            assert torch.equal(one, kept[name]), name


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("blocksize", [32, 64, 256, 1024])
def test_4bit_weights_are_the_librarys_bit_for_bit(
    tmp_path: Path, kind: str, storage: torch.dtype, blocksize: int, *, nested: bool
) -> None:
    generator = torch.Generator().manual_seed(blocksize)
    spread = torch.randn(256, 1, generator=generator).exp()
    weight = spread * torch.randn(256, 96, generator=generator)  # up to 768 blocks
    weight[3] = 0.0
    weight[4, :16] = torch.linspace(-1, 1, 16)
    stored, expected = store_4bit(
        "P.weight",
        weight,
        quant_type=kind,
        compress_statistics=nested,
        quant_storage=storage,
        blocksize=blocksize,
    )
    save_file(stored, tmp_path / "model.safetensors")
    (found,) = load(tmp_path / "model.safetensors").values()
    assert found.dtype == expected.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_4bit_weights_round_to_what_the_library_returns(tmp_path: Path, dtype: torch.dtype) -> None:
    weight = torch.randn(3, 5, 30, generator=torch.Generator().manual_seed(0)).to(dtype)
    stored, expected = store_4bit("P.weight", weight, quant_type="nf4")
    save_file(stored, tmp_path / "model.safetensors")
    (found,) = load(tmp_path / "model.safetensors").values()
    assert found.shape == weight.shape
    assert torch.equal(found.to(dtype), expected)


def test_int8_weights_are_the_librarys_bit_for_bit(tmp_path: Path) -> None:
    weight = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    weight[0, :] = torch.linspace(-3, 3, 256)
    stored, expected = store_int8("P", weight)
    stored["P.weight"][1] = torch.arange(-128, 128).to(torch.int8)  # every code
    expected = bnb.functional.int8_vectorwise_dequant(stored["P.weight"], stored["P.SCB"])
    save_file(stored, tmp_path / "model.safetensors")
    (found,) = load(tmp_path / "model.safetensors").values()
    assert torch.equal(found, expected)
