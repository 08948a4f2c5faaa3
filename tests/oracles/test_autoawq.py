"""Weights that AutoAWQ packed, against what it makes of them.

``make_reference`` made the file in ``tests/data/awq`` (AutoAWQ 0.2.9 on a CPU); the tests of the
scheme read it where AutoAWQ is not installed. Its packages are opened without their
``__init__``, which asks for transformers 4 and data sets.
"""

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.checkpoints.runs_on_disk import write_json
from tests.checkpoints.schemes.coded_layers import load_layer

pytestmark = pytest.mark.filterwarnings("ignore")  # its own, of which there are many

REFERENCE = Path(__file__).parents[1] / "data" / "awq"
_SPEC = find_spec("awq")
if _SPEC is None or not _SPEC.submodule_search_locations:
    pytest.skip("AutoAWQ is not installed", allow_module_level=True)
_ROOT = Path(_SPEC.submodule_search_locations[0])


def load(name: str) -> Any:  # a module without types
    for package in ("awq", "awq.utils", "awq.modules", "awq.modules.linear"):
        bare = ModuleType(package)
        bare.__path__ = [str(_ROOT.joinpath(*package.split(".")[1:]))]
        sys.modules.setdefault(package, bare)
    return importlib.import_module(name)


def quantize(shape: tuple[int, int], group_size: int) -> tuple[torch.nn.Linear, Tensor, Tensor]:
    """A linear layer, and scales and zero points of its groups, (outputs, groups)."""
    generator = torch.Generator().manual_seed(group_size)
    rows, cols = shape
    dense = torch.nn.Linear(cols, rows, bias=False)
    dense.weight.data = torch.randn(shape, generator=generator)
    zeros = torch.randint(0, 16, (rows, cols // group_size), generator=generator)
    grouped = dense.weight.data.reshape(rows, -1, group_size)
    scales = ((grouped.amax(-1) - grouped.amin(-1)) / 15).half().float()
    codes = torch.clamp((grouped / scales[..., None]).round() + zeros[..., None], 0, 15)
    dense.weight.data = ((codes - zeros[..., None]) * scales[..., None]).reshape(shape)
    return dense, scales, zeros


def pack_gemm(
    path: str, shape: tuple[int, int], group_size: int
) -> tuple[dict[str, Tensor], Tensor]:
    """The tensors of one layer, and the weights that the library makes of them, F16."""
    dense, scales, zeros = quantize(shape, group_size)
    packed = load("awq.modules.linear.gemm").WQLinear_GEMM.from_linear(
        dense, 4, group_size, scales=scales.T.contiguous(), zeros=zeros.T.contiguous()
    )
    weights = load("awq.utils.packing_utils").dequantize_gemm(
        packed.qweight, packed.qzeros, packed.scales, 4, group_size
    )
    tensors = {f"{path}.{name}": one.clone() for name, one in packed.state_dict().items()}
    return tensors, weights.T.contiguous()


def make_reference(directory: Path) -> None:
    """Two layers with groups of 32 and 64."""
    tensors: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    for group_size in (32, 64):
        path = f"in_groups_of_{group_size}"
        stored, weights[f"{path}.weight"] = pack_gemm(path, (32, 128), group_size)
        tensors |= stored
    (directory / "expected").mkdir(parents=True, exist_ok=True)
    save_file(tensors, directory / "model.safetensors")
    save_file(weights, directory / "expected" / "weights.safetensors")


def test_the_reference_files_are_what_the_library_makes(tmp_path: Path) -> None:
    make_reference(tmp_path)
    for path in sorted(tmp_path.rglob("*.safetensors")):
        made, kept = load_file(path), load_file(REFERENCE / path.relative_to(tmp_path))
        assert set(made) == set(kept)
        for name, one in made.items():
            assert torch.equal(one, kept[name]), name


@pytest.mark.parametrize("group_size", [32, 64, 128, 256])
def test_gemm_weights_are_the_librarys_bit_for_bit(tmp_path: Path, group_size: int) -> None:
    stored, expected = pack_gemm("P", (96, 256), group_size)
    save_file(stored, tmp_path / "model.safetensors")
    assert torch.equal(load_layer(tmp_path, "P.weight").values.half(), expected)


@pytest.mark.parametrize("group_size", [32, 64, 128, 256])
def test_gemv_weights_are_those_that_were_packed(tmp_path: Path, group_size: int) -> None:
    dense, scales, zeros = quantize((96, 256), group_size)
    packed = load("awq.modules.linear.gemv").WQLinear_GEMV.from_linear(
        dense, 4, group_size, scales=scales, zeros=zeros
    )
    stored = {f"P.{name}": one.clone() for name, one in packed.state_dict().items()}
    save_file(stored, tmp_path / "model.safetensors")
    settings = {"quant_method": "awq", "version": "gemv", "group_size": group_size, "bits": 4}
    write_json(tmp_path / "config.json", {"quantization_config": settings})
    assert torch.equal(load_layer(tmp_path, "P.weight").values, dense.weight.data)
