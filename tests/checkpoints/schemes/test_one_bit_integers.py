"""Integers of 1 bit that torchao stores without zero points."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.checkpoints.schemes.raw_tensors import read_raw
from tests.checkpoints.schemes.sound_modules import DATA
from tests.checkpoints.schemes.stored_layers import load, store


def test_codes_of_1_bit_need_no_zero_point(tmp_path: Path) -> None:
    """They are 0 and -1, for which there is no format of integers without a zero point."""
    flattened = DATA / "torchao" / "flattened.safetensors"
    _, metadata = read_raw(flattened)
    own = {name: one for name, one in load_file(flattened).items() if name.startswith("int1.")}
    zero = own.pop("int1._weight_zero_point")
    path = store(tmp_path / "step_1", own, metadata)
    described = store(
        tmp_path / "step_2", {**own, "int1._weight_zero_point": torch.zeros_like(zero)}, metadata
    )
    loaded, expected = load(path, "int1.weight"), load(described, "int1.weight")
    assert torch.equal(loaded.values, own["int1._weight_qdata"] * own["int1._weight_scale"])
    assert torch.equal(loaded.values, expected.values)
    assert loaded.coded is not None
    assert expected.coded is not None
    assert loaded.coded.fmt == expected.coded.fmt
