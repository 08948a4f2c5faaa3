"""The header of a safetensors file, read strictly.

A file is a little-endian length N (8 bytes), N bytes of JSON, then the tensors. What the
safetensors library (0.8) accepts is accepted and what it refuses is refused, except:

* A key that appears twice in one object is refused; the library keeps the last.
* A blank before the ``{`` is refused, as the format's description has it.
* A tensor must be described by an object and its dtype by a string; the library also takes
  ``["F32", [1], [0, 4]]`` and ``{"F32": null}``.
* Files over our limits (header bytes, tensors, dimensions of a tensor, values) are refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType
from typing import Final, NamedTuple, NoReturn

from altgrad_inspect.checkpoints.json_scanner import ScanError, Scanner
from altgrad_inspect.checkpoints.sniff import NUM_SNIFFED_BYTES, sniff_content
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import HeaderError
from altgrad_inspect.storage.reader import RangeReader

LARGEST_HEADER_BYTES: Final = 100_000_000
"""The format allows no larger header."""

MAX_HEADER_BYTES: Final = 25_000_000
MAX_TENSORS: Final = 200_000
MAX_DIMENSIONS: Final = 1024

_DTYPES_BY_BITS: Final = (
    (4, "F4"),
    (6, "F6_E2M3 F6_E3M2"),
    (8, "BOOL U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ"),
    (16, "I16 U16 F16 BF16"),
    (32, "I32 U32 F32"),
    (64, "C64 F64 I64 U64"),
)

DTYPE_BITS: Final[Mapping[str, int]] = MappingProxyType(
    {dtype: bits for bits, dtypes in _DTYPES_BY_BITS for dtype in dtypes.split()}
)
"""Every dtype of the format and its bits an element."""

_LENGTH_BYTES: Final = 8
_LARGEST_SIZE: Final = (1 << 64) - 1
_LARGEST_DIGITS: Final = 20
_TOKENS_PER_TENSOR: Final = 4
_USUAL_DIMENSIONS: Final = 8
_SHOWN_NAME: Final = 80

_B: Final = r"[ \t\n\r]*+"
_WHOLE: Final = r"(?:0|[1-9][0-9]{0,19}+)"
# One tensor as every writer spells it: three fields in any order, no escapes.
_PLAIN_ENTRY: Final = re.compile(
    rf'{_B}"(?P<name>[^"\\\x00-\x1f]*+)"{_B}:{_B}\{{{_B}'
    rf'(?:(?:"dtype"{_B}:{_B}"(?P<dtype>[A-Z0-9_]++)"'
    rf'|"shape"{_B}:{_B}\[(?P<shape>[0-9, \t\n\r]*+)\]'
    rf'|"data_offsets"{_B}:{_B}\[{_B}(?P<start>{_WHOLE}){_B},{_B}(?P<end>{_WHOLE}){_B}\]'
    rf'){_B}(?:,{_B}(?=")|(?=\}}))){{3}}\}}{_B}'
)
_SHAPE: Final = re.compile(rf"{_B}(?:{_WHOLE}{_B}(?:,{_B}{_WHOLE}{_B})*+)?+")


class TensorEntry(NamedTuple):
    """One tensor as the header describes it; offsets count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A valid header.

    Attributes:
        tensors: By name, in the order of the file.
        metadata: The file's own notes.
        num_header_bytes: Where the tensors begin in the file.
        digest: Of the header's bytes.
    """

    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]
    num_header_bytes: int
    digest: str


def read_header(
    reader: RangeReader, *, max_bytes: int = MAX_HEADER_BYTES, max_tensors: int = MAX_TENSORS
) -> Header:
    """Read and check the header of a safetensors file.

    Args:
        reader: The open file.
        max_bytes: Larger headers are refused; at most `LARGEST_HEADER_BYTES`.
        max_tensors: Headers with more tensors are refused.

    Raises:
        HeaderError: A rule of the format is broken; the message says which, and what the
            file seems to be instead.
        CheckpointError: The file cannot be read.
    """
    subject = display_name(str(reader.file.path))
    try:
        header = _read_header_bytes(reader, subject, max_bytes=max_bytes)
        parsed = parse_header(header, subject=subject, max_tensors=max_tensors)
    except HeaderError as error:
        head = reader.read(0, min(NUM_SNIFFED_BYTES, reader.size_bytes))
        seen = sniff_content(head)
        if seen is None:
            raise
        what, advice = seen
        msg = f"{subject}: {what}, expected a safetensors file ({advice})"
        raise HeaderError(msg) from error
    _require_full_coverage(parsed, reader.size_bytes, subject)
    return parsed


def parse_header(header: bytes, *, subject: str, max_tensors: int = MAX_TENSORS) -> Header:
    """Parse the JSON of a header and check everything but the size of the file.

    Args:
        header: The JSON, without the eight bytes of its length.
        subject: What the messages begin with.
        max_tensors: Headers with more tensors are refused.

    Raises:
        HeaderError: A rule of the format is broken.
    """
    try:
        text = header.decode()
    except UnicodeDecodeError as error:
        _fail(subject, f"the header is not UTF-8 at byte {error.start}", cause=error)
    parser = _Parser(text, max_tensors=max_tensors)
    try:
        parser.parse()
        _check_layout(parser.tensors)
    except ScanError as error:
        _fail(subject, str(error), cause=error)
    return Header(
        tensors=MappingProxyType(parser.tensors),
        metadata=MappingProxyType(parser.metadata or {}),
        num_header_bytes=_LENGTH_BYTES + len(header),
        digest=blake2b(header, digest_size=16).hexdigest(),
    )


def _read_header_bytes(reader: RangeReader, subject: str, *, max_bytes: int) -> bytes:
    size = reader.size_bytes
    if size < _LENGTH_BYTES:
        what = "is empty" if size == 0 else f"has only {size} bytes"
        _fail(subject, what, "at least 10 bytes", "it is still being written, or copy it again")
    num_bytes = int.from_bytes(reader.read(0, _LENGTH_BYTES), "little")
    if num_bytes > LARGEST_HEADER_BYTES:
        _fail(subject, f"its first 8 bytes ask for a header of {num_bytes} bytes")
    if num_bytes > size - _LENGTH_BYTES:
        what = f"is truncated in its header: {size} bytes"
        expected = f"at least {num_bytes + _LENGTH_BYTES}"
        _fail(subject, what, expected, "it is still being written, or copy it again")
    if num_bytes > max_bytes:
        what = f"its header has {num_bytes} bytes"
        _fail(subject, what, f"at most {max_bytes}", "no real checkpoint needs more")
    return reader.read(_LENGTH_BYTES, num_bytes)


def _require_full_coverage(header: Header, size_bytes: int, subject: str) -> None:
    data_end = max((entry.end for entry in header.tensors.values()), default=0)
    needed = header.num_header_bytes + data_end
    if size_bytes < needed:
        what = f"is truncated: {size_bytes} bytes"
        advice = "it is still being written, or copy it again"
        _fail(subject, what, f"{needed} by its header", advice)
    if size_bytes > needed:
        what = f"has {size_bytes - needed} bytes after its last tensor: {size_bytes} bytes"
        _fail(subject, what, f"{needed} by its header")


class _Parser:
    """Reads entries with one regular expression each, and by token where that fails."""

    def __init__(self, text: str, *, max_tensors: int) -> None:
        self.tensors: dict[str, TensorEntry] = {}
        self.metadata: dict[str, str] | None = None
        self._max_tensors = max_tensors
        self._has_metadata = False
        self._scanner = Scanner(text, budget=_TOKENS_PER_TENSOR * max(max_tensors, 1))

    def parse(self) -> None:
        scanner = self._scanner
        if not scanner.text.startswith("{"):
            msg = "its header does not begin with '{'"
            raise ScanError(msg)
        scanner.position = 1
        if not scanner.accept("}"):
            self._parse_entry()
            while scanner.accept(","):
                self._parse_entry()
            scanner.expect("}")
        if scanner.peek():
            msg = f"its header goes on after the closing '}}', at character {scanner.position}"
            raise ScanError(msg)

    def _parse_entry(self) -> None:
        scanner = self._scanner
        plain = _PLAIN_ENTRY.match(scanner.text, scanner.position)
        if plain is not None:
            name, dtype, shape, start, end = plain.group("name", "dtype", "shape", "start", "end")
            sizes = _read_plain_shape(shape) if dtype and shape is not None and start else None
            if sizes is not None and name != "__metadata__":
                if len(sizes) > _USUAL_DIMENSIONS:
                    scanner.charge(len(sizes))
                scanner.position = plain.end()
                self._add(name, TensorEntry(dtype, sizes, int(start), int(end)))
                return
        name = scanner.read_text()
        scanner.expect(":")
        if name == "__metadata__":
            self._parse_metadata()
        else:
            self._add(name, _parse_tensor(scanner, name))

    def _add(self, name: str, entry: TensorEntry) -> None:
        if name in self.tensors:
            msg = f"tensor {_shown(name)} appears twice"
            raise ScanError(msg)
        if len(self.tensors) >= self._max_tensors:
            msg = f"it holds more than {self._max_tensors} tensors"
            raise ScanError(msg)
        self.tensors[name] = entry

    def _parse_metadata(self) -> None:
        scanner = self._scanner
        if self._has_metadata:
            msg = "__metadata__ appears twice"
            raise ScanError(msg)
        self._has_metadata = True
        if scanner.peek() == "n":
            scanner.skip_value(depth=1)
            return
        self.metadata = {}
        scanner.expect("{")
        if scanner.accept("}"):
            return
        while True:
            key = scanner.read_text()
            if key in self.metadata:
                msg = f"__metadata__ has the key {_shown(key)} twice"
                raise ScanError(msg)
            scanner.expect(":")
            self.metadata[key] = scanner.read_text()
            if not scanner.accept(","):
                scanner.expect("}")
                return


@lru_cache(maxsize=4096)
def _read_plain_shape(written: str) -> tuple[int, ...] | None:
    if written.count(",") >= MAX_DIMENSIONS or _SHAPE.fullmatch(written) is None:
        return None
    sizes = tuple(int(size) for size in written.split(",")) if written.strip() else ()
    return sizes if max(sizes, default=0) <= _LARGEST_SIZE else None


def _parse_tensor(scanner: Scanner, name: str) -> TensorEntry:
    scanner.expect("{")
    dtype: str | None = None
    sizes: dict[str, tuple[int, ...]] = {}
    seen: set[str] = set()
    more = not scanner.accept("}")
    while more:
        field = scanner.read_text()
        if field in seen:
            msg = f"tensor {_shown(name)} has the field {_shown(field)} twice"
            raise ScanError(msg)
        seen.add(field)
        scanner.expect(":")
        if field == "dtype":
            dtype = scanner.read_text()
        elif field in {"shape", "data_offsets"}:
            sizes[field] = _parse_sizes(scanner, f"{field} of tensor {_shown(name)}")
        else:
            scanner.skip_value(depth=2)
        more = scanner.accept(",")
        if not more:
            scanner.expect("}")
    offsets = sizes.get("data_offsets", ())
    if dtype is None or "shape" not in sizes or len(offsets) != 2:
        msg = f"tensor {_shown(name)} lacks a dtype, a shape or two data_offsets"
        raise ScanError(msg)
    return TensorEntry(dtype, sizes["shape"], *offsets)


def _parse_sizes(scanner: Scanner, what: str) -> tuple[int, ...]:
    scanner.expect("[")
    found: list[int] = []
    more = not scanner.accept("]")
    while more:
        written = scanner.read_number()
        is_size = written.isdecimal() and len(written) <= _LARGEST_DIGITS
        if not is_size or int(written) > _LARGEST_SIZE:
            msg = f"'{display_name(written, limit=40)}' in the {what} is no whole number below 2^64"
            raise ScanError(msg)
        if len(found) == MAX_DIMENSIONS:
            msg = f"the {what} has more than {MAX_DIMENSIONS} numbers"
            raise ScanError(msg)
        found.append(int(written))
        more = scanner.accept(",")
        if not more:
            scanner.expect("]")
    return tuple(found)


def _check_layout(tensors: Mapping[str, TensorEntry]) -> None:
    """Require known dtypes, sizes that fit, and no byte left out or used twice."""
    position = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != position or entry.end < entry.start:
            kind = "overlaps" if entry.start < position else "leaves a hole after"
            if entry.end < entry.start:
                kind = "ends before its start, in or after"
            msg = f"tensor {_shown(name)} at bytes {entry.start} to {entry.end} {kind} the others"
            raise ScanError(msg)
        needed = _num_tensor_bytes(name, entry)
        if entry.end - entry.start != needed:
            msg = (
                f"tensor {_shown(name)} takes {entry.end - entry.start} bytes, its dtype and "
                f"shape need {needed}"
            )
            raise ScanError(msg)
        position = entry.end


def _num_tensor_bytes(name: str, entry: TensorEntry) -> int:
    bits = DTYPE_BITS.get(entry.dtype)
    if bits is None:
        msg = f"tensor {_shown(name)} has the unknown dtype {_shown(entry.dtype)}"
        raise ScanError(msg)
    # The order of the products matters: a zero later does not undo an overflow.
    count = 1
    for size in entry.shape:
        count *= size
        if count > _LARGEST_SIZE:
            break
    if count * bits > _LARGEST_SIZE:
        msg = f"tensor {_shown(name)} has more elements than fit in 64 bits"
        raise ScanError(msg)
    if count * bits % 8:
        msg = f"tensor {_shown(name)} has {count} elements of {bits} bits, no whole bytes"
        raise ScanError(msg)
    return count * bits // 8


def _shown(name: str) -> str:
    return f"'{display_name(name, limit=_SHOWN_NAME)}'"


def _fail(
    subject: str,
    what: str,
    expected: str = "a valid safetensors file",
    advice: str = "it is damaged or no safetensors file: copy or save it again",
    *,
    cause: Exception | None = None,
) -> NoReturn:
    msg = f"{subject}: {what}, expected {expected} ({advice})"
    raise HeaderError(msg) from cause
