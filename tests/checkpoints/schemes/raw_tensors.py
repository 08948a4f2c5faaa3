"""Stored tensors as dtype, shape and bytes, so that any of the three can be wrong."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from altgrad_inspect.checkpoints.header import DTYPE_BITS
from tests.checkpoints.header_corpus import build_file

SPELLINGS = {
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e8m0fnu: "F8_E8M0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTensor:
    """A tensor as a file describes it.

    Attributes:
        dtype: As safetensors spells it.
        shape: Of elements.
        content: As many bytes as they take.
    """

    dtype: str
    shape: tuple[int, ...]
    content: bytes

    def stored_as(self, dtype: str, shape: tuple[int, ...]) -> "RawTensor | None":
        """The same bytes, repeated or cut off; None where so many elements are no whole bytes."""
        num_bytes, rest = divmod(math.prod(shape) * DTYPE_BITS[dtype], 8)
        if rest:
            return None
        source = self.content or b"\x01"
        content = (source * -(-num_bytes // len(source)))[:num_bytes]
        return RawTensor(dtype=dtype, shape=shape, content=content)

    def filled(self, byte: int) -> "RawTensor":
        """The same with every byte replaced."""
        content = bytes([byte]) * len(self.content)
        return RawTensor(dtype=self.dtype, shape=self.shape, content=content)


RawTensors = Mapping[str, RawTensor]


def raw(tensor: Tensor) -> RawTensor:
    content = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return RawTensor(dtype=SPELLINGS[tensor.dtype], shape=tuple(tensor.shape), content=content)


def read_raw(path: Path) -> tuple[dict[str, RawTensor], dict[str, str]]:
    """The tensors of a safetensors file, and its metadata."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    metadata = header.pop("__metadata__", {})
    found = {
        name: RawTensor(
            dtype=entry["dtype"],
            shape=tuple(entry["shape"]),
            content=content[slice(*(start + place for place in entry["data_offsets"]))],
        )
        for name, entry in header.items()
    }
    return found, metadata


def write_raw(path: Path, tensors: RawTensors, metadata: Mapping[str, str]) -> None:
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + len(tensor.content)
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    data = b"".join(tensor.content for tensor in tensors.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(build_file(json.dumps(header), data))
