"""GPTQ: versions, widths and act-order, packed bit by bit, and files of GPTQModel itself.

The files in ``tests/data/gptq`` and what their weights are come from GPTQModel 7.7.0:
``tests/oracles/test_gptqmodel.py``, ``make_reference``.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import altgrad_inspect as ai
from altgrad_inspect.checkpoints.schemes.gptq import GptqScheme
from altgrad_inspect.errors import CheckpointError
from tests.checkpoints.runs_on_disk import write_json
from tests.checkpoints.schemes.coded_layers import check_decoded, check_flips, load_layer, open_only
from tests.checkpoints.schemes.flip_oracle import Stored
from tests.checkpoints.schemes.packers import Codes, pack_planes, pack_stream

REFERENCE = Path(__file__).parents[2] / "data" / "gptq"
ROWS, COLS, GROUP = 32, 96, 32
P = "model.layers.0.self_attn.q_proj"
VALUES = {code: float(code) for code in range(-255, 256)}


class Layer:
    """One layer at one checkpoint: its codes, chosen by rounding, and how they are stored."""

    def __init__(self, weight: np.ndarray, groups: np.ndarray, bits: int) -> None:
        highest = (1 << bits) - 1
        num_groups = int(groups.max()) + 1
        self.bits, self.groups = bits, groups
        self.scales = np.zeros((ROWS, num_groups), dtype=np.float16)
        self.zeros = np.zeros((ROWS, num_groups), dtype=np.int64)
        for row, group in np.ndindex(self.scales.shape):
            part = weight[row, groups == group]
            low, high = min(part.min(), 0), max(part.max(), 0)
            self.scales[row, group] = (high - low) / highest
            self.zeros[row, group] = round(-low / float(self.scales[row, group]))
        self.zeros = np.clip(self.zeros, 1, highest)
        scale = self.scales[:, groups].astype(np.float64)
        codes = np.round(weight / scale) + self.zeros[:, groups]
        self.codes: Codes = np.clip(codes, 0, highest).astype(np.int64)

    def tensors(
        self, *, minus: int = 1, planar: bool = False, dtype: torch.dtype = torch.float16
    ) -> dict[str, Tensor]:
        pack = pack_planes if planar else pack_stream
        return {
            f"{P}.qweight": torch.from_numpy(pack(self.codes, self.bits).T.copy()),
            f"{P}.qzeros": torch.from_numpy(pack(self.zeros.T - minus, self.bits)),
            f"{P}.scales": torch.from_numpy(self.scales.T.copy()).to(dtype),
            f"{P}.g_idx": torch.from_numpy(self.groups.astype(np.int32)),
        }

    @property
    def stored(self) -> Stored:
        zero = self.zeros[:, self.groups]
        scale = self.scales[:, self.groups].astype(np.float32)
        highest = (1 << self.bits) - 1
        return Stored(code=self.codes - zero, scale=scale, zero=zero, highest=highest)


def walk(bits: int, *, act_order: bool = False) -> list[Layer]:
    """Three checkpoints; a new outlier rescales a group in each of the later ones."""
    draw = np.random.default_rng(bits)
    groups = np.arange(COLS) // GROUP
    if act_order:
        groups = draw.permutation(groups)
    weight = draw.standard_normal((ROWS, COLS))
    layers = [Layer(weight, groups, bits)]
    for step in range(2):
        weight = weight + 0.3 / (1 << bits) * draw.standard_normal(weight.shape)
        weight[step, 7] = 5.0 + step
        layers.append(Layer(weight, groups, bits))
    return layers


def config(**settings: object) -> dict[str, object]:
    return {"quantization_config": {"quant_method": "gptq", **settings}}


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize(
    ("bits", "layout"),
    [
        *((bits, "gptq") for bits in (2, 3, 4, 8)),
        *((bits, "gptq_v2") for bits in (2, 3, 4, 8)),
        *((bits, "gptq_p") for bits in (2, 3, 4, 5, 6, 7, 8)),
    ],
)
def test_codes_weights_and_flips(
    tmp_path: Path, bits: int, layout: str, *, act_order: bool
) -> None:
    layers = walk(bits, act_order=act_order)
    options = {"minus": 1 if layout == "gptq" else 0, "planar": layout == "gptq_p"}
    for step, layer in enumerate(layers):
        path = tmp_path / f"checkpoint-{step}"
        path.mkdir()
        save_file(layer.tensors(**options), path / "model.safetensors")  # type: ignore[arg-type]
        settings = {"bits": bits, "group_size": GROUP, "desc_act": act_order}
        write_json(path / "config.json", config(**settings, checkpoint_format=layout))
        check_decoded(path, f"{P}.weight", layer.stored, VALUES)
    stored = [layer.stored for layer in layers]
    check_flips(tmp_path, f"{P}.weight", stored, VALUES, fmt=f"uint{bits}")


def test_the_default_is_version_1_and_the_old_file_name_is_read(tmp_path: Path) -> None:
    layer = walk(4)[0]
    save_file(layer.tensors(), tmp_path / "model.safetensors")
    write_json(tmp_path / "quantize_config.json", {"bits": 4, "group_size": GROUP, "sym": False})
    check_decoded(tmp_path, f"{P}.weight", layer.stored, VALUES)
    found = open_only(tmp_path).layers[f"{P}.weight"]
    assert found.recognised_by == "quantize_config.json: gptq"
    assert (found.shape, found.scheme) == ((ROWS, COLS), "gptq")


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_without_configuration_shapes_decide(tmp_path: Path, bits: int) -> None:
    layer = walk(bits)[0]
    save_file(layer.tensors(), tmp_path / "model.safetensors")
    check_decoded(tmp_path, f"{P}.weight", layer.stored, VALUES)
    (note,) = open_only(tmp_path).notes
    assert "taken as minus one" in note


def test_without_configuration_zeros_in_the_middle_are_version_2(tmp_path: Path) -> None:
    layer = walk(4)[0]
    layer.zeros[:] = 8
    for minus in (0, 1):
        save_file(layer.tensors(minus=minus), tmp_path / "model.safetensors")
        check_decoded(tmp_path, f"{P}.weight", layer.stored, VALUES)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_zero_point_of_0_in_version_1_borrowed_from_its_neighbour(
    tmp_path: Path, bits: int
) -> None:
    layer = walk(bits)[0]
    layer.zeros[::3] = 0
    tensors = layer.tensors(minus=0)
    ones = sum(1 << start for start in range(0, 32, bits))
    tensors[f"{P}.qzeros"] = (tensors[f"{P}.qzeros"].long() - ones).to(torch.int32)
    save_file(tensors, tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", config(bits=bits))
    check_decoded(tmp_path, f"{P}.weight", layer.stored, VALUES)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_scales_of_any_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    layer = walk(4)[0]
    layer.scales = torch.from_numpy(layer.scales).to(dtype).half().numpy()
    save_file(layer.tensors(dtype=dtype), tmp_path / "model.safetensors")
    check_decoded(tmp_path, f"{P}.weight", layer.stored, VALUES)


def test_one_group_of_all_inputs(tmp_path: Path) -> None:
    layer = Layer(
        np.random.default_rng(0).standard_normal((ROWS, COLS)), np.zeros(COLS, dtype=np.int64), 4
    )
    save_file(layer.tensors(), tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", config(bits=4, group_size=-1))
    check_decoded(tmp_path, f"{P}.weight", layer.stored, VALUES)


def test_groups_that_only_begin_as_runs(tmp_path: Path) -> None:
    groups = np.repeat([0, 1, 2, 1, 2], [GROUP, 20, 20, 12, 12])
    layer = Layer(np.random.default_rng(0).standard_normal((ROWS, COLS)), groups, 4)
    save_file(layer.tensors(), tmp_path / "model.safetensors")
    check_decoded(tmp_path, f"{P}.weight", layer.stored, VALUES)


@pytest.mark.parametrize(
    ("packing", "minus"),
    [
        ("auto_round", 0),
        ("auto_round:gptqmodel", 0),
        ("auto_round:auto_gptq", 1),
        ("auto_round:gptq", 1),
    ],
)
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
def test_auto_round_has_no_g_idx(tmp_path: Path, packing: str, minus: int, bits: int) -> None:
    layer = walk(bits)[0]
    tensors = layer.tensors(minus=minus)
    del tensors[f"{P}.g_idx"]
    save_file(tensors, tmp_path / "model.safetensors")
    settings = {"quant_method": "auto-round", "packing_format": packing, "bits": bits}
    write_json(tmp_path / "config.json", {"quantization_config": settings})
    check_decoded(tmp_path, f"{P}.weight", layer.stored, VALUES)


def test_other_groups_are_not_compared(tmp_path: Path) -> None:
    for step, act_order in enumerate((False, True)):
        path = tmp_path / f"step_{step}.safetensors"
        save_file(walk(4, act_order=act_order)[0].tensors(), path)
    other = walk(4, act_order=True)[0].tensors()
    other[f"{P}.g_idx"] = other[f"{P}.g_idx"].flip(0)
    save_file(other, tmp_path / "step_2.safetensors")
    rows = list(ai.flips(tmp_path).to_pandas("flips").itertuples())
    assert [row.status for row in rows] == ["undefined"] * 2
    assert all("share scales in another way" in str(row.reason) for row in rows)


@pytest.mark.parametrize(
    ("name", "tensor", "reason"),
    [
        ("qzeros", None, "is stored as qweight I32"),
        ("scales", None, "is stored as qweight I32"),
        ("scales", torch.ones(3, 31), "is stored as qweight I32"),
        ("scales", torch.ones(2, 32), "is stored as qweight I32"),
        ("qzeros", torch.zeros(3, 4, dtype=torch.int16), "is stored as qweight I32"),
        ("qzeros", torch.zeros(3, 5, dtype=torch.int32), "fits no number of bits"),
        ("g_idx", torch.zeros(60, dtype=torch.int32), "fits no number of bits"),
        ("g_idx", torch.full((96,), 3, dtype=torch.int32), "has g_idx from 3 to 3"),
        ("g_idx", torch.full((96,), -4, dtype=torch.int32), "has g_idx from -4 to -4"),
    ],
)
def test_layers_that_do_not_fit_say_why(
    tmp_path: Path, name: str, tensor: Tensor | None, reason: str
) -> None:
    tensors: dict[str, Tensor | None] = {**walk(4)[0].tensors(), f"{P}.{name}": tensor}
    kept = {key: one for key, one in tensors.items() if one is not None}
    save_file(kept, tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", config(bits=4))
    with pytest.raises(CheckpointError, match=reason):
        load_layer(tmp_path, f"{P}.weight")


def test_negative_groups_count_from_the_end(tmp_path: Path) -> None:
    layer = walk(4)[0]
    tensors = layer.tensors()
    tensors[f"{P}.g_idx"] -= 3
    save_file(tensors, tmp_path / "model.safetensors")
    check_decoded(tmp_path, f"{P}.weight", layer.stored, VALUES)


def test_several_widths_need_a_configuration(tmp_path: Path) -> None:
    tensors = {
        f"{P}.qweight": torch.zeros(1, 4, dtype=torch.int32),
        f"{P}.qzeros": torch.zeros(1, 1, dtype=torch.int32),
        f"{P}.scales": torch.ones(1, 4),
        f"{P}.g_idx": torch.zeros(4, dtype=torch.int32),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"which fits .* bits, expected one width"):
        load_layer(tmp_path, f"{P}.weight")
    write_json(tmp_path / "config.json", config(bits=2))
    assert open_only(tmp_path).layers[f"{P}.weight"].dtype == "uint2"


@pytest.mark.parametrize("layout", ["gptq", "gptq_v2", "gptq_p"])
def test_weights_are_gptqmodels_bit_for_bit(layout: str) -> None:
    path = REFERENCE / layout
    expected = load_file(path / "expected" / "weights.safetensors")
    layers = open_only(path).layers
    assert set(layers) == set(expected)
    for name, weights in expected.items():
        assert layers[name].scheme == GptqScheme.name
        assert torch.equal(load_layer(path, name).values.half(), weights), name
