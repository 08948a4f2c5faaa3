"""Weights that GPTQModel packed, against what it makes of them.

``make_reference`` made the files in ``tests/data/gptq`` (GPTQModel 7.7.0 on a CPU); the tests of
the scheme read them where GPTQModel is not installed.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.checkpoints.runs_on_disk import write_json
from tests.checkpoints.schemes.coded_layers import load_layer, open_only

linear = pytest.importorskip("gptqmodel.nn_modules.qlinear.torch")
model = pytest.importorskip("gptqmodel.utils.model")
quantization = pytest.importorskip("gptqmodel.quantization.config")

pytestmark = pytest.mark.filterwarnings("ignore")  # its own, of which there are many

REFERENCE = Path(__file__).parents[1] / "data" / "gptq"
WIDTHS = {"gptq": (2, 3, 4, 8), "gptq_v2": (2, 3, 4, 8), "gptq_p": (2, 3, 4, 5, 6, 7, 8)}


def pack(
    path: str,
    bits: int,
    layout: str,
    shape: tuple[int, int],
    *,
    group_size: int = 32,
    act_order: bool = False,
    lowest_zero: int = 0,
) -> tuple[dict[str, Tensor], Tensor]:
    """The tensors of one layer, and the weights that the library makes of them, F16."""
    generator = torch.Generator().manual_seed(bits)
    rows, cols = shape
    group_size = cols if group_size == -1 else group_size
    groups = torch.arange(cols) // group_size
    if act_order:
        groups = groups[torch.randperm(cols, generator=generator)]
    dense = torch.nn.Linear(cols, rows, bias=False)
    dense.weight.data = torch.randn(shape, generator=generator)
    size = (rows, cols // group_size)
    scales = (4 * torch.rand(size, generator=generator) + 0.1) / 2**bits
    zeros = torch.randint(lowest_zero, 1 << bits, size, generator=generator)
    packed = linear.TorchLinear(
        bits=bits,
        group_size=group_size,
        sym=False,
        desc_act=act_order,
        in_features=cols,
        out_features=rows,
        bias=False,
        format=quantization.FORMAT(layout),
    )
    packed.pack_block(dense, scales, zeros.float(), groups.int())
    packed.post_init()
    weights = packed.dequantize_weight().T.contiguous()
    if layout == "gptq":
        with torch.inference_mode():
            model.convert_gptq_v2_to_v1_format_module(
                packed, quantization.QuantizeConfig(bits=bits, offload_to_disk=False)
            )
    tensors = {f"{path}.{name}": one.clone() for name, one in packed.state_dict().items()}
    return tensors, weights.clone()


def make_reference(directory: Path) -> None:
    """Every layout with the widths that it stores in a way of its own, even ones in act-order."""
    for layout, widths in WIDTHS.items():
        tensors: dict[str, Tensor] = {}
        weights: dict[str, Tensor] = {}
        for bits in (3, 5, 6, 7) if layout == "gptq_p" else widths:
            stored, weights[f"of_{bits}_bits.weight"] = pack(
                f"of_{bits}_bits", bits, layout, (32, 64), act_order=bits % 2 == 0
            )
            tensors |= stored
        path = directory / layout
        (path / "expected").mkdir(parents=True, exist_ok=True)
        save_file(tensors, path / "model.safetensors")
        save_file(weights, path / "expected" / "weights.safetensors")
        settings = {"quant_method": "gptq", "bits": 4, "checkpoint_format": layout}
        write_json(path / "config.json", {"quantization_config": settings})


def test_the_reference_files_are_what_the_library_makes(tmp_path: Path) -> None:
    make_reference(tmp_path)
    for path in sorted(tmp_path.rglob("*.safetensors")):
        made, kept = load_file(path), load_file(REFERENCE / path.relative_to(tmp_path))
        assert set(made) == set(kept)
        for name, one in made.items():
            assert torch.equal(one, kept[name]), name


@pytest.mark.parametrize(
    ("bits", "layout"), [(bits, layout) for layout, widths in WIDTHS.items() for bits in widths]
)
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("group_size", [32, 128, -1])
def test_weights_are_the_librarys_bit_for_bit(
    tmp_path: Path, bits: int, layout: str, group_size: int, *, act_order: bool
) -> None:
    stored, expected = pack(
        "P", bits, layout, (96, 256), group_size=group_size, act_order=act_order
    )
    save_file(stored, tmp_path / "model.safetensors")
    settings = {"quant_method": "gptq", "bits": bits, "checkpoint_format": layout}
    write_json(tmp_path / "config.json", {"quantization_config": settings})
    assert open_only(tmp_path).layers["P.weight"].shape == (96, 256)
    found = load_layer(tmp_path, "P.weight").values
    assert torch.equal(found.half(), expected)
