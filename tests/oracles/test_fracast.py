"""A model that somebody else quantized: fracast 0.1.0 ships float weights and int8 ones.

Its rule is int8 with one scale a row: amax / 127, codes rounded to even. It is one that this
package also simulates, so the shipped codes can be made again from the float file.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import altgrad_inspect as ai
from altgrad_inspect.quantize.grids import encode_ordinals
from altgrad_inspect.quantize.rules import fit_scales
from altgrad_inspect.quantize.scales import view_for
from altgrad_inspect.quantize.spec import parse_quantizer
from tests.checkpoints.schemes.stored_layers import load, open_stored, rows_of

CODES, SCALE = ".qweight", ".scale"


@pytest.fixture(scope="module")
def weights_directory() -> Path:
    spec = find_spec("fracast")
    if spec is None or spec.origin is None:
        pytest.skip("fracast is not installed")
    return Path(spec.origin).parent / "weights"


@pytest.fixture(scope="module")
def floats(weights_directory: Path) -> dict[str, Tensor]:
    return load_file(weights_directory / "model.safetensors")


@pytest.fixture(scope="module")
def shipped(weights_directory: Path) -> dict[str, Tensor]:
    return load_file(weights_directory / "model.int8.safetensors")


@pytest.fixture(scope="module")
def names(shipped: dict[str, Tensor]) -> list[str]:
    found = sorted(name.removesuffix(CODES) for name in shipped if name.endswith(CODES))
    assert len(found) == 20
    return found


def test_its_codes_and_scales_are_made_again(
    floats: dict[str, Tensor], shipped: dict[str, Tensor], names: list[str]
) -> None:
    num_codes = 0
    for name in names:
        codes, scale = shipped[name + CODES], shipped[name + SCALE]
        # The one vector among them has one scale.
        quantizer = parse_quantizer("int8:channel" if codes.dim() > 1 else "int8:tensor")
        rows = codes.shape[0] if codes.dim() > 1 else 1
        weights = floats[name].reshape(rows, -1)
        view = view_for(quantizer, num_matrices=1, rows=rows, cols=weights.shape[1])
        weights = weights.reshape(view.shape)
        scales = fit_scales(weights, quantizer, view)
        assert torch.equal(scales.values.flatten(), scale.flatten()), name
        at = (slice(0, view.shape[0]), slice(0, view.shape[1]))
        made = encode_ordinals(scales.scale_down(weights, *at), quantizer.fmt)
        assert torch.equal(made.flatten().to(torch.int8), codes.flatten()), name
        num_codes += codes.numel()
    assert num_codes == sum(one.numel() for name, one in shipped.items() if name.endswith(CODES))


def test_the_int8_file_is_read_as_codes_times_scale(
    weights_directory: Path, shipped: dict[str, Tensor], names: list[str]
) -> None:
    path = weights_directory / "model.int8.safetensors"
    checkpoint = open_stored(path)
    coded = {name for name, layer in checkpoint.layers.items() if layer.scheme == "generic"}
    assert coded == set(names)
    (note,) = checkpoint.notes
    assert "20 layers of no known scheme" in note
    for name in names:
        codes, scale = shipped[name + CODES].numpy(), shipped[name + SCALE].numpy()
        loaded = load(path, name)
        assert np.array_equal(loaded.values.numpy(), codes.astype(np.float32) * scale), name
        assert loaded.coded is not None
        assert np.array_equal(loaded.coded.ordinals.numpy().reshape(codes.shape), codes)


def test_flips_between_the_shipped_codes_and_later_ones(
    tmp_path: Path, floats: dict[str, Tensor], shipped: dict[str, Tensor], names: list[str]
) -> None:
    """Later codes are made in numpy by its rule, from weights that moved a little."""
    directory = tmp_path / "checkpoint-0"
    directory.mkdir()
    save_file(shipped, directory / "model.safetensors")
    draw = np.random.default_rng(0)
    later: dict[str, Tensor] = {}
    for name in names:
        weight = floats[name].numpy()
        moved = weight + np.float32(0.01 * weight.std()) * draw.standard_normal(weight.shape)
        moved = np.clip(moved, weight.min(), weight.max()).astype(np.float32)
        axes = tuple(range(1, weight.ndim)) or (0,)
        scale = np.abs(moved).max(axes, keepdims=True) / np.float32(127)
        later[name + CODES] = torch.from_numpy(np.rint(moved / scale).astype(np.int8))
        later[name + SCALE] = torch.from_numpy(scale)
    directory = tmp_path / "checkpoint-1"
    directory.mkdir()
    save_file(later, directory / "model.safetensors")
    results = ai.flips(tmp_path)
    num_flipped = 0
    for name in names:
        before, after = shipped[name + CODES].numpy(), later[name + CODES].numpy()
        scale, new_scale = shipped[name + SCALE].numpy(), later[name + SCALE].numpy()
        weights = after.astype(np.float32) * new_scale
        at_earlier = np.clip(np.rint(weights / scale), -128, 127)
        at_earlier = np.where(scale == new_scale, after, at_earlier)
        (row,) = rows_of(results, "flips", name)
        assert row["quantizer"] == "stored:int8"
        assert row["num_flipped"] == np.count_nonzero(at_earlier != before), name
        assert row["num_recoded"] == np.count_nonzero(after != before), name
        assert row["num_scales_changed"] == np.count_nonzero(scale != new_scale), name
        num_flipped += row["num_flipped"]
    assert num_flipped > 10_000


def test_a_change_from_its_float_file_to_its_codes_is_said(
    tmp_path: Path, floats: dict[str, Tensor], shipped: dict[str, Tensor], names: list[str]
) -> None:
    for step, tensors in enumerate((floats, shipped)):
        directory = tmp_path / f"checkpoint-{step}"
        directory.mkdir()
        save_file(tensors, directory / "model.safetensors")
    rows = ai.flips(tmp_path).to_arrow("flips").to_pylist()
    changed = [row for row in rows if row["status"] == "undefined"]
    assert sorted(row["layer"] for row in changed) == names
    assert {row["reason"] for row in changed} == {"storage scheme changed from plain to generic"}
    assert {row["num_flipped"] for row in rows if row not in changed} == {0}
