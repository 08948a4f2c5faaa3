"""The bytes of a layer as a tensor, read into buffers that are used again."""

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

import torch
from torch import Tensor

from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.records import LayerRef
from altgrad_inspect.storage.local import LocalReader

_TORCH_NAMES: Final[Mapping[str, str]] = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}
_MOST_OPEN_FILES: Final = 16


def torch_dtype(dtype: str) -> torch.dtype | None:
    """Return torch's dtype for one of safetensors, None where this torch has none.

    ``F4`` is not here: two of its elements share a byte.
    """
    found = getattr(torch, _TORCH_NAMES.get(dtype, ""), None)
    return found if isinstance(found, torch.dtype) else None


class LayerReader:
    """Reads layers one after the other; each worker has its own.

    A tensor is valid until the next read into the same slot. Two slots hold one layer at
    two checkpoints. On a GPU the bytes go through pinned memory on the current stream.

    Args:
        device: Where the tensors are wanted.
        num_slots: How many tensors are held at once, at least 1.
    """

    def __init__(self, device: torch.device, *, num_slots: int = 2) -> None:
        self._device = device
        self._slots = tuple(_Slot(device) for _ in range(num_slots))
        self._readers: OrderedDict[Path, LocalReader] = OrderedDict()

    def read(self, layer: LayerRef, slot: int = 0) -> Tensor:
        """Read one layer.

        Args:
            layer: The layer.
            slot: Which buffer to use, below ``num_slots``.

        Returns:
            The weights as stored, dtype and shape included, on the device. ``F4`` comes as
            uint8 of half the last dimension, two elements a byte; booleans other than 0
            and 1 come as True.

        Raises:
            ChangedError: The file is no longer the one whose header was read.
            CheckpointError: It cannot be read, or torch has no such dtype.
        """
        dtype, shape = _stored_form(layer)
        reader = self._open(layer)
        reader.check_unchanged()
        buffer = self._slots[slot].borrow(layer.num_bytes)
        if layer.num_bytes:
            reader.read_into(layer.offset, buffer.numpy().data)
            reader.check_unchanged()
        if dtype is torch.bool:
            buffer.clamp_(max=1)  # torch takes any other byte for neither true nor false
        return self._slots[slot].deliver(buffer).view(dtype).reshape(shape)

    def announce(self, layer: LayerRef) -> None:
        """Tell the system that the layer will be read soon; nothing is read, nothing can fail."""
        with suppress(CheckpointError):  # reading it will say what is wrong
            self._open(layer).announce(layer.offset, layer.num_bytes)

    def close(self) -> None:
        """Close all files; closing twice is fine."""
        while self._readers:
            self._readers.popitem()[1].close()

    def __enter__(self) -> "LayerReader":  # noqa: PYI034  # beartype refuses Self here
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, layer: LayerRef) -> LocalReader:
        path = layer.file.path
        reader = self._readers.pop(path, None)
        if reader is not None and reader.file != layer.file:
            reader.close()
            reader = None
        if reader is None:
            reader = LocalReader(path, expected=layer.file)
        self._readers[path] = reader
        if len(self._readers) > _MOST_OPEN_FILES:
            self._readers.popitem(last=False)[1].close()
        return reader


class _Slot:
    """One growable buffer, and its copy on the device if that is not the CPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._is_pinned = device.type == "cuda"
        self._host = torch.empty(0, dtype=torch.uint8)
        self._copy = torch.empty(0, dtype=torch.uint8, device=device)
        self._copied: torch.cuda.Event | None = None

    def borrow(self, num_bytes: int) -> Tensor:
        """Return ``num_bytes`` bytes on the CPU to write to, uint8 of shape (num_bytes,)."""
        if self._copied is not None:
            self._copied.synchronize()  # what is still being copied must not be overwritten
        if self._host.numel() < num_bytes:
            self._host = torch.empty(0, dtype=torch.uint8)  # free the old one first
            self._host = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=self._is_pinned)
        return self._host[:num_bytes]

    def deliver(self, buffer: Tensor) -> Tensor:
        """Return the bytes on the device, uint8 of shape (num_bytes,)."""
        if self._device.type == "cpu":
            return buffer
        if self._copy.numel() < buffer.numel():
            self._copy = torch.empty(0, dtype=torch.uint8, device=self._device)
            self._copy = torch.empty(buffer.numel(), dtype=torch.uint8, device=self._device)
        delivered = self._copy[: buffer.numel()]
        delivered.copy_(buffer, non_blocking=self._is_pinned)
        if self._is_pinned:
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record(torch.cuda.current_stream(self._device))
        return delivered


def _stored_form(layer: LayerRef) -> tuple[torch.dtype, tuple[int, ...]]:
    subject = f"{display_name(str(layer.file.path))}: layer '{display_name(layer.name, limit=80)}'"
    if layer.dtype == "F4":
        if layer.shape[-1] % 2:
            msg = (
                f"{subject} has rows of {layer.shape[-1]} F4 elements, expected an even number, "
                "two to a byte (leave it out with --exclude)"
            )
            raise CheckpointError(msg)
        return torch.uint8, (*layer.shape[:-1], layer.shape[-1] // 2)
    dtype = torch_dtype(layer.dtype)
    if dtype is None:
        msg = (
            f"{subject} has dtype {layer.dtype}, expected one that torch {torch.__version__} has "
            "(leave it out with --exclude)"
        )
        raise CheckpointError(msg)
    return dtype, layer.shape
