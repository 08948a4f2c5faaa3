"""Packed 4-bit codes with zero points a group of inputs, as AWQ stores them.

``gemm``, by far the most common version, has one row an input, and 8 outputs a word:

P.qweight   I32 [K, N / 8]
P.qzeros    I32 [K / g, N / 8]
P.scales    F16 [K / g, N]

Field i of a word, from the lowest bit on, is output 8 c + (0, 2, 4, 6, 1, 3, 5, 7)[i]. ``gemv`` has
one row an output, fields in their order, and room for more groups than there are:

P.qweight   I32 [N, K / 8]
P.qzeros    I32 [N, W]
P.scales    F16 [N, 8 W]

A weight is (code - zero) * scale, as [N, K].
"""

from collections.abc import Iterable, Mapping
from typing import Final

import torch
from torch import Tensor

from altgrad_inspect.checkpoints.schemes.beside import WEIGHT, called, in_module, parts_of_module
from altgrad_inspect.checkpoints.schemes.blocks import view_of
from altgrad_inspect.checkpoints.schemes.parts import (
    FLOATS,
    build_layer,
    int_fact,
    recognised_by,
)
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LoadedLayer, SchemeContext
from altgrad_inspect.checkpoints.schemes.unpack import fields_in_words
from altgrad_inspect.checkpoints.schemes.zero_points import code_with_zero_points, unsigned_format
from altgrad_inspect.refs import LayerRef

_AUTO_ROUND: Final = ("auto-round", "intel/auto-round")
_METHODS: Final = ("awq", *_AUTO_ROUND)
_BITS: Final = 4
_PER_WORD: Final = 8
_ORDER: Final = (0, 2, 4, 6, 1, 3, 5, 7)
_ROLES: Final = {"codes": "qweight", "zeros": "qzeros", "scales": "scales"}
_FMT: Final = unsigned_format((1 << _BITS) - 1)


class AwqScheme:
    """Weights stored as ``qweight``, ``qzeros`` and ``scales``, 8 outputs or inputs a word."""

    name = "awq"

    def find(self, tensors: Mapping[str, LayerRef], context: SchemeContext) -> Iterable[Claim]:
        """Find ``P.qweight`` with words along the outputs; the layer is ``P.weight``."""
        is_named = _is_named(context)
        for name in called(tensors, _ROLES["codes"]):
            if in_module(name, "g_idx") in tensors:
                continue
            parts = parts_of_module(tensors, name, _ROLES)
            version = _find_version(parts, context)
            if version is None and not is_named:
                continue
            group_size = None if version is None else _find_group_size(parts, version, context)
            codes = parts["codes"]
            problem = None
            if version is None or group_size is None:
                problem = _describe_misfit(parts, context)
            yield Claim(
                layer=build_layer(
                    in_module(name, WEIGHT),
                    parts,
                    scheme=self.name,
                    fmt=_FMT.name,
                    shape=_find_shape(codes.shape, version),
                    recognised_by=recognised_by(context, *(_METHODS if is_named else ())),
                    facts={"version": version, "group_size": group_size},
                    problem=problem,
                )
            )

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return fl32((code - zero) * scale), before a library rounds to its own dtype."""
        group_size, cols = int_fact(layer, "group_size"), layer.shape[1]
        num_groups = -(-cols // group_size)
        if layer.facts["version"] == "gemm":
            codes, zeros = (_unpack(parts[role]).T for role in ("codes", "zeros"))
            scales = parts["scales"].T
        else:
            codes = fields_in_words(parts["codes"], bits=_BITS)
            zeros = fields_in_words(parts["zeros"], bits=_BITS)[:, :num_groups]
            scales = parts["scales"][:, :num_groups]
        coded = code_with_zero_points(
            codes,
            zeros,
            scales,
            view_of(layer.shape, block_rows=1, block_cols=group_size),
            fmt=_FMT,
        )
        return LoadedLayer(values=coded.decode(), coded=coded)


def _is_named(context: SchemeContext) -> bool:
    settings = context.settings
    if context.method in _AUTO_ROUND:
        return "awq" in str(settings.get("packing_format") or settings.get("backend")).lower()
    return context.method == "awq"


def _find_version(parts: Mapping[str, LayerRef], context: SchemeContext) -> str | None:
    """Which layout the shapes are of; ``gemv`` only where the configuration says so as well."""
    if set(parts) != set(_ROLES) or any(len(part.shape) != 2 for part in parts.values()):
        return None
    codes, zeros, scales = (parts[role] for role in _ROLES)
    if (codes.dtype, zeros.dtype) != ("I32", "I32") or scales.dtype not in FLOATS:
        return None
    is_gemv = (
        codes.shape[0] == zeros.shape[0] == scales.shape[0]
        and scales.shape[1] == zeros.shape[1] * _PER_WORD
    )
    if _is_named(context) and str(context.settings.get("version", "")).lower() == "gemv":
        return "gemv" if is_gemv else None
    is_gemm = (
        codes.shape[1] == zeros.shape[1]
        and codes.shape[1] * _PER_WORD == scales.shape[1]
        and zeros.shape[0] == scales.shape[0] > 0
        and codes.shape[0] % scales.shape[0] == 0 < codes.shape[0]
    )
    return "gemm" if is_gemm else None


def _find_shape(words: tuple[int, ...], version: str | None) -> tuple[int, ...]:
    """Outputs and inputs; as stored where the layout is not known."""
    match version, words:
        case "gemm", (cols, out):
            return out * _PER_WORD, cols
        case "gemv", (rows, num_words):
            return rows, num_words * _PER_WORD
        case _:
            return words


def _find_group_size(
    parts: Mapping[str, LayerRef], version: str, context: SchemeContext
) -> int | None:
    """Inputs that share a scale; the shapes of ``gemv`` leave it to the configuration."""
    if version == "gemm":
        return parts["codes"].shape[0] // parts["scales"].shape[0]
    settings, cols = context.settings, parts["codes"].shape[1] * _PER_WORD
    size = settings.get("group_size", settings.get("q_group_size"))
    if type(size) is not int:
        return None
    size = cols if size == -1 else size
    fits = 0 < size <= cols and cols % size == 0
    return size if fits and cols // size <= parts["scales"].shape[1] else None


def _describe_misfit(parts: Mapping[str, LayerRef], context: SchemeContext) -> str:
    found = ", ".join(
        f"{_ROLES[role]} {part.dtype} {list(part.shape)}" for role, part in parts.items()
    )
    version = context.settings.get("version", "gemm")
    return (
        f"is stored as {found} (AWQ version {version}), expected 4-bit codes as qweight I32 "
        "[K, N / 8], qzeros I32 [K / g, N / 8] and scales [K / g, N] (save it as version gemm)"
    )


def _unpack(words: Tensor) -> Tensor:
    """Unpack 8 codes a word in the order of the kernels, along the last dimension."""
    fields = fields_in_words(words, bits=_BITS).reshape(*words.shape, _PER_WORD)
    place = torch.empty(_PER_WORD, dtype=torch.long, device=words.device)
    place[list(_ORDER)] = torch.arange(_PER_WORD, device=words.device)
    return fields[..., place].flatten(-2)
