"""Packed unsigned codes with zero points a group of inputs: GPTQ and what is stored like it.

P.qweight   I32 [K b / 32, N]   codes of b bits; a column of it is one output
P.qzeros    I32 [G, N b / 32]   zero points, packed along the outputs
P.scales    F16 [G, N]          also BF16 and F32
P.g_idx     I32 [K]             group of every input; may be missing: then groups are runs

A weight is (code - zero) * scale, transposed to [N, K]. The versions differ in ``qzeros``: v1,
the default, stores the zero point minus 1; v2 stores it as it is. 3-bit codes reach over word
boundaries, but not in the split-plane layout ``gptq_p``, the only one of GPTQModel for 5, 6 and 7
bits. Auto-round writes both versions, without ``g_idx``, and lets codes of any width reach over.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import torch
from torch import Tensor

from altgrad_inspect.checkpoints.schemes.beside import WEIGHT, called, in_module, parts_of_module
from altgrad_inspect.checkpoints.schemes.blocks import find_blocks, view_of
from altgrad_inspect.checkpoints.schemes.parts import (
    FLOATS,
    INTEGERS,
    build_layer,
    int_fact,
    name_layer,
    recognised_by,
)
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LoadedLayer, SchemeContext
from altgrad_inspect.checkpoints.schemes.unpack import fields_in_planes, fields_in_stream
from altgrad_inspect.checkpoints.schemes.zero_points import code_with_zero_points, unsigned_format
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.refs import LayerRef

_AUTO_ROUND: Final = ("auto-round", "intel/auto-round")
_METHODS: Final = ("gptq", *_AUTO_ROUND)
_PLANAR: Final = "gptq_p"
_PLANAR_BITS: Final = (5, 6, 7)
_MINUS_ONE: Final = "minus one"
_AS_IS: Final = "as they are"
_ZEROS: Final[Mapping[str, str]] = {
    "gptq": _MINUS_ONE,
    "gptq_v2": _AS_IS,
    _PLANAR: _AS_IS,
    "auto_round": _AS_IS,
    "auto_round:gptqmodel": _AS_IS,
    "auto_round:gptq": _MINUS_ONE,
    "auto_round:auto_gptq": _MINUS_ONE,
}
_FEWEST_IN_GROUP: Final = 16
_WORD_BITS: Final = 32
_ROLES: Final = {"codes": "qweight", "zeros": "qzeros", "scales": "scales", "groups": "g_idx"}
_UNKNOWN_ZEROS: Final = (
    "no configuration says how GPTQ zero points are stored: taken as minus one (v1), unless all "
    "of a layer are in the middle of the codes"
)


class GptqScheme:
    """Weights stored as ``qweight``, ``qzeros`` and ``scales``, one column an output."""

    name = "gptq"

    def find(self, tensors: Mapping[str, LayerRef], context: SchemeContext) -> Iterable[Claim]:
        """Find ``P.qweight`` whose columns are those of ``P.scales``; the layer is ``P.weight``."""
        is_named = context.method in _METHODS
        layout = _read_layout(context)
        for name in called(tensors, _ROLES["codes"]):
            parts = parts_of_module(tensors, name, _ROLES)
            fits = _has_gptq_shapes(parts)
            if not fits and not is_named:
                continue
            found = _find_bits(parts, context) if fits else _describe_misfit(parts)
            bits = found if isinstance(found, int) else 0
            planar = _is_planar(bits, context)
            if not is_named and (bits in _PLANAR_BITS or _is_unlikely(parts, bits)):
                continue
            cols = _count_inputs(parts, bits)
            zeros = _AS_IS if planar else _ZEROS.get(layout or "")
            yield Claim(
                layer=build_layer(
                    in_module(name, WEIGHT),
                    parts,
                    scheme=self.name,
                    fmt=f"uint{bits}" if bits else "uint",
                    shape=(parts["codes"].shape[-1], cols) if bits else parts["codes"].shape,
                    recognised_by=recognised_by(context, *_METHODS),
                    facts={
                        "bits": bits,
                        "group_size": _read_size(context, "group_size"),
                        "zeros": zeros,
                        "planar": planar,
                    },
                    dtypes={"groups": INTEGERS},
                    problem=found if isinstance(found, str) else None,
                ),
                notes=() if zeros or not bits else (_UNKNOWN_ZEROS,),
            )

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return fl32((code - zero) * scale), before a library rounds to its own dtype."""
        bits, (rows, cols) = int_fact(layer, "bits"), layer.shape
        unpack = fields_in_planes if layer.facts["planar"] else fields_in_stream
        codes = unpack(parts["codes"].T.contiguous(), bits=bits)[:, :cols]
        zeros = _read_zeros(layer, parts["zeros"], bits)[:, :rows].T
        block_cols, col_blocks = _find_groups(layer, parts.get("groups"), zeros.shape[1])
        coded = code_with_zero_points(
            codes,
            zeros,
            parts["scales"].T,
            view_of(layer.shape, block_rows=1, block_cols=block_cols),
            fmt=unsigned_format((1 << bits) - 1),
            col_blocks=col_blocks,
        )
        return LoadedLayer(values=coded.decode(), coded=coded)


def _read_layout(context: SchemeContext) -> str | None:
    """What the configuration calls the layout; None where there is no such configuration."""
    settings = context.settings
    if context.method in _AUTO_ROUND:
        return str(settings.get("packing_format") or settings.get("backend") or "").lower()
    if context.method == "gptq":
        found = settings.get("checkpoint_format") or settings.get("format") or "gptq"
        return str(found).lower() if str(found).lower() in _ZEROS else "gptq"
    return None


