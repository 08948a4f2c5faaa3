"""OLMo-1: names of tensors are pickles in base64, read without unpickling them.

Format: OLMo, ``olmo/safetensors_util.py:encode_key``: the pickle of ``((key, ...), flag)``, whose
flag says that the tensor is itself a pickled value. A pickle is a program; this one is not
run: its opcodes are listed, and one that does anything but build texts, whole numbers and
tuples makes the name stay as it is stored.
"""

import pickletools
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from altgrad_inspect.checkpoints.assemblies.plain import assemble_plain
from altgrad_inspect.checkpoints.header import Header
from altgrad_inspect.checkpoints.names import normalise_names
from altgrad_inspect.display import display_name
from altgrad_inspect.refs import CheckpointRef, FileRef, LayerRef

_START: Final = "gA"
"""How base64 spells the first byte of every pickle since protocol 2, and a small second one."""

_MAX_CHARACTERS: Final = 4096
_MAX_KEYS: Final = 10_000
_MARK: Final = object()
_TUPLES: Final = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None}
"""Opcodes that build a tuple, of how many values; None of those since the last mark."""
_VALUES: Final = frozenset(
    {"SHORT_BINUNICODE", "BINUNICODE", "BININT", "BININT1", "BININT2", "NEWTRUE", "NEWFALSE"}
)
_FIXED: Final = {"NEWTRUE": True, "NEWFALSE": False}
_STORES: Final = frozenset({"MEMOIZE", "BINPUT", "LONG_BINPUT"})
_LOADS: Final = frozenset({"BINGET", "LONG_BINGET"})
_IGNORED: Final = frozenset({"PROTO", "FRAME", "STOP"})


class _OtherKindError(ValueError):
    """The opcodes do anything but build a name."""


def has_olmo_keys(headers: Mapping[Path, tuple[FileRef, Header]]) -> bool:
    """Say whether the first tensor of a checkpoint has a name of this kind."""
    first = next((name for _, header in headers.values() for name in header.tensors), "")
    return decode_olmo_key(first) is not None


def assemble_olmo(
    ref: CheckpointRef, headers: Mapping[Path, tuple[FileRef, Header]]
) -> tuple[dict[str, LayerRef], tuple[str, ...]]:
    """Take every stored tensor for a layer, under its decoded name.

    Raises:
        CheckpointError: As `assemble_plain`.
    """
    tensors, notes = assemble_plain(ref, headers)
    stored = [layer.stored_name for layer in tensors.values()]
    decoded = {key: decode_olmo_key(key) for key in stored[:_MAX_KEYS]}
    names, _ = normalise_names([decoded.get(key) or key for key in stored])
    layers: dict[str, LayerRef] = {}
    left: list[str] = []
    for layer in tensors.values():
        name = names[decoded.get(layer.stored_name) or layer.stored_name]
        if name in layers or decoded.get(layer.stored_name) is None:
            name = layer.stored_name
            left.append(name)
        layers[name] = replace(layer, name=name)
    if left:
        shown = display_name(left[0], limit=60)
        note = (
            f"{display_name(str(ref.path))}: {len(left)} names are not decoded and stay as they "
            f"are stored, such as '{shown}'"
        )
        notes = (*notes, note)
    return dict(sorted(layers.items())), notes


def decode_olmo_key(key: str) -> str | None:
    """Return the name that a key of OLMo-1 stands for; None if it is no such key.

    Nothing is unpickled: a key that would run code is no such key.
    """
    if not key.startswith(_START) or len(key) > _MAX_CHARACTERS:
        return None
    try:
        value = _build(b64decode(key, altchars=b"-_", validate=True))
    except ValueError:
        return None
    match value:
        case (tuple() as keys, bool()) if keys:
            parts = [str(one) for one in keys if isinstance(one, str) or type(one) is int]
            return ".".join(parts) if len(parts) == len(keys) and all(parts) else None
    return None


def _build(content: bytes) -> object:
    """Build the texts, numbers and tuples that a pickle describes, opcode by opcode."""
    stack: list[object] = []
    memo: dict[int, object] = {}
    try:
        for opcode, argument, _ in pickletools.genops(content):
            _apply(opcode.name, argument, stack, memo)
    except (ValueError, IndexError, KeyError, UnicodeError) as error:
        raise _OtherKindError from error
    if len(stack) != 1:
        raise _OtherKindError
    return stack[0]


def _apply(name: str, argument: object, stack: list[object], memo: dict[int, object]) -> None:
    if name in _VALUES:
        stack.append(_FIXED.get(name, argument))
    elif name in _TUPLES:
        _build_tuple(name, stack)
    elif name == "MARK":
        stack.append(_MARK)
    elif name in _STORES:
        memo[argument if isinstance(argument, int) else len(memo)] = stack[-1]
    elif name in _LOADS and isinstance(argument, int):
        stack.append(memo[argument])
    elif name not in _IGNORED:
        raise _OtherKindError


def _build_tuple(name: str, stack: list[object]) -> None:
    size = _TUPLES[name]
    if size is None:
        at = len(stack) - 1 - stack[::-1].index(_MARK)
        stack[at:] = [tuple(stack[at + 1 :])]
        return
    at = len(stack) - size
    if at < 0 or _MARK in stack[at:]:
        raise _OtherKindError
    stack[at:] = [tuple(stack[at:])]
