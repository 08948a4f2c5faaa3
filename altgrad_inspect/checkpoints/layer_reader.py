"""The bytes of a layer as a tensor, read into buffers that are used again."""

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Final

import torch
from torch import Tensor

from altgrad_inspect.checkpoints.schemes import decode_layer
from altgrad_inspect.checkpoints.schemes.scheme import LoadedLayer
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.refs import PLAIN, FileRef, LayerRef, Piece, Region
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
_ALIGNMENT: Final = 64


def torch_dtype(dtype: str) -> torch.dtype | None:
    """Return torch's dtype for one of safetensors, None where this torch has none.

    ``F4`` is not here: two of its elements share a byte.
    """
    found = getattr(torch, _TORCH_NAMES.get(dtype, ""), None)
    return found if isinstance(found, torch.dtype) else None


class LayerReader:
    """Reads layers one after the other; each worker has its own.

    A tensor is valid until the next read into the same slot. Two slots hold one layer at
    two checkpoints. On a GPU the bytes go through pinned memory on the current stream; a
    layer that it has no room for, be it as stored or as decoded, stays on the CPU.

    Args:
        device: Where the tensors are wanted.
        num_slots: How many tensors are held at once, at least 1.

    Attributes:
        device: As given.
    """

    def __init__(self, device: torch.device, *, num_slots: int = 2) -> None:
        self.device = device
        self._slots = tuple(_Slot(device) for _ in range(num_slots))
        self._readers: OrderedDict[Path, LocalReader] = OrderedDict()

    def load(self, layer: LayerRef, slot: int = 0) -> LoadedLayer:
        """Read one layer and decode it, if its scheme stores it as codes or in parts.

        Args:
            layer: The layer.
            slot: Which buffer to use, below ``num_slots``.

        Raises:
            ChangedError: A file is no longer the one whose header was read.
            CheckpointError: It cannot be read or decoded, or torch has no such dtype.
        """
        if layer.scheme == PLAIN:
            return LoadedLayer(values=self.read(layer, slot))
        starts = list(accumulate((_aligned(part) for part in layer.parts.values()), initial=0))
        buffer = self._slots[slot].borrow(starts[-1])
        for start, part in zip(starts, layer.parts.values(), strict=False):
            self._fill(part, buffer[start : start + part.num_bytes])

        def decode(delivered: Tensor) -> LoadedLayer:
            parts = {
                role: _shaped(part, delivered[start : start + part.num_bytes])
                for start, (role, part) in zip(starts, layer.parts.items(), strict=False)
            }
            return decode_layer(layer, parts)

        with suppress(torch.OutOfMemoryError):
            return decode(self._slots[slot].deliver(buffer))
        self._slots[slot].withdraw()
        return decode(buffer)

    def read(self, layer: LayerRef, slot: int = 0) -> Tensor:
        """Read one stored tensor.

        Args:
            layer: A plain layer, or a part of one that is not.
            slot: Which buffer to use, below ``num_slots``.

        Returns:
            The weights as stored, dtype and shape included, on the device, or on the CPU if
            it has no room for them. ``F4`` comes as uint8 of half the last dimension, two
            elements a byte; booleans other than 0 and 1 come as True.

        Raises:
            ChangedError: The file is no longer the one whose header was read.
            CheckpointError: It cannot be read, or torch has no such dtype.
        """
        _stored_form(layer)
        buffer = self._slots[slot].borrow(layer.num_bytes)
        self._fill(layer, buffer)
        with suppress(torch.OutOfMemoryError):
            buffer = self._slots[slot].deliver(buffer)
        return _shaped(layer, buffer)

    def _fill(self, layer: LayerRef, buffer: Tensor) -> None:
        """Read the bytes of a stored tensor into ``buffer``, put together from its pieces."""
        dtype, shape = _stored_form(layer)
        if not layer.pieces:
            self._fill_range(layer.file, layer.offset, buffer)
        else:
            whole = buffer.view(dtype).reshape(shape)
            for piece in layer.pieces:
                content = torch.empty(piece.num_bytes, dtype=torch.uint8)
                self._fill_range(piece.file, piece.offset, content)
                stored = content.view(dtype).reshape(piece.shape)
                for source, target in piece.regions:
                    whole[_slices(target)] = stored[_slices(source)]
        if dtype is torch.bool:
            buffer.clamp_(max=1)  # torch takes any other byte for neither true nor false

    def _fill_range(self, file: FileRef, offset: int, buffer: Tensor) -> None:
        reader = self._open(file)
        reader.check_unchanged()
        if buffer.numel():
            reader.read_into(offset, buffer.numpy().data)
            reader.check_unchanged()

    def announce(self, layer: LayerRef) -> None:
        """Tell the system that the layer will be read soon; nothing is read, nothing can fail."""
        with suppress(CheckpointError):  # reading it will say what is wrong
            places: tuple[LayerRef | Piece, ...] = (*layer.pieces, *layer.parts.values())
            for place in places or (layer,):
                self._open(place.file).announce(place.offset, place.num_bytes)

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

    def _open(self, file: FileRef) -> LocalReader:
        path = file.path
        reader = self._readers.pop(path, None)
        if reader is not None and reader.file != file:
            reader.close()
            reader = None
        if reader is None:
            reader = LocalReader(path, expected=file)
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
        """Return the bytes on the device, uint8 of shape (num_bytes,).

        Raises:
            torch.OutOfMemoryError: It has no room for them; nothing is kept there then.
        """
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

    def withdraw(self) -> None:
        """Free what was delivered; what is on the CPU stays."""
        self._copy = torch.empty(0, dtype=torch.uint8, device=self._device)


def _aligned(part: LayerRef) -> int:
    """Bytes that a part takes in a buffer, so that the next one starts at any dtype's place."""
    return -(-part.num_bytes // _ALIGNMENT) * _ALIGNMENT


def _slices(region: Region) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in region)


def _shaped(layer: LayerRef, content: Tensor) -> Tensor:
    dtype, shape = _stored_form(layer)
    return content.view(dtype).reshape(shape)


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
