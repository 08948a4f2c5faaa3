"""FP8 and FP4 under every name that transformers knows, fbgemm, and the dtype F4; against numpy."""

import json
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from altgrad_inspect.checkpoints.schemes.unpack import sextets_in_bytes
from tests.checkpoints.schemes.coded_layers import check_decoded, check_flips, load_layer, open_only
from tests.checkpoints.schemes.flip_oracle import Stored

FP8, FP4 = "float8_e4m3fn", "float4_e2m1fn"
NAME = "model.layers.0.mlp.up_proj"
EXPERTS = "model.layers.0.mlp.experts.down_proj"
HALVES = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
E4M3 = [float(one) for one in np.arange(127, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn)]
VALUES = {
    fmt: {sign * code: sign * value for sign in (-1, 1) for code, value in enumerate(listed)}
    for fmt, listed in ((FP8, E4M3), (FP4, HALVES))
}


def draw_codes(draw: np.random.Generator, shape: tuple[int, ...], fmt: str) -> np.ndarray:
    """Signed magnitudes, as they order the values; every one of them is there."""
    most = max(VALUES[fmt])
    codes = draw.integers(-most, most + 1, shape)
    every = np.arange(-most, most + 1)[: codes.size]
    codes.reshape(-1)[: len(every)] = every
    return codes


def as_bytes(codes: np.ndarray, fmt: str) -> np.ndarray:
    """FP8 one a byte, FP4 two a byte, the first one in the low half."""
    if fmt == FP8:
        return np.where(codes < 0, 128 - codes, codes).astype(np.uint8)
    nibbles = np.where(codes < 0, 8 - codes, codes).astype(np.uint8)
    return nibbles[..., 0::2] | (nibbles[..., 1::2] << 4)


