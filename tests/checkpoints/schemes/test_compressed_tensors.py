"""Weights as compressed-tensors stores them: its own files, and files that are damaged.

The files in ``tests/data/compressed_tensors`` and the weights of the first one come from
compressed-tensors 0.20.0: ``tests/oracles/test_compressed_tensors.py``, ``make_reference``.
"""

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import altgrad_inspect as ai
from altgrad_inspect.errors import CheckpointError
from tests.checkpoints.schemes.coded_layers import check_decoded, check_flips, load_layer, open_only
from tests.checkpoints.schemes.flip_oracle import Stored

REFERENCE = Path(__file__).parents[2] / "data" / "compressed_tensors"
RUN = REFERENCE / "run"
STEPS = [RUN / f"step_{step}.safetensors" for step in range(3)]
ROWS, COLS = 9, 64
INTEGERS = {"pack4": 4, "pack4_zero": 4, "pack3_zero": 3, "pack8": 8, "pack1_zero": 1}
FORMATS = {
    **{name: f"int{bits}" for name, bits in INTEGERS.items()},
    "int8_zero": "int8",
    "float8": "float8_e4m3fn",
    "float8_block": "float8_e4m3fn",
    "nvfp4": "float4_e2m1fn",
    "mxfp4": "float4_e2m1fn",
    "mxfp6": "float6_e2m3fn",
    "mxfp8": "float8_e4m3fn",
}
SCHEMES = {
    **dict.fromkeys(INTEGERS, "ct-pack"),
    "int8_zero": "ct-int",
    "float8": "ct-float",
    "float8_block": "ct-float",
    "mxfp8": "ct-float",
    "nvfp4": "ct-nvfp4",
    "mxfp4": "ct-mx",
    "mxfp6": "ct-mx",
}


def values_of(fmt: str) -> dict[int, float]:
    """The value of every ordinal; for integers, of every difference of two codes."""
    if fmt.startswith("int"):
        reach = (1 << int(fmt.removeprefix("int"))) - 1
        return {code: float(code) for code in range(-reach, reach + 1)}
    dtype = getattr(ml_dtypes, fmt)
    half = {"float4_e2m1fn": 8, "float6_e2m3fn": 32, "float8_e4m3fn": 128}[fmt]
    positive = np.arange(half, dtype=np.uint8).view(dtype).astype(np.float32)
    kept = [float(one) for one in positive if np.isfinite(one)]
    return {sign * code: sign * value for sign in (-1, 1) for code, value in enumerate(kept)}


def bits_of(rows: np.ndarray, width: int, count: int) -> np.ndarray:
    """Cut every row, as one string of bits, into ``count`` numbers of ``width`` bits."""
    found = []
    for row in rows:
        text = "".join(f"{byte:08b}"[::-1] for byte in row.tobytes())
        found.append([int(text[at : at + width][::-1], 2) for at in range(0, count * width, width)])
    return np.array(found, dtype=np.int64)


def sign_and_magnitude(codes: np.ndarray, bits: int) -> np.ndarray:
    magnitude = codes & ((1 << (bits - 1)) - 1)
    return np.where(codes >> (bits - 1), -magnitude, magnitude)


