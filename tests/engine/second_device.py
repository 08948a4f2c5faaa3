"""A second device for a machine that has none: the bytes are the CPU's, the rules are a GPU's.

Its tensors say that they are on torch's ``meta`` device and hold a tensor on the CPU. Like those
of a GPU they refuse to be computed with together with tensors that are not there (single
numbers excepted), have no pointer to read from, and move by ``copy_``, ``to`` and ``cpu``.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from altgrad_inspect.checkpoints.layer_reader import LayerReader, _Slot
from altgrad_inspect.checkpoints.schemes import decode_layer
from altgrad_inspect.checkpoints.schemes.scheme import LoadedLayer
from altgrad_inspect.refs import LayerRef

SECOND: Final = torch.device("meta")

_MOVES: Final = frozenset({"aten._to_copy.default", "aten.copy_.default"})


@dataclass
class Memory:
    """The device's: whatever is new there takes one piece of it and never gives it back.

    Attributes:
        num_pieces: How many there are.
        is_full_for_good: Whether what comes after the last one fails as well, and not only once.
        num_taken: How many were asked for.
    """

    num_pieces: float = math.inf
    is_full_for_good: bool = True
    num_taken: int = 0

    def take(self) -> None:
        """Take one.

        Raises:
            torch.OutOfMemoryError: There is none left.
        """
        self.num_taken += 1
        left = self.num_pieces - self.num_taken
        if left == -1 or (left < 0 and self.is_full_for_good):
            raise out_of_memory()


_memory = Memory()


class _Held(Tensor):
    """A tensor on the second device."""

    held: Tensor
    is_cuda = True
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _compute(function, args, kwargs or {})

    def tolist(self) -> Any:
        return self.held.tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"second device: {self.held!r}"


def _hold(held: Tensor) -> _Held:
    with torch.inference_mode(mode=False):  # else views of it could not be made there
        found: _Held = Tensor._make_wrapper_subclass(
            _Held,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=SECOND,
        )
    found.held = held
    return found


class _Factories(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Makes the tensors that are asked for on the second device."""

    def __torch_dispatch__(
        self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _compute(function, args, kwargs or {})


class _Literals(TorchFunctionMode):
    """The same for ``torch.tensor``, which would drop the numbers on its way to ``meta``."""

    def __torch_function__(
        self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        options = dict(kwargs or {})
        if function is torch.tensor and options.get("device") == SECOND:
            return _hold(torch.tensor(*args, **(options | {"device": None})))
        return function(*args, **options)


def _compute(function: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    are_held = {isinstance(one, _Held) for one in tensors if isinstance(one, _Held) or one.dim()}
    if str(function) == "aten.index.Tensor" and isinstance(args[0], _Held):
        are_held = {True}  # places may be given on the CPU
    if len(are_held) > 1 and str(function) not in _MOVES:
        msg = f"expected all tensors to be on the same device, but found two: {function}"
        raise RuntimeError(msg)
    device = kwargs.get("device")
    is_second = True in are_held if device is None else torch.device(device) == SECOND
    if str(function) == "aten.copy_.default":
        is_second = isinstance(args[0], _Held)
    known = {id(one.held): one for one in tensors if isinstance(one, _Held)}
    options = kwargs if device is None else {**kwargs, "device": torch.device("cpu")}
    options = {name: value for name, value in options.items() if name != "driver"}  # cuSOLVER's
    found = function(*tree_map(_open, args), **tree_map(_open, options))

    owned = {_find_bytes(one) for one in known.values()}

    def close(one: Any) -> Any:
        if not isinstance(one, Tensor) or not is_second:
            return one
        if id(one) in known:
            return known[id(one)]
        if one.numel() and _find_bytes(one) not in owned:
            _memory.take()
        return _hold(one)

    return tree_map(close, found)


def _find_bytes(one: Tensor) -> int:
    held = one.held if isinstance(one, _Held) else one
    return held.untyped_storage().data_ptr()


def _open(one: Any) -> Any:
    return one.held if isinstance(one, _Held) else one


def is_second(tensor: Tensor | None) -> bool:
    """Whether the tensor is on the second device."""
    return isinstance(tensor, _Held)


@contextmanager
def second_device() -> Iterator[torch.device]:
    """Make the device exist for the calling thread."""
    with _Factories(), _Literals():  # type: ignore[no-untyped-call]
        yield SECOND


class _Lanes:
    """Where a worker reads and computes: in threads of its own, that the device must exist for."""

    def __init__(self, _device: torch.device) -> None: ...

    def copying(self) -> AbstractContextManager[object]:
        return second_device()

    def computing(self) -> AbstractContextManager[object]:
        return second_device()


def run_on_second_device(
    monkeypatch: pytest.MonkeyPatch,
    *,
    lacks_room: Callable[[LayerRef], bool] = lambda _: False,
    lacks_room_decoded: Callable[[LayerRef], bool] = lambda _: False,
    memory: Memory | None = None,
) -> None:
    """Make every run use the second device, with one worker; ``jobs=1`` must be asked for.

    Args:
        monkeypatch: Undoes it.
        lacks_room: Which layers do not fit as stored; asked of each at each checkpoint.
        lacks_room_decoded: Which ones fit as stored and not as decoded.
        memory: The device's, without a bound unless given.
    """
    monkeypatch.setattr("tests.engine.second_device._memory", memory or Memory())
    for module in ("run", "pair", "what_if"):
        monkeypatch.setattr(f"altgrad_inspect.api.{module}.resolve_device", lambda _: SECOND)
    monkeypatch.setattr("altgrad_inspect.engine.worker.Lanes", _Lanes)
    load, deliver = LayerReader.load, _Slot.deliver
    loading: list[LayerRef] = []

    def note(self: LayerReader, layer: LayerRef, slot: int = 0) -> LoadedLayer:
        loading[:] = [layer]
        return load(self, layer, slot)

    def deliver_if_it_fits(self: Any, buffer: Tensor) -> Tensor:
        if lacks_room(loading[0]):
            raise out_of_memory()
        return deliver(self, buffer)

    def decode_if_it_fits(layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        if lacks_room_decoded(layer) and any(map(is_second, parts.values())):
            raise out_of_memory()
        return decode_layer(layer, parts)

    monkeypatch.setattr(LayerReader, "load", note)
    monkeypatch.setattr(_Slot, "deliver", deliver_if_it_fits)
    monkeypatch.setattr("altgrad_inspect.checkpoints.layer_reader.decode_layer", decode_if_it_fits)


def out_of_memory() -> torch.OutOfMemoryError:
    """What torch raises where a GPU has no room."""
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
