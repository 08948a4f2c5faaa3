"""Codes of less than a byte: how they lie in bytes and words, one function an order.

What comes back is one code a uint8 or int32 element, in the order of the last dimension, as an
unsigned field; what a field stands for is for the scheme to say.
"""

import torch
from jaxtyping import Int32, Shaped, UInt8
from torch import Tensor

_WORD_BITS = 32


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
