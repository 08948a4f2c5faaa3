"""Weights that compressed-tensors stored, against compressed-tensors itself.

``make_reference`` made the files in ``tests/data/compressed_tensors`` (version 0.20.0); the
tests of the schemes read them where the library is not installed.
"""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from altgrad_inspect.checkpoints.checkpoint import open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.layer_reader import LayerReader

ct = pytest.importorskip("compressed_tensors", minversion="0.18")

REFERENCE = Path(__file__).parents[1] / "data" / "compressed_tensors"
FLOAT8 = torch.float8_e4m3fn
MX = {"scale_dtype": torch.uint8, "zp_dtype": torch.uint8}
NV = {"scale_dtype": FLOAT8, "zp_dtype": FLOAT8}
GROUP: dict[str, Any] = {"strategy": "group", "group_size": 32}
LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "pack4": ("pack-quantized", {"num_bits": 4, **GROUP}),
    "pack4_zero": ("pack-quantized", {"num_bits": 4, "symmetric": False, **GROUP}),
    "pack3_zero": ("pack-quantized", {"num_bits": 3, "symmetric": False, "strategy": "channel"}),
    "pack8": ("pack-quantized", {"num_bits": 8, "strategy": "tensor"}),
    "pack1_zero": ("pack-quantized", {"num_bits": 1, "symmetric": False, **GROUP}),
    "int8_zero": ("int-quantized", {"num_bits": 8, "symmetric": False, "strategy": "channel"}),
    "float8": ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}),
    "float8_block": (
        "float-quantized",
        {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [5, 48]},
    ),
    "nvfp4": (
        "nvfp4-pack-quantized",
        {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, **NV},
    ),
    "mxfp4": ("mxfp4-pack-quantized", {"num_bits": 4, "type": "float", **GROUP, **MX}),
    "mxfp6": ("mxfp6-pack-quantized", {"num_bits": 6, "type": "float", **GROUP, **MX}),
    "mxfp8": ("mxfp8-quantized", {"num_bits": 8, "type": "float", **GROUP, **MX}),
}
SHAPE = (9, 64)


def find_ranges(weight: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Smallest and largest weight of every block, in the shape of the scales."""
    rows, cols = weight.shape
    strategy = options["strategy"]
    if strategy == "tensor":
        blocks = weight.reshape(1, -1)
    elif strategy == "block":
        height, width = options["block_structure"]
        padded = torch.nn.functional.pad(weight, (0, -cols % width, 0, -rows % height))
        blocks = padded.reshape(-(-rows // height), height, -(-cols // width), width)
        blocks = blocks.transpose(1, 2).flatten(2)
    else:
        blocks = weight.reshape(rows, -1, options.get("group_size", cols))
    return blocks.amin(-1), blocks.amax(-1)


def store(
    format_name: str, weight: Tensor, options: dict[str, Any]
) -> tuple[dict[str, Tensor], Tensor]:
    """The tensors of one module, and the weights that the library makes of them."""
    utils = ct.quantization.utils
    args = ct.quantization.QuantizationArgs(**{"type": "int", "symmetric": True} | options)
    scheme = ct.quantization.QuantizationScheme(targets=["Linear"], weights=args)
    compressor = ct.compressors.BaseCompressor.get_value_from_registry(format_name)
    state = {"weight": weight}
    whole: dict[str, Tensor] = {}
    if options["strategy"] == "tensor_group":
        state["weight_global_scale"] = utils.generate_gparam(weight.min(), weight.max()).reshape(1)
        whole = {"global_scale": state["weight_global_scale"]}
    least, most = find_ranges(weight, options)
    state["weight_scale"], zero = utils.calculate_qparams(least, most, args, **whole)
    if zero is not None:
        state["weight_zero_point"] = zero
    stored = compressor.compress(state, scheme)
    copy = {name: tensor.clone() for name, tensor in stored.items()}
    return stored, compressor.decompress(copy, scheme)["weight"]


def configure(layers: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, object]:
    groups = {
        f"group_{number}": {
            "targets": [name],
            "format": format_name,
            "weights": {
                "type": "int",
                **{key: one for key, one in options.items() if not key.endswith("dtype")},
            },
        }
        for number, (name, (format_name, options)) in enumerate(layers.items())
    }
    settings = {"quant_method": "compressed-tensors", "version": "0.20.0", "config_groups": groups}
    return {"quantization_config": {**settings, "format": "mixed-precision", "ignore": ["head"]}}


def make_reference(directory: Path) -> None:
    """Three checkpoints with a layer of every kind, and the weights of the first one."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(SHAPE, generator=generator)
    weight[1] = 0.0
    for step in range(3):
        tensors: dict[str, Tensor] = {"head.weight": weight[:2].clone()}
        weights: dict[str, Tensor] = {}
        for name, (format_name, options) in LAYERS.items():
            stored, weights[f"{name}.weight"] = store(format_name, weight, options)
            tensors |= {f"{name}.{key}": one.contiguous() for key, one in stored.items()}
        save_file(tensors, directory / "run" / f"step_{step}.safetensors")
        if step == 0:
            narrow = {name: one.bfloat16() for name, one in weights.items()}
            exact = {name: torch.equal(one, narrow[name].float()) for name, one in weights.items()}
            weights = {
                name: (narrow[name] if exact[name] else one).contiguous()
                for name, one in weights.items()
            }
            save_file(weights, directory / "weights_0.safetensors")
        weight = weight + 0.05 * torch.randn(SHAPE, generator=generator)
        weight[step, 3] = 6.0 + step
    (directory / "run" / "config.json").write_text(json.dumps(configure(LAYERS), indent=1))


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
            assert torch.equal(one.view(torch.uint8), kept[name].view(torch.uint8)), name


INTEGERS = [
    (f"{kind}-quantized", {"num_bits": bits, "symmetric": symmetric, **strategy})
    for kind, bits, symmetric, strategy in itertools.product(
        ("pack", "int"),
        range(1, 9),
        (True, False),
        ({"strategy": "tensor"}, {"strategy": "channel"}, GROUP),
    )
    if not (kind == "int" and bits == 1)
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("has_config", [True, False])
def test_weights_are_the_librarys_bit_for_bit(
    tmp_path: Path, dtype: torch.dtype, *, has_config: bool
) -> None:
    """The library returns the scales' dtype, or bfloat16; then ours round to that."""
    generator = torch.Generator().manual_seed(1)
    spread = torch.randn(40, 1, generator=generator).exp()
    weight = (spread * torch.randn(40, 160, generator=generator)).to(dtype)
    weight[3] = 0.0
    listed = [*LAYERS.values(), *INTEGERS]
    cases = [one for one in listed if has_config or "block_structure" not in one[1]]
    layers = {f"layer_{number}": case for number, case in enumerate(cases)}
    tensors: dict[str, Tensor] = {}
    expected: dict[str, Tensor] = {}
    for name, (format_name, options) in layers.items():
        stored, expected[f"{name}.weight"] = store(format_name, weight, options)
        tensors |= {f"{name}.{key}": one.contiguous() for key, one in stored.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    if has_config:
        (tmp_path / "config.json").write_text(json.dumps(configure(layers)))
    found = load(tmp_path / "model.safetensors")
    assert set(found) == set(expected)
    for name, one in expected.items():
        assert torch.equal(found[name].to(one.dtype), one), layers[name.partition(".")[0]]