def spread(blocks: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    return np.repeat(np.repeat(blocks, block[0], 0), block[1], 1)[:ROWS, :COLS]


def read_integers(tensors: dict[str, Tensor], name: str) -> Stored:
    bits = INTEGERS.get(name, 8)
    scale = tensors[f"{name}.weight_scale"].numpy()
    blocks = np.broadcast_to(scale.reshape(len(scale), -1), (ROWS, scale.size // len(scale)))
    zeros = np.zeros(blocks.shape, dtype=np.int64)
    zero = tensors.get(f"{name}.weight_zero_point")
    if name == "int8_zero":
        assert zero is not None
        codes = tensors[f"{name}.weight"].numpy().astype(np.int64) + 128
        zeros = zero.numpy().astype(np.int64)
    else:
        codes = bits_of(tensors[f"{name}.weight_packed"].numpy(), bits, COLS)
        if zero is not None:
            columns = np.ascontiguousarray(zero.numpy().T)
            zeros = bits_of(columns, bits, ROWS).T - (1 << (bits - 1))
    block = (1, COLS // blocks.shape[1])
    unsigned_zero = spread(zeros + (1 << (bits - 1)), block)
    return Stored(
        code=codes - unsigned_zero,
        scale=spread(blocks, block),
        zero=unsigned_zero,
        highest=(1 << bits) - 1,
    )


def read_floats(tensors: dict[str, Tensor], name: str) -> Stored:
    scale = tensors[f"{name}.weight_scale"]
    bits = {"nvfp4": 4, "mxfp4": 4, "mxfp6": 6}.get(name, 8)
    if bits < 8:
        codes = bits_of(tensors[f"{name}.weight_packed"].numpy(), bits, COLS)
    else:
        codes = tensors[f"{name}.weight"].view(torch.uint8).numpy().astype(np.int64)
    if scale.dtype == torch.uint8:
        values = np.ldexp(np.float32(1), scale.numpy().astype(np.int32) - 127)
    elif name == "nvfp4":
        fine = scale.view(torch.uint8).numpy().view(ml_dtypes.float8_e4m3fn).astype(np.float32)
        values = fine / tensors[f"{name}.weight_global_scale"].numpy()
    else:
        values = scale.numpy()
    block = (5, 48) if name == "float8_block" else (1, COLS // values.shape[1])
    return Stored(code=sign_and_magnitude(codes, bits), scale=spread(values, block))


def read_stored(path: Path, name: str) -> Stored:
    tensors = load_file(path)
    return (read_integers if "int" in FORMATS[name] else read_floats)(tensors, name)


@pytest.mark.parametrize("name", FORMATS)
def test_codes_and_flips(name: str) -> None:
    stored, values = [read_stored(path, name) for path in STEPS], values_of(FORMATS[name])
    check_decoded(STEPS[0], f"{name}.weight", stored[0], values)
    check_flips(RUN, f"{name}.weight", stored, values, fmt=FORMATS[name])


@pytest.mark.parametrize("name", FORMATS)
def test_weights_are_the_librarys_bit_for_bit(name: str) -> None:
    expected = load_file(REFERENCE / "weights_0.safetensors")[f"{name}.weight"]
    assert torch.equal(load_layer(STEPS[0], f"{name}.weight").values.to(expected.dtype), expected)


def test_every_layer_is_recognised_and_an_ignored_one_stays_plain() -> None:
    layers = open_only(STEPS[0]).layers
    schemes = {name.removesuffix(".weight"): layer.scheme for name, layer in layers.items()}
    assert schemes == {**SCHEMES, "head": "plain"}
    said = {layer.recognised_by for name, layer in layers.items() if name != "head.weight"}
    assert said == {"config.json: compressed-tensors"}
    assert {layer.shape for layer in layers.values()} == {(ROWS, COLS), (2, COLS)}


def test_names_dtypes_and_shapes_suffice(tmp_path: Path) -> None:
    """All but blocks of a size that only the configuration tells: those are refused."""
    for path in STEPS[:2]:
        shutil.copy(path, tmp_path)
    layers = open_only(tmp_path).layers
    assert {layer.recognised_by for layer in layers.values()} == {None, "names, dtypes and shapes"}
    rows = ai.flips(tmp_path).to_pandas("flips").set_index("layer")
    with_config = ai.flips(RUN).to_pandas("flips").drop_duplicates("layer").set_index("layer")
    for name in FORMATS:
        row, other = rows.loc[f"{name}.weight"], with_config.loc[f"{name}.weight"]
        if name == "float8_block":
            assert row["status"] == "failed"
            assert "expected one number or one a block" in str(row["reason"])
        else:
            assert row["status"] == "ok"
            assert row["num_flipped"] == other["num_flipped"] > 0


def test_what_is_about_activations_is_left_out(tmp_path: Path) -> None:
    others = {
        "pack4.input_scale": torch.ones(1),
        "nvfp4.input_global_scale": torch.ones(1),
        "attn.k_scale": torch.ones(1),
    }
    save_file({**load_file(STEPS[0]), **others}, tmp_path / "model.safetensors")
    left_out = {one.layer: one.reason for one in open_only(tmp_path).left_out}
    assert left_out == {
        "pack4.input_scale": "activation scale of pack4.weight_packed",
        "nvfp4.input_global_scale": "activation scale of nvfp4.weight_packed",
        "attn.k_scale": "scale of the attention's keys or values",
    }


def pack_with_gaps(codes: np.ndarray, bits: int) -> Tensor:
    """32 // bits codes a word, as before version 0.18; written from the description alone."""
    per_word = 32 // bits
    words = np.zeros((len(codes), -(-codes.shape[1] // per_word)), dtype=np.uint32)
    for (row, col), code in np.ndenumerate(codes + (1 << (bits - 1))):
        words[row, col // per_word] |= np.uint32(int(code) << (col % per_word * bits))
    return torch.from_numpy(words.view(np.int32))


def write_gapped(path: Path, bits: int, *, rows: int, cols: int, **config: object) -> np.ndarray:
    draw = np.random.default_rng(bits)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    codes = draw.integers(low, high + 1, (rows, cols))
    tensors = {
        "P.weight_packed": pack_with_gaps(codes, bits),
        "P.weight_scale": torch.full((rows, 1), 0.5),
        "P.weight_shape": torch.tensor([rows, cols]),
    }
    path.mkdir(exist_ok=True)
    save_file(tensors, path / "model.safetensors")
    if config:
        groups = {"group_0": {"targets": ["Linear"], "weights": {"num_bits": bits, "type": "int"}}}
        section = {"quant_method": "compressed-tensors", "config_groups": groups, **config}
        (path / "config.json").write_text(json.dumps({"quantization_config": section}))
    return codes


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("version", [None, "0.9.4", "0.17.1.a20260101"])
def test_words_with_gaps(tmp_path: Path, bits: int, version: str | None) -> None:
    """The packing of version 0.9.4, which the number of words gives away."""
    codes = write_gapped(tmp_path, bits, rows=9, cols=320, version=version)
    layer = load_layer(tmp_path, "P.weight")
    assert np.array_equal(layer.values.numpy(), (codes * 0.5).astype(np.float32))
    (tmp_path / "config.json").unlink()
    if bits == 7:  # as many words as 8 bits take
        with pytest.raises(CheckpointError, match="8 bits without a gap or 7 bits 4 a word"):
            load_layer(tmp_path, "P.weight")
    else:
        assert np.array_equal(load_layer(tmp_path, "P.weight").values.numpy(), layer.values.numpy())


def test_as_many_words_either_way(tmp_path: Path) -> None:
    """The version tells, else the bits that only one way leaves zero."""
    codes = write_gapped(tmp_path, 3, rows=9, cols=16, version="0.9.4")
    expected = (codes * 0.5).astype(np.float32)
    assert np.array_equal(load_layer(tmp_path, "P.weight").values.numpy(), expected)
    write_gapped(tmp_path, 3, rows=9, cols=16, version=None)
    assert np.array_equal(load_layer(tmp_path, "P.weight").values.numpy(), expected)
    write_gapped(tmp_path, 3, rows=9, cols=16, version="0.20.0")
    with pytest.raises(CheckpointError, match="packed as nothing known, expected 3 bits"):
        load_layer(tmp_path, "P.weight")


def test_columns_out_of_order(tmp_path: Path) -> None:
    """Groups of columns in the order of the activations; flips are those of each group."""
    draw = np.random.default_rng(3)
    order = draw.permutation(COLS) // 32
    stored = []
    scale = draw.uniform(0.5, 1.0, (ROWS, 2)).astype(np.float32)
    zeros = draw.integers(-8, 8, (ROWS, 2))
    for step in range(3):
        codes = draw.integers(-8, 8, (ROWS, COLS))
        scale[:, step % 2] *= np.float32(1.25)  # the other one keeps its grid
        zeros[:, step % 2] = draw.integers(-8, 8, ROWS)
        tensors = {
            "P.weight_packed": pack_with_gaps(codes, 4),
            "P.weight_scale": torch.from_numpy(scale.copy()),
            "P.weight_zero_point": pack_with_gaps(zeros.T, 4).T.contiguous(),
            "P.weight_g_idx": torch.from_numpy(order.astype(np.int32)),
            "P.weight_shape": torch.tensor([ROWS, COLS]),
        }
        save_file(tensors, tmp_path / f"step_{step}.safetensors")
        zero = zeros[:, order] + 8
        stored.append(Stored(code=codes + 8 - zero, scale=scale[:, order], zero=zero, highest=15))
    values = values_of("int4")
    check_decoded(tmp_path / "step_0.safetensors", "P.weight", stored[0], values)
    check_flips(tmp_path, "P.weight", stored, values, fmt="int4")


def write_orders(directory: Path, *orders: Tensor) -> None:
    for step, order in enumerate(orders):
        tensors = {**load_file(STEPS[step % 3]), "pack4.weight_g_idx": order.int()}
        save_file(tensors, directory / f"step_{step}.safetensors")


def test_groups_of_other_columns_are_not_compared(tmp_path: Path) -> None:
    in_order = torch.arange(COLS) // 32
    turned = in_order.roll(16)
    write_orders(tmp_path, in_order, in_order.flip(0), turned, turned)
    rows = ai.flips(tmp_path, layers=["pack4.weight"]).to_pandas("flips")
    assert list(rows["status"]) == ["undefined", "undefined", "ok"]
    assert rows["reason"][:2].str.contains("other columns make up a group").all()


@pytest.mark.parametrize("order", [torch.full((COLS,), -1), torch.arange(COLS) // 32])
def test_columns_in_order(tmp_path: Path, order: Tensor) -> None:
    write_orders(tmp_path, order)
    found, expected = (load_layer(path, "pack4.weight") for path in (tmp_path, STEPS[0]))
    assert torch.equal(found.values, expected.values)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("pack4", {"pack4.weight_shape": torch.tensor([ROWS, 63])}, r"the weight_shape \[9, 63\]"),
        (
            "pack4",
            {"pack4.weight_g_idx": torch.full((COLS,), 3, dtype=torch.int32)},
            "expected one from 0 to 1 for each of 64 columns",
        ),
        (
            "pack4_zero",
            {"pack4_zero.weight_zero_point": torch.ones(ROWS, 3, dtype=torch.int8)},
            r"zero points of shape \[9, 3\]",
        ),
        (
            "int8_zero",
            {"int8_zero.weight_zero_point": torch.ones(ROWS, dtype=torch.int8)},
            r"zero points of shape \[9\]",
        ),
        (
            "int8_zero",
            {"int8_zero.weight_zero_point": torch.ones(ROWS, 1).to(torch.float8_e4m3fn)},
            "'weight_zero_point' of dtype F8_E4M3",
        ),
        (
            "int8_zero",
            {"int8_zero.weight_zero_point": torch.full((ROWS, 1), 0.5)},
            "zero points between two codes",
        ),
        (
            "int8_zero",
            {"int8_zero.weight_zero_point": torch.full((ROWS, 1), torch.inf)},
            "or beyond all",
        ),
        ("pack4", {"pack4.weight_shape": torch.tensor(9)}, "weight_shape"),
        ("float8", {"float8.weight_scale": torch.ones(7, 1)}, r"scales of shape \[7, 1\]"),
        ("nvfp4", {"nvfp4.weight_global_scale": torch.ones(5)}, "5 scales over its scales"),
    ],
)
def test_damaged_layers_say_why(
    tmp_path: Path, name: str, change: dict[str, Tensor], reason: str
) -> None:
    shutil.copy(RUN / "config.json", tmp_path)
    for step in range(2):
        save_file({**load_file(STEPS[0]), **change}, tmp_path / f"step_{step}.safetensors")
    with pytest.raises(CheckpointError, match=reason):
        load_layer(tmp_path / "step_0.safetensors", f"{name}.weight")
    rows = ai.flips(tmp_path).to_pandas("flips").set_index("layer")
    assert rows.loc[f"{name}.weight", "status"] == "failed"
    assert set(rows.drop(index=f"{name}.weight")["status"]) == {"ok"}


@pytest.mark.parametrize(
    "change",
    [
        {"pack4.weight_packed": torch.zeros(ROWS, 5, dtype=torch.int32)},
        {"pack4.weight_scale": torch.ones(ROWS, 3, dtype=torch.int32)},
        {"pack4.weight_scale": torch.ones(ROWS, 7)},
        {"pack4.weight_shape": torch.tensor([ROWS, -COLS]), "pack4.weight_scale": torch.ones(1)},
    ],
)
def test_what_cannot_be_such_a_layer_is_skipped(tmp_path: Path, change: dict[str, Tensor]) -> None:
    for step in range(2):
        save_file({**load_file(STEPS[0]), **change}, tmp_path / f"step_{step}.safetensors")
    assert open_only(tmp_path).layers["pack4.weight_packed"].scheme == "plain"
    skipped = ai.flips(tmp_path).to_pandas("skipped").set_index("layer")
    assert "int32: not floating-point" in str(skipped.loc["pack4.weight_packed", "reason"])


def test_codes_beyond_the_bits_of_the_configuration(tmp_path: Path) -> None:
    shutil.copy(RUN / "config.json", tmp_path)
    content = (tmp_path / "config.json").read_text()
    config = json.loads(content)
    for group in config["quantization_config"]["config_groups"].values():
        if group["targets"] == ["int8_zero"]:
            group["weights"]["num_bits"] = 4
    (tmp_path / "config.json").write_text(json.dumps(config))
    shutil.copy(STEPS[0], tmp_path)
    with pytest.raises(CheckpointError, match="expected -8 to 7 in 4 bits"):
        load_layer(tmp_path, "int8_zero.weight")


def test_a_configuration_of_nonsense_is_no_reason_to_fail(tmp_path: Path) -> None:
    section = {
        "quant_method": "compressed-tensors",
        "version": "latest",
        "config_groups": {
            "a": None,
            "b": {"weights": 3},
            "c": {"targets": "re:(a+)+$", "weights": {"num_bits": "4", "group_size": -1}},
            "d": {"targets": ["x"], "weights": {"num_bits": 77, "block_structure": "9x9x9"}},
            "e": {"targets": ["x"], "weights": {"type": 1, "block_structure": [0, "-3"]}},
        },
    }
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": section}))
    shutil.copy(STEPS[0], tmp_path)
    expected = load_file(REFERENCE / "weights_0.safetensors")
    for name in ("pack4", "pack3_zero", "int8_zero", "float8", "mxfp4"):
        found = load_layer(tmp_path, f"{name}.weight").values
        assert torch.equal(found.to(expected[f"{name}.weight"].dtype), expected[f"{name}.weight"])
