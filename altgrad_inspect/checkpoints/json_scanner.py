"""A strict JSON scanner over one text, with a budget so that no input is expensive.

``json.loads`` is not used for headers: it keeps the last of two equal keys, reads ``4e0``
and ``-0`` as numbers like any other, accepts lone surrogates, and builds gigabytes of
objects from a few megabytes of ``[],[],``.
"""

import math
import re
from json import JSONDecoder
from typing import Final

MAX_DEPTH: Final = 127
"""Arrays and objects inside each other, the outermost included, as safetensors counts them."""

_MAX_NUMBER_CHARACTERS: Final = 1000
_BLANK: Final = re.compile(r"[ \t\n\r]*+")
_NUMBER: Final = re.compile(r"-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+")
_WORDS: Final = ("true", "false", "null")
_DECODER: Final = JSONDecoder()


class ScanError(ValueError):
    """The text is not JSON, breaks a rule of the caller, or costs more than the budget."""


class Scanner:
    """A position in a text that moves forward token by token.

    Args:
        text: What to scan.
        budget: Tokens that may be scanned, at least 1.
    """

    def __init__(self, text: str, *, budget: int) -> None:
        self.text = text
        self.position = 0
        self._budget = budget

    def charge(self, num_tokens: int) -> None:
        """Take ``num_tokens`` from the budget."""
        self._budget -= num_tokens
        if self._budget < 0:
            msg = "it holds more values than any real checkpoint"
            raise ScanError(msg)

    def peek(self) -> str:
        """Skip blanks and return the next character, the empty text at the end."""
        match = _BLANK.match(self.text, self.position)
        self.position = match.end() if match else self.position
        return self.text[self.position : self.position + 1]

    def accept(self, character: str) -> bool:
        """Skip blanks, and ``character`` if it is next; say whether it was."""
        if self.peek() != character:
            return False
        self.position += 1
        return True

    def expect(self, character: str) -> None:
        """Skip blanks and ``character``, which must be next."""
        self.charge(1)
        if not self.accept(character):
            msg = f"{self._next()} at character {self.position}, where {character!r} belongs"
            raise ScanError(msg)

    def read_text(self) -> str:
        """Read a string that can be written as UTF-8."""
        self.expect('"')
        start = self.position - 1
        try:
            found, self.position = _DECODER.raw_decode(self.text, start)
            found.encode()
        except UnicodeEncodeError as error:
            msg = f"the string at character {start} has half a surrogate pair"
            raise ScanError(msg) from error
        except ValueError as error:
            msg = f"the string at character {start} is not valid JSON"
            raise ScanError(msg) from error
        return str(found)

    def read_number(self) -> str:
        """Read a number and return how it is written."""
        self.charge(1)
        self.peek()
        match = _NUMBER.match(self.text, self.position)
        if match is None:
            msg = f"{self._next()} at character {self.position}, where a number belongs"
            raise ScanError(msg)
        written = match.group()
        too_long = len(written) > _MAX_NUMBER_CHARACTERS
        if too_long or math.isinf(float(written)):
            msg = f"the number at character {self.position} is out of range"
            raise ScanError(msg)
        self.position = match.end()
        return written

    def skip_value(self, *, depth: int) -> None:
        """Skip one value of any kind, at ``depth`` arrays or objects inside the text.

        Two equal keys of one object are refused.
        """
        open_keys: list[set[str] | None] = []  # one a container: its keys, None for an array
        while True:
            if self._open_container(open_keys, depth):
                continue
            while open_keys and self._close_container(open_keys):
                pass
            if not open_keys:
                return

    def _open_container(self, open_keys: list[set[str] | None], depth: int) -> bool:
        """Read up to the first value of a container; False after a complete value."""
        character = self.peek()
        if not character or character not in "{[":
            self._skip_scalar(character)
            return False
        self.expect(character)
        if depth + len(open_keys) >= MAX_DEPTH:
            msg = f"more than {MAX_DEPTH} arrays and objects inside each other"
            raise ScanError(msg)
        if self.accept("}" if character == "{" else "]"):
            return False
        keys: set[str] | None = set() if character == "{" else None
        open_keys.append(keys)
        if keys is not None:
            self._read_key(keys)
        return True

    def _close_container(self, open_keys: list[set[str] | None]) -> bool:
        """After a value: True if its container ended too, False before the next value."""
        keys = open_keys[-1]
        if self.accept(","):
            if keys is not None:
                self._read_key(keys)
            return False
        self.expect("]" if keys is None else "}")
        open_keys.pop()
        return True

    def _read_key(self, keys: set[str]) -> None:
        key = self.read_text()
        if key in keys:
            msg = f"the key at character {self.position} appears twice"
            raise ScanError(msg)
        keys.add(key)
        self.expect(":")

    def _skip_scalar(self, character: str) -> None:
        if character == '"':
            self.read_text()
            return
        self.charge(1)
        for word in _WORDS:
            if self.text.startswith(word, self.position):
                self.position += len(word)
                return
        self.read_number()

    def _next(self) -> str:
        found = self.text[self.position : self.position + 1]
        return repr(found) if found else "the end"