def spread(blocks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """One scale a weight, for blocks that are equally large."""
    wide = np.asarray(blocks).reshape((1,) * (len(shape) - blocks.ndim) + blocks.shape)
    for axis, size in enumerate(shape):
        wide = np.repeat(wide, size // wide.shape[axis], axis)
    return np.ascontiguousarray(wide)


def in_float32(blocks: np.ndarray) -> Tensor:
    return torch.from_numpy(blocks)


def in_bfloat16(blocks: np.ndarray) -> Tensor:
    return torch.from_numpy(blocks).bfloat16()


def in_bytes(blocks: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(np.log2(blocks) + 127, dtype=np.uint8))


def in_e8m0(blocks: np.ndarray) -> Tensor:
    return in_bytes(blocks).view(torch.float8_e8m0fnu)


def write_run(
    directory: Path,
    names: tuple[str, str],
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    fmt: str,
    store: Callable[[np.ndarray], Tensor],
    *,
    codes_dtype: torch.dtype,
    config: dict[str, object] | None = None,
    others: dict[str, Tensor] | None = None,
) -> list[Stored]:
    """Three checkpoints; in each some codes and some scales, which are powers of two, change."""
    draw = np.random.default_rng(0)
    codes = draw_codes(draw, shapes[0], fmt)
    scale = np.asarray(np.exp2(draw.integers(-6, 3, shapes[1])), dtype=np.float32)
    stored = []
    for step in range(3):
        path = directory / f"checkpoint-{step}"
        path.mkdir(parents=True)
        content = torch.from_numpy(as_bytes(codes, fmt)).view(codes_dtype)
        tensors = {names[0]: content, names[1]: store(scale).reshape(shapes[1]), **(others or {})}
        save_file(tensors, path / "model.safetensors")
        if config is not None:
            (path / "config.json").write_text(json.dumps({"quantization_config": config}))
        stored.append(Stored(code=codes, scale=spread(scale, shapes[0])))
        codes = codes.copy()
        changed = draw.random(shapes[0]) < 0.1
        codes[changed] = draw_codes(draw, shapes[0], fmt)[changed]
        scale = np.where(draw.random(shapes[1]) < 0.3, scale * np.float32(4), scale)
        scale = np.asarray(scale, dtype=np.float32)
    return stored


def check_run(directory: Path, name: str, stored: list[Stored], fmt: str, scheme: str) -> None:
    check_decoded(directory / "checkpoint-0", name, stored[0], VALUES[fmt])
    check_flips(directory, name, stored, VALUES[fmt], fmt=fmt)
    assert open_only(directory / "checkpoint-0").layers[name].scheme == scheme


@pytest.mark.parametrize("last", ["weight_scale_inv", "scale", "qscale_weight"])
@pytest.mark.parametrize("store", [in_float32, in_bfloat16, in_bytes, in_e8m0])
@pytest.mark.parametrize(
    ("shape", "scale_shape"), [((128, 256), (1, 2)), ((8, 64), ()), ((2, 8, 64), (2, 1, 1))]
)
def test_fp8_beside_every_name_of_its_scale(
    tmp_path: Path,
    last: str,
    store: Callable[[np.ndarray], Tensor],
    shape: tuple[int, ...],
    scale_shape: tuple[int, ...],
) -> None:
    names = (f"{NAME}.weight", f"{NAME}.{last}")
    stored = write_run(
        tmp_path, names, (shape, scale_shape), FP8, store, codes_dtype=torch.float8_e4m3fn
    )
    check_run(tmp_path, names[0], stored, FP8, "block-fp8")


@pytest.mark.parametrize("shape", [(8, 64), (2, 4, 64)])
@pytest.mark.parametrize("names", [(f"{NAME}.weight", f"{NAME}.scale"), (EXPERTS, "")])
@pytest.mark.parametrize("store", [in_float32, in_bytes, in_e8m0])
def test_experts_in_fp4(
    tmp_path: Path,
    shape: tuple[int, ...],
    names: tuple[str, str],
    store: Callable[[np.ndarray], Tensor],
) -> None:
    """Float scales are those of FP4 only where the configuration says ``fp8``."""
    names = (names[0], names[1] or f"{EXPERTS}_scale_inv")
    shapes = (shape, (*shape[:-1], 2))
    config: dict[str, object] | None = {"quant_method": "fp8"} if store is in_float32 else None
    stored = write_run(tmp_path, names, shapes, FP4, store, codes_dtype=torch.int8, config=config)
    check_run(tmp_path, names[0], stored, FP4, "block-fp8")


def test_bytes_beside_float_scales_are_no_fp4(tmp_path: Path) -> None:
    tensors = {
        f"{NAME}.weight": torch.ones(8, 32, dtype=torch.int8),
        f"{NAME}.scale": torch.ones(8, 2),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    assert open_only(tmp_path).layers[f"{NAME}.weight"].scheme != "block-fp8"


@pytest.mark.parametrize(("shape", "block"), [((192, 64), 96), ((200, 64), 128), ((192, 64), 128)])
def test_the_configuration_gives_the_block_size(
    tmp_path: Path, shape: tuple[int, int], block: int
) -> None:
    """Two rows of blocks cut 192 rows at 96, or at 128 with a short last block."""
    codes = torch.full(shape, 0x38, dtype=torch.uint8).view(torch.float8_e4m3fn)  # 1.0
    tensors = {f"{NAME}.weight": codes, f"{NAME}.weight_scale_inv": torch.tensor([[1.0], [2.0]])}
    save_file(tensors, tmp_path / "model.safetensors")
    config = {"quant_method": "fp8", "weight_block_size": [block, block]}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": config}))
    values = load_layer(tmp_path, f"{NAME}.weight").values
    assert values[:, 0].tolist() == [1.0] * block + [2.0] * (shape[0] - block)


def test_an_embedding_has_its_scale_under_another_name(tmp_path: Path) -> None:
    config: dict[str, object] = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    names = ("embed.weight", "embed.weight_scale")
    stored = write_run(
        tmp_path,
        names,
        ((8, 64), (1,)),
        FP8,
        in_float32,
        codes_dtype=torch.float8_e4m3fn,
        config=config,
    )
    check_run(tmp_path, names[0], stored, FP8, "block-fp8")


@pytest.mark.parametrize(
    ("names", "shapes", "turned"),
    [
        ((f"{NAME}.weight", f"{NAME}.weight_scale"), ((8, 64), (8, 1)), False),
        ((EXPERTS, f"{EXPERTS}_scale"), ((2, 8, 64), (2, 1, 64)), False),
        ((EXPERTS, f"{EXPERTS}_scale"), ((2, 8, 64), (2, 1, 64)), True),
        ((EXPERTS, f"{EXPERTS}_scale"), ((2, 64, 64), (2, 1, 64)), True),
    ],
)
def test_fbgemm(
    tmp_path: Path,
    names: tuple[str, str],
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    *,
    turned: bool,
) -> None:
    """Experts have one scale an output, which is their last dimension, in either orientation."""
    config: dict[str, object] = {"quant_method": "fbgemm_fp8"}
    stored = write_run(
        tmp_path, names, shapes, FP8, in_float32, codes_dtype=torch.float8_e4m3fn, config=config
    )
    if turned:
        for path in sorted(tmp_path.glob("*/model.safetensors")):
            tensors = dict(load_file(path))
            tensors[names[1]] = tensors[names[1]].transpose(1, 2).contiguous()
            save_file(tensors, path)
    check_run(tmp_path, names[0], stored, FP8, "fbgemm-fp8")
    layer = open_only(tmp_path / "checkpoint-0").layers[names[0]]
    assert layer.recognised_by == "config.json: fbgemm_fp8"


@pytest.mark.parametrize("last", ["weight_scale", "weight_scale_inv", "scale", "scales"])
@pytest.mark.parametrize(
    ("store", "block"),
    [(in_e8m0, 32), (in_bytes, 32), (lambda s: in_float32(s).to(torch.float8_e4m3fn), 16)],
)
def test_native_f4(
    tmp_path: Path, last: str, store: Callable[[np.ndarray], Tensor], block: int
) -> None:
    names, shapes = (f"{NAME}.weight", f"{NAME}.{last}"), ((8, 64), (8, 64 // block))
    stored = write_run(tmp_path, names, shapes, FP4, store, codes_dtype=torch.float4_e2m1fn_x2)
    check_run(tmp_path, names[0], stored, FP4, "native-f4")


@pytest.mark.parametrize(
    ("last", "operate"),
    [("weight_scale_2", np.multiply), ("weight_global_scale", np.divide)],
)
def test_native_f4_with_one_scale_over_all(
    tmp_path: Path, last: str, operate: Callable[..., np.ndarray]
) -> None:
    names, whole = (f"{NAME}.weight", f"{NAME}.weight_scale"), np.float32(0.37)
    stored = write_run(
        tmp_path,
        names,
        ((8, 64), (8, 4)),
        FP4,
        lambda scale: in_float32(scale).to(torch.float8_e4m3fn),
        codes_dtype=torch.float4_e2m1fn_x2,
        others={f"{NAME}.{last}": torch.tensor(whole)},
    )
    stored = [Stored(code=one.code, scale=operate(one.scale, whole)) for one in stored]
    check_run(tmp_path, names[0], stored, FP4, "native-f4")


def test_f4_without_a_scale_that_fits_stays_plain(tmp_path: Path) -> None:
    codes = torch.zeros(8, 32, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    for step, tensors in enumerate(({}, {f"{NAME}.weight_scale": torch.ones(5, 4)})):
        path = tmp_path / f"step_{step}.safetensors"
        save_file({f"{NAME}.weight": codes, **tensors}, path)
        assert open_only(path).layers[f"{NAME}.weight"].scheme == "plain"


def test_six_bits_are_cut_from_a_string_of_bits() -> None:
    content = np.random.default_rng(0).integers(0, 256, (3, 12), dtype=np.uint8)
    found = sextets_in_bytes(torch.from_numpy(content))
    for row, codes in zip(content, found.tolist(), strict=True):
        text = "".join(f"{byte:08b}"[::-1] for byte in row)
        assert codes == [int(text[at : at + 6][::-1], 2) for at in range(0, len(text), 6)]
