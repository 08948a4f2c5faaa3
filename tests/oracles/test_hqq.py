"""Weights that HQQ packed, against what it makes of them.

``make_reference`` made the files in ``tests/data/hqq`` (hqq 0.2.8.post1 on a CPU); the tests of
the scheme read them where hqq is not installed.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.checkpoints.schemes.coded_layers import load_layer

hqq = pytest.importorskip("hqq.core.quantize")

pytestmark = pytest.mark.filterwarnings("ignore")

REFERENCE = Path(__file__).parents[1] / "data" / "hqq"
WIDTHS = (8, 6, 5, 4, 3, 2, 1.58, 1)


def pack(
    path: str,
    nbits: float,
    shape: tuple[int, int],
    *,
    group_size: int | None = 16,
    axis: int = 1,
    dtype: torch.dtype = torch.float32,
    view_as_float: bool = False,
    channel_wise: bool = True,
) -> tuple[dict[str, Tensor], Tensor]:
    """The tensors of one layer, and the weights that the library makes of them."""
    generator = torch.Generator().manual_seed(int(100 * nbits))
    weight = torch.randn(shape, generator=generator) + torch.randn(shape[0], 1, generator=generator)
    config = hqq.hqq_base_quant_config(
        nbits=nbits, group_size=group_size, axis=axis, view_as_float=view_as_float
    )
    config["weight_quant_params"]["channel_wise"] = channel_wise
    layer = hqq.HQQLinear.from_weights(weight, None, config, compute_dtype=dtype, device="cpu")
    state = {name: one for name, one in layer.state_dict().items() if one is not None}
    tensors = {f"{path}.{name}": one.clone().contiguous() for name, one in state.items()}
    return tensors, layer.dequantize().clone()


def make_reference(directory: Path) -> None:
    """One layer of every packing, and of two along axis 0."""
    tensors: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    kinds = [(1, nbits) for nbits in (5, 4, 3, 2, 1.58, 1)] + [(0, nbits) for nbits in (4, 3)]
    for axis, nbits in kinds:
        path = f"axis_{axis}_of_{nbits}_bits".replace(".", "_")
        stored, weights[f"{path}.weight"] = pack(
            path, nbits, (8, 32), axis=axis, dtype=torch.float16
        )
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


@pytest.mark.parametrize("nbits", WIDTHS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("group_size", [16, 64])
@pytest.mark.parametrize("view_as_float", [False, True])
def test_weights_are_the_librarys_bit_for_bit(
    tmp_path: Path, nbits: float, axis: int, group_size: int, *, view_as_float: bool
) -> None:
    stored, expected = pack(
        "P", nbits, (48, 128), group_size=group_size, axis=axis, view_as_float=view_as_float
    )
    save_file(stored, tmp_path / "model.safetensors")
    found = load_layer(tmp_path, "P.weight").values
    assert expected.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("nbits", [8, 4, 2])
@pytest.mark.parametrize("channel_wise", [True, False])
def test_rows_columns_and_layers_as_groups(
    tmp_path: Path, nbits: float, axis: int, *, channel_wise: bool
) -> None:
    stored, expected = pack(
        "P", nbits, (16, 48), group_size=None, axis=axis, channel_wise=channel_wise
    )
    save_file(stored, tmp_path / "model.safetensors")
    assert torch.equal(load_layer(tmp_path, "P.weight").values, expected)
