"""Unpacking, against strings of bits."""

import numpy as np
import pytest
import torch

from altgrad_inspect.checkpoints.schemes.unpack import (
    fields_in_stream,
    fields_in_words,
    nibbles_high_first,
    nibbles_low_first,
)

EVERY_BYTE = torch.arange(256, dtype=torch.uint8).reshape(2, 128)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.float8_e4m3fn])
def test_nibbles(dtype: torch.dtype) -> None:
    digits = [f"{byte:02x}" for byte in range(256)]  # the high nibble first
    high = [int(digit, 16) for pair in digits for digit in pair]
    low = [int(digit, 16) for pair in digits for digit in reversed(pair)]
    assert nibbles_high_first(EVERY_BYTE.view(dtype)).flatten().tolist() == high
    assert nibbles_low_first(EVERY_BYTE.view(dtype)).flatten().tolist() == low
    assert nibbles_low_first(EVERY_BYTE).shape == (2, 256)


def string_of_bits(word: int) -> str:
    """The 32 bits of a word, the lowest one first."""
    return f"{word & 0xFFFFFFFF:032b}"[::-1]


def cut(text: str, bits: int) -> list[int]:
    """The whole fields of a string of bits."""
    starts = range(0, len(text) - bits + 1, bits)
    return [int(text[start : start + bits][::-1], 2) for start in starts]


@pytest.fixture
def words() -> torch.Tensor:
    """Random words and those with lone and missing bits."""
    draw = np.random.default_rng(0)
    rows = draw.integers(-(2**31), 2**31, size=(5, 7)).astype(np.int32)
    rows[0] = [-1, 0, -(2**31), 1, 2**31 - 1, -2, 0x55555555]
    return torch.from_numpy(rows)


@pytest.mark.parametrize("bits", range(1, 9))
def test_words_and_streams(words: torch.Tensor, bits: int) -> None:
    in_words, in_stream = fields_in_words(words, bits=bits), fields_in_stream(words, bits=bits)
    for row, found_words, found_stream in zip(words.tolist(), in_words, in_stream, strict=True):
        texts = [string_of_bits(word) for word in row]
        assert found_words.tolist() == [field for text in texts for field in cut(text, bits)]
        assert found_stream.tolist() == cut("".join(texts), bits)
    if 32 % bits == 0:
        assert torch.equal(in_words, in_stream)
