"""Steps that schemes share: layers made of stored tensors, and scales as numbers."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final

import torch
from torch import Tensor

from altgrad_inspect.checkpoints.schemes.scheme import SchemeContext
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.refs import Fact, LayerRef

FLOAT8_FORMATS: Final[Mapping[str, str]] = {
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
"""Safetensors dtypes whose elements are codes of a number format, and which one."""

FLOATS: Final = frozenset({"F16", "BF16", "F32", "F64"})
"""Safetensors dtypes of plain numbers."""

INTEGERS: Final = frozenset({"I8", "U8", "I16", "I32", "I64"})
"""Safetensors dtypes of integers that torch computes with."""

EXPONENTS: Final = frozenset({"F8_E8M0", "U8"})
"""Safetensors dtypes of scales that are powers of two; `read_scale` knows them."""

PROBLEM: Final = "problem"
"""The fact that says why a layer cannot be decoded, for layers that were found damaged."""


def build_layer(
    name: str,
    parts: Mapping[str, LayerRef],
    *,
    scheme: str,
    fmt: str,
    shape: tuple[int, ...],
    recognised_by: str,
    facts: Mapping[str, Fact] | None = None,
    dtypes: Mapping[str, AbstractSet[str]] | None = None,
    problem: str | None = None,
) -> LayerRef:
    """Return the layer that is made of ``parts``, the first of which holds the codes.

    Codes of no dimension and parts of the wrong dtype are a problem of the layer.

    Args:
        name: What the layer is called, e.g. ``P.weight``.
        parts: Stored tensors by role.
        scheme: The scheme's name.
        fmt: Name of the codes' format.
        shape: Of the weights.
        recognised_by: What gave the scheme away.
        facts: What decoding must know.
        dtypes: By role, the dtypes that a part may have; roles that are missing may have any.
        problem: Why it cannot be decoded: what is wrong, what was expected, what to do.
    """
    codes = next(iter(parts.values()))
    problem = problem or _find_problem(parts, dtypes or {})
    return LayerRef(
        name=name,
        stored_name=codes.stored_name,
        dtype=fmt,
        shape=shape,
        file=codes.file,
        offset=codes.offset,
        num_bytes=sum(part.num_bytes for part in parts.values()),
        scheme=scheme,
        parts=dict(parts),
        facts=dict(facts or {}) if problem is None else {**(facts or {}), PROBLEM: problem},
        recognised_by=recognised_by,
    )


def _find_problem(
    parts: Mapping[str, LayerRef], dtypes: Mapping[str, AbstractSet[str]]
) -> str | None:
    """What no scheme can decode, in words; None if nothing is wrong."""
    codes = next(iter(parts.values()))
    if not codes.shape:
        return (
            f"has one number of no dimension as '{_name_part(codes)}', expected a tensor of codes "
            "(save the checkpoint again)"
        )
    for role, known in dtypes.items():
        part = parts.get(role)
        if part is not None and part.dtype not in known:
            return (
                f"has '{_name_part(part)}' of dtype {part.dtype}, expected "
                f"{' or '.join(sorted(known))} (save the checkpoint again)"
            )
    return None


def _name_part(part: LayerRef) -> str:
    return display_name(part.name.rpartition(".")[2], limit=80)


def recognised_by(context: SchemeContext, *methods: str) -> str:
    """What gave a scheme away: the configuration, if it names one of ``methods``."""
    if context.method in methods:
        return f"{context.source}: {context.method}"
    return "names, dtypes and shapes"


def int_fact(layer: LayerRef, name: str) -> int:
    """Return a fact that is an integer.

    Raises:
        KeyError: The layer has no such fact.
        TypeError: It is none.
    """
    value = layer.facts[name]
    if not isinstance(value, int):
        msg = f"fact {name!r} of layer {layer.name!r} is {value!r}, expected an integer"
        raise TypeError(msg)
    return value


def read_scale(scale: Tensor) -> Tensor:
    """Return scales as float32, exactly: any float dtype; bytes are exponents (E8M0)."""
    if scale.dtype in {torch.uint8, torch.float8_e8m0fnu}:
        exponents = scale.view(torch.uint8).int()
        values = torch.ldexp(torch.ones_like(exponents, dtype=torch.float32), exponents - 127)
        return torch.where(exponents == 255, torch.nan, values)
    return scale.float()


def name_layer(layer: LayerRef) -> str:
    """What a message calls a layer."""
    return f"{display_name(str(layer.file.path))}: layer '{display_name(layer.name, limit=80)}'"


def no_fit(layer: LayerRef, stored: Tensor, what: str, expected: str) -> CheckpointError:
    """Return the error of stored numbers that are more or fewer than the weights need."""
    return CheckpointError(
        f"{name_layer(layer)} has {what} of shape {list(stored.shape)}, expected {expected} "
        f"for weights of {list(layer.shape)} (save the checkpoint again)"
    )
