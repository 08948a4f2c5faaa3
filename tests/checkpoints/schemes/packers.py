"""Packs codes bit by bit, from the definition of each layout, with Python's integers."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]

WORD = 32
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def as_words(bits: Iterable[int]) -> list[int]:
    """Cut a string of bits, lowest first, into signed words of 32 bits."""
    number = sum(bit << place for place, bit in enumerate(bits))
    words = []
    while number:
        words.append(number & 0xFFFFFFFF)
        number >>= WORD
    return [word - (1 << WORD) if word >> (WORD - 1) else word for word in words]


def to_array(rows: Sequence[Sequence[int]], width: int) -> NDArray[np.int32]:
    packed = np.zeros((len(rows), width), dtype=np.int32)
    for place, row in enumerate(rows):
        packed[place, : len(row)] = row
    return packed


def bits_of(code: int, bits: int) -> list[int]:
    return [(int(code) >> place) & 1 for place in range(bits)]


def pack_stream(codes: Codes, bits: int) -> NDArray[np.int32]:
    """Codes of a row one after the other, without a gap."""
    rows = [as_words(bit for code in row for bit in bits_of(code, bits)) for row in codes]
    return to_array(rows, -(-codes.shape[1] * bits // WORD))


def pack_planes(codes: Codes, bits: int) -> NDArray[np.int32]:
    """Every 32 codes: their lowest 4 (or 2) bits, then 2 more, then the last one."""
    planes = {3: (2, 1), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1)}.get(bits, (bits,))
    rows = []
    for row in codes:
        string: list[int] = []
        for start in range(0, len(row), WORD):
            taken = 0
            for width in planes:
                for code in row[start : start + WORD]:
                    string += bits_of(code, bits)[taken : taken + width]
                taken += width
        rows.append(as_words(string))
    return to_array(rows, codes.shape[1] * bits // WORD)


def pack_awq(codes: Codes) -> NDArray[np.int32]:
    """Eight codes a word; the lowest nibble is the first of `AWQ_ORDER`."""
    ordered = [
        [row[start + place] for start in range(0, len(row), 8) for place in AWQ_ORDER]
        for row in codes
    ]
    return pack_stream(np.array(ordered), 4)


def pack_row_parts(
    codes: Codes, bits: int, count: int, *, high_first: bool, dtype: type
) -> NDArray[np.generic]:
    """Rows cut into ``count`` parts on top of each other; what is missing is 0."""
    num_rows, num_cols = codes.shape
    step = -(-num_rows // count)
    packed = np.zeros((step, num_cols), dtype=np.int64)
    for row, col in np.ndindex(codes.shape):
        part = row // step
        place = count - 1 - part if high_first else part
        packed[row % step, col] += int(codes[row, col]) << (bits * place)
    return packed.astype(dtype)
