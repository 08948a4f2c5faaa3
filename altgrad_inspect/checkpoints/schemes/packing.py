"""Which way integers were packed into 32-bit words, told from the number of words.

Several ways may fit. Bits that no code takes are zero, which tells them apart when codes are read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from altgrad_inspect.checkpoints.schemes.beside import path_of
from altgrad_inspect.checkpoints.schemes.blocks import WHOLE_GROUPS, find_blocks
from altgrad_inspect.checkpoints.schemes.compressed_settings import (
    WeightSettings,
    settings_for,
    version_of,
)
from altgrad_inspect.checkpoints.schemes.scheme import SchemeContext
from altgrad_inspect.checkpoints.schemes.unpack import fields_in_stream, fields_in_words
from altgrad_inspect.refs import LayerRef

_WORD_BITS: Final = 32
_WORD_MASK: Final = 0xFFFFFFFF
_USUAL_BITS: Final = (4, 8, 2, 1, 3, 5, 6, 7)
_FIRST_DENSE_VERSION: Final = (0, 18)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """One way to put codes into words.

    Attributes:
        bits: Width of a code, 1 to 8.
        is_dense: Whether codes follow each other without a gap and reach into the next word;
            else a word holds 32 // bits of them.
    """

    bits: int
    is_dense: bool

    def __str__(self) -> str:
        per_word = "without a gap" if self.is_dense else f"{_WORD_BITS // self.bits} a word"
        return f"{self.bits} bits {per_word}"

    def num_words(self, count: int) -> int:
        """Words that ``count`` codes take."""
        if self.is_dense:
            return -(-count * self.bits // _WORD_BITS)
        return -(-count // (_WORD_BITS // self.bits))

    def unpack(self, words: Tensor, count: int) -> Tensor:
        """Return the first ``count`` codes of every row, as signed integers."""
        fields = (fields_in_stream if self.is_dense else fields_in_words)(words, bits=self.bits)
        return fields[..., :count] - (1 << (self.bits - 1))

    def leaves_zeros(self, words: Tensor, count: int) -> bool:
        """Whether the bits that ``count`` codes a row do not take are all zero."""
        free = self._free_bits(words, count)
        return not bool((words.long() & free.to(words.device)).any())

    def num_unused(self, words: Tensor, count: int) -> int:
        """Bits of a row that ``count`` codes do not take."""
        return words.shape[-1] * _WORD_BITS - count * self.bits

    def _free_bits(self, words: Tensor, count: int) -> Tensor:
        room = _WORD_BITS if self.is_dense else _WORD_BITS // self.bits * self.bits
        starts = range(0, words.shape[-1] * room, room)
        taken = [max(0, min(count * self.bits - start, room)) for start in starts]
        return torch.tensor([_WORD_MASK ^ ((1 << num) - 1) for num in taken], dtype=torch.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedLayer:
    """What the shapes of a layer's tensors allow.

    Attributes:
        cols: K.
        packing: The likeliest way.
        rivals: Others that fit as well.
    """

    cols: int
    packing: Packing
    rivals: tuple[Packing, ...]


def find_packing(
    codes: LayerRef, scale: LayerRef, others: Mapping[str, LayerRef], context: SchemeContext
) -> PackedLayer | None:
    """Return how the codes of a layer are packed; None if no way fits all shapes.

    Args:
        codes: I32 [N, words], or more dimensions before.
        scale: Its scales.
        others: ``zeros``, ``order`` and ``shape`` where they are stored.
        context: Of the checkpoint.
    """
    if len(codes.shape) < 2:
        return None
    settings = [one for one in settings_for(context, path_of(codes.name)) if one.kind != "float"]
    for configured in settings:
        if configured.bits in _USUAL_BITS:
            cols = _find_cols(scale, others, context, configured)
            found = _fit((codes, scale), others, cols, (configured.bits,), version_of(context))
            if found is not None:
                return found
    cols = _find_cols(scale, others, context, None)
    return _fit((codes, scale), others, cols, _USUAL_BITS, version_of(context))


def _find_cols(
    scale: LayerRef,
    others: Mapping[str, LayerRef],
    context: SchemeContext,
    settings: WeightSettings | None,
) -> int | None:
    """K: from the order of the columns, from whole groups, or from the stored shape."""
    if "order" in others and len(others["order"].shape) == 1:
        return others["order"].shape[0]
    if settings is not None and settings.group_size and len(scale.shape) > 1:
        return settings.group_size * scale.shape[-1]
    stored = others.get("shape")
    content = context.read_small(stored) if stored is not None else None
    if stored is None or not content or stored.dtype not in {"I64", "I32"}:
        return None
    num_bytes = 8 if stored.dtype == "I64" else 4
    return int.from_bytes(content[-num_bytes:], "little", signed=True)


def _fit(
    stored: tuple[LayerRef, LayerRef],
    others: Mapping[str, LayerRef],
    cols: int | None,
    widths: tuple[int, ...],
    version: tuple[int, int] | None,
) -> PackedLayer | None:
    if cols is None or cols < 1:
        return None
    codes, scale = stored
    known_ways = (True, False) if version is None else (version >= _FIRST_DENSE_VERSION,)
    *before, num_words = codes.shape
    shape = (*before, cols)
    if find_blocks(shape, scale.shape, {WHOLE_GROUPS: "order" not in others}) is None:
        return None
    fitting = [
        packing
        for packing in _ways(widths)
        if packing.num_words(cols) == num_words and _fits_zeros(packing, shape, others)
    ]
    fitting.sort(key=lambda packing: packing.is_dense not in known_ways)
    if not fitting:
        return None
    is_certain = version is not None and len(widths) == 1 and fitting[0].is_dense in known_ways
    rivals = () if is_certain else tuple(fitting[1:])
    return PackedLayer(cols=cols, packing=fitting[0], rivals=rivals)


def _ways(widths: tuple[int, ...]) -> Iterator[Packing]:
    for bits in widths:
        yield Packing(bits=bits, is_dense=True)
        if _WORD_BITS % bits:
            yield Packing(bits=bits, is_dense=False)


def _fits_zeros(packing: Packing, shape: tuple[int, ...], others: Mapping[str, LayerRef]) -> bool:
    zeros = others.get("zeros")
    if zeros is None or zeros.dtype != "I32":
        return True
    return len(zeros.shape) >= 2 and zeros.shape[-2] == packing.num_words(shape[-2])