def _is_planar(bits: int, context: SchemeContext) -> bool:
    """Whether codes of so many bits are split into planes, 32 codes to ``bits`` words."""
    is_only_way = bits in _PLANAR_BITS and context.method not in _AUTO_ROUND
    return is_only_way or _read_layout(context) == _PLANAR


def _read_size(context: SchemeContext, name: str) -> int | None:
    size = context.settings.get(name)
    return size if type(size) is int and size > 0 else None


def _has_gptq_shapes(parts: Mapping[str, LayerRef]) -> bool:
    if not {"codes", "zeros", "scales"} <= set(parts):
        return False
    codes, zeros, scales = (parts[role] for role in ("codes", "zeros", "scales"))
    return (
        all(len(part.shape) == 2 for part in (codes, zeros, scales))
        and (codes.dtype, zeros.dtype) == ("I32", "I32")
        and scales.dtype in FLOATS
        and codes.shape[1] == scales.shape[1]
        and zeros.shape[0] == scales.shape[0] > 0
        and ("groups" not in parts or len(parts["groups"].shape) == 1)
    )


def _describe(parts: Mapping[str, LayerRef]) -> str:
    found = (f"{_ROLES[role]} {part.dtype} {list(part.shape)}" for role, part in parts.items())
    return f"is stored as {', '.join(found)}"


def _describe_misfit(parts: Mapping[str, LayerRef]) -> str:
    return (
        f"{_describe(parts)}, expected qweight I32 [K bits / 32, N], qzeros I32 [G, N bits / 32] "
        "and scales [G, N] (save the checkpoint again, in the format gptq or gptq_v2)"
    )


def _is_filled(num_words: int, count: int, bits: int) -> bool:
    """Whether so many words are what ``count`` codes need, with or without a padded block."""
    return num_words in {-(-count * bits // _WORD_BITS), -(-count // _WORD_BITS) * bits}


def _find_bits(parts: Mapping[str, LayerRef], context: SchemeContext) -> int | str:
    """The width of a code, from the shapes; the configuration decides between several."""
    codes, zeros = parts["codes"], parts["zeros"]
    widths = []
    for bits in range(1, 9):
        if not _is_filled(zeros.shape[1], codes.shape[1], bits):
            continue
        if _is_planar(bits, context) and (codes.shape[0] % bits or zeros.shape[1] % bits):
            continue
        if "groups" in parts:
            fits = _is_filled(codes.shape[0], parts["groups"].shape[0], bits)
        else:
            fits = codes.shape[0] * _WORD_BITS % bits == 0
        if fits:
            widths.append(bits)
    named = _read_size(context, "bits")
    if named in widths:
        return named
    if len(widths) == 1:
        return widths[0]
    return (
        f"{_describe(parts)}, which fits {' and '.join(map(str, widths)) or 'no number of'} bits, "
        "expected one width (add the quantization_config to config.json)"
    )


def _count_inputs(parts: Mapping[str, LayerRef], bits: int) -> int:
    if "groups" in parts:
        return parts["groups"].num_weights
    return parts["codes"].shape[0] * _WORD_BITS // bits if bits else 0


def _is_unlikely(parts: Mapping[str, LayerRef], bits: int) -> bool:
    """Whether groups would be smaller than any tool makes them: then this is another scheme."""
    if "groups" in parts:
        return False
    return _count_inputs(parts, bits) < _FEWEST_IN_GROUP * parts["scales"].shape[0]


def _read_zeros(layer: LayerRef, words: Tensor, bits: int) -> Tensor:
    """Return the zero points as int32, (groups, outputs).

    What v1 subtracted is added to whole words where no code reaches over their boundary, so that
    a zero point of 0, which borrowed from its neighbour, comes back; GPTQModel:
    utils/model.py:convert_gptq_v1_to_v2_format_module.
    """
    mask = (1 << bits) - 1
    unpack = fields_in_planes if layer.facts["planar"] else fields_in_stream
    convention = layer.facts["zeros"]
    stored = unpack(words, bits=bits)
    if convention is None:
        middle = stored[:, : layer.shape[0]] == 1 << (bits - 1)
        convention = _AS_IS if bool(middle.all()) else _MINUS_ONE
    if convention == _AS_IS:
        return stored
    if _WORD_BITS % bits:
        return (stored + 1) & mask
    ones = sum(1 << start for start in range(0, _WORD_BITS, bits))
    added = words.long() + ones
    return unpack(added.int(), bits=bits)


def _find_groups(
    layer: LayerRef, groups: Tensor | None, num_groups: int
) -> tuple[int, Tensor | None]:
    """Inputs that share a scale, and the group of every input where groups are no runs."""
    cols = layer.shape[1]
    if groups is None:
        size = layer.facts["group_size"]
        if isinstance(size, int) and -(-cols // size) == num_groups:
            return size, None
        found = find_blocks((layer.shape[0], cols), (layer.shape[0], num_groups))
        if found is None:
            msg = (
                f"{name_layer(layer)} has {num_groups} groups of {cols} inputs, expected groups "
                "of one size (save the checkpoint again)"
            )
            raise CheckpointError(msg)
        return found.view.block_cols, None
    index = groups.long()
    index = torch.where(index < 0, index + num_groups, index)
    if bool(((index < 0) | (index >= num_groups)).any()):
        msg = (
            f"{name_layer(layer)} has g_idx from {int(groups.min())} to {int(groups.max())}, "
            f"expected 0 to {num_groups - 1}, one of its groups (save the checkpoint again)"
        )
        raise CheckpointError(msg)
    later = torch.nonzero(index != index[0])
    size = int(later[0]) if len(later) else cols
    runs = torch.arange(cols, device=index.device) // size
    if torch.equal(index, runs) and -(-cols // size) == num_groups:
        return size, None
    return max(1, -(-cols // num_groups)), index
