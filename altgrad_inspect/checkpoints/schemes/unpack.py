"""Codes of less than a byte: how they lie in bytes and words, one function an order.

What comes back is one code a uint8 or int32 element, in the order of the last dimension, as an
unsigned field; what a field stands for is for the scheme to say.
"""

from typing import Final

import torch
from jaxtyping import Int32, Integer, Shaped, UInt8
from torch import Tensor

_WORD_BITS = 32
_PLANES: Final = {1: (1,), 2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1), 8: (8,)}


def nibbles_low_first(stored: Shaped[Tensor, "*rows bytes"]) -> UInt8[Tensor, "*rows nibbles"]:
    """Unpack two codes a byte, the first one in bits 0 to 3.

    The order of OCP MX, NVFP4 and torch's ``float4_e2m1fn_x2`` files.

    Args:
        stored: Any dtype of one byte.
    """
    content = stored.view(torch.uint8)
    return torch.stack([content & 0x0F, content >> 4], dim=-1).flatten(-2)


def nibbles_high_first(stored: Shaped[Tensor, "*rows bytes"]) -> UInt8[Tensor, "*rows nibbles"]:
    """Unpack two codes a byte, the first one in bits 4 to 7, as bitsandbytes packs them.

    Args:
        stored: Any dtype of one byte.
    """
    content = stored.view(torch.uint8)
    return torch.stack([content >> 4, content & 0x0F], dim=-1).flatten(-2)


def fields_in_words(
    words: Int32[Tensor, "*rows words"], *, bits: int
) -> Int32[Tensor, "*rows fields"]:
    """Unpack ``32 // bits`` codes a word from its lowest bit on; the rest of a word is unused.

    Args:
        words: int32.
        bits: Width of a code, 1 to 8.
    """
    shifts = torch.arange(_WORD_BITS // bits, dtype=torch.int32, device=words.device) * bits
    fields = (words[..., None] >> shifts) & ((1 << bits) - 1)
    return fields.flatten(-2)


def fields_in_stream(
    words: Int32[Tensor, "*rows words"], *, bits: int
) -> Int32[Tensor, "*rows fields"]:
    """Unpack codes that follow each other without a gap and may reach into the next word.

    The words of a row are one string of bits, lowest bit of the first word first.

    Args:
        words: int32.
        bits: Width of a code, 1 to 8.

    Returns:
        As many whole codes as fit in a row.
    """
    count = words.shape[-1] * _WORD_BITS // bits
    starts = torch.arange(count, device=words.device) * bits
    index, shifts = starts // _WORD_BITS, (starts % _WORD_BITS).int()
    mask = (1 << bits) - 1
    # An arithmetic shift fills with the sign; the mask of what remains in the word drops that.
    left = (_WORD_BITS - shifts).clamp(max=bits)
    fields = (words[..., index] >> shifts) & ((1 << left) - 1)
    following = words[..., (index + 1).clamp(max=words.shape[-1] - 1)]
    reaches = torch.where(left < bits, following << left.clamp(max=bits), 0)
    return ((fields | reaches) & mask).int()


def sextets_in_bytes(stored: UInt8[Tensor, "*rows bytes"]) -> UInt8[Tensor, "*rows sextets"]:
    """Unpack four codes of six bits from every three bytes, the first in the lowest bits."""
    low, middle, high = stored.reshape(*stored.shape[:-1], -1, 3).unbind(-1)
    fields = [
        low & 0x3F,
        (low >> 6) | ((middle & 0x0F) << 2),
        (middle >> 4) | ((high & 0x03) << 4),
        high >> 2,
    ]
    return torch.stack(fields, dim=-1).flatten(-2)


def fields_in_planes(
    words: Int32[Tensor, "*rows words"], *, bits: int
) -> Int32[Tensor, "*rows fields"]:
    """Unpack codes that are split into planes of whole fields, as GPTQModel's ``gptq_p`` does.

    ``bits`` words hold 32 codes: first their lowest 4 (or 2) bits, then the next 2, then the
    last one, each plane from the lowest bit of its first word on.

    Args:
        words: int32, a multiple of ``bits`` in every row.
        bits: Width of a code, 1 to 8.
    """
    blocks = words.reshape(*words.shape[:-1], -1, bits)
    codes = torch.zeros((*blocks.shape[:-1], _WORD_BITS), dtype=torch.int32, device=words.device)
    start = shift = 0
    for width in _PLANES[bits]:
        codes |= fields_in_words(blocks[..., start : start + width], bits=width) << shift
        start, shift = start + width, shift + width
    return codes.flatten(-2)


def fields_in_row_parts(
    stored: Integer[Tensor, "rows cols"], *, bits: int, count: int, high_first: bool
) -> Integer[Tensor, "fields cols"]:
    """Unpack matrices whose rows are cut into ``count`` parts that lie over each other.

    Row r of the stored matrix holds the rows r, r + rows, r + 2 rows, ... of the codes.

    Args:
        stored: Any integer dtype.
        bits: Width of a code.
        count: Codes in an element.
        high_first: Whether the first part has the highest bits of the lowest ``bits * count``.
    """
    places = reversed(range(count)) if high_first else range(count)
    return torch.cat([(stored >> (bits * place)) & ((1 << bits) - 1) for place in places])
