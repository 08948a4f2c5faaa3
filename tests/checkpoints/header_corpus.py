"""Safetensors files of every kind we could think of: valid, hostile, malformed, foreign.

A case is (name, bytes of the file, None if it must be read, else a part of the message).
"""

import json
import struct
from collections.abc import Mapping
from typing import Final

Case = tuple[str, bytes, str | None]

_ONE: Final = '"dtype":"U8","shape":[1],"data_offsets":[0,1]'
DTYPES: Final = {
    "F4": 4,
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("C64", "F64", "I64", "U64"), 64),
}


def build_file(header: str | bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    """Put the length of the header before it and the data after it."""
    encoded = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(encoded) if length is None else length) + encoded + data


def describe(dtype: str, shape: list[int], start: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def build(tensors: Mapping[str, object], num_bytes: int) -> bytes:
    return build_file(json.dumps(tensors), bytes(num_bytes))


def one(fields: str, num_bytes: int = 1) -> bytes:
    return build_file(f'{{"a":{{{fields}}}}}', bytes(num_bytes))


def two(second: dict[str, object], num_bytes: int) -> bytes:
    return build({"a": describe("U8", [4], 0, 4), "b": second}, num_bytes)


def sized(shape: str, dtype: str = "U8") -> bytes:
    return one(f'"dtype":"{dtype}","shape":{shape},"data_offsets":[0,1]')


def offset(offsets: str) -> bytes:
    return one(f'"dtype":"U8","shape":[1],"data_offsets":{offsets}')


def extra(value: str) -> bytes:
    return one(f'{_ONE},"x":{value}')


HOSTILE_NAMES: Final = {
    "empty": "",
    "nul": "\0",
    "escape": "\x1b[31mred\x1b[0m",
    "title": "\x1b]0;title\x07",
    "c1": "\x9b31m",
    "newline": "a\nb",
    "path": "../../etc/passwd",
    "html": "<script>alert(1)</script>",
    "markup": "[red]a[/red]",
    "override": "\u202egnp.exe",
    "quote": 'a"b\\c',
    "astral": "\U0001f600",
    "long": "n" * 100_000,
    "formula": "=1+1",
}

VALID: Final[list[Case]] = [
    *(
        (f"dtype-{dtype}", build({"a": describe(dtype, [8], 0, bits)}, bits), None)
        for dtype, bits in DTYPES.items()
    ),
    *(
        (f"name-{label}", build({name: describe("U8", [1], 0, 1)}, 1), None)
        for label, name in HOSTILE_NAMES.items()
    ),
    ("no-tensors", build_file("{}"), None),
    ("only-metadata", build_file('{"__metadata__":{"format":"pt"}}'), None),
    ("metadata-null", build_file('{"__metadata__":null}'), None),
    ("metadata-empty", build_file('{"__metadata__":{}}'), None),
    ("metadata-last", build_file(f'{{"a":{{{_ONE}}},"__metadata__":{{"k":"v"}}}}', b"1"), None),
    ("metadata-escaped-key", build_file('{"__metad\\u0061ta__":{"k":"v"}}'), None),
    ("scalar", build({"a": describe("F32", [], 0, 4)}, 4), None),
    ("zero-size", build({"a": describe("F32", [0], 0, 0)}, 0), None),
    ("zero-size-between", two(describe("F32", [3, 0], 4, 4), 4), None),
    ("zero-by-large", build({"a": describe("U8", [0, 1 << 62], 0, 0)}, 0), None),
    ("zero-by-largest", build({"a": describe("U8", [0, (1 << 64) - 1], 0, 0)}, 0), None),
    ("rank-300", build({"a": describe("U8", [1] * 300, 0, 1)}, 1), None),
    ("unaligned", two(describe("F32", [1], 4, 8), 8), None),
    (
        "odd-offset",
        build({"a": describe("U8", [3], 0, 3), "b": describe("F64", [1], 3, 11)}, 11),
        None,
    ),
    ("nan", build_file(json.dumps({"a": describe("F32", [1], 0, 4)}), b"\0\0\xc0\x7f"), None),
    ("bool-two", build_file(json.dumps({"a": describe("BOOL", [2], 0, 2)}), b"\1\2"), None),
    (
        "order-of-file",
        build({"b": describe("U8", [2], 2, 4), "a": describe("U8", [2], 0, 2)}, 4),
        None,
    ),
    ("trailing-blanks", build_file('{"a":{' + _ONE + "}} \n\r\t", b"1"), None),
    (
        "blanks-inside",
        build_file('{ "a" : {\n\t' + _ONE.replace(":", " : ") + "\r} } ", b"1"),
        None,
    ),
    (
        "fields-in-other-order",
        one('"shape":[1],"data_offsets":[0,1],"dtype":"U8"'),
        None,
    ),
    ("escaped-field", one(_ONE.replace("dtype", "dt\\u0079pe")), None),
    ("escaped-dtype", one(_ONE.replace("U8", "\\u00558")), None),
    ("surrogate-pair", build_file('{"\\ud83d\\ude00":{' + _ONE + "}}", b"1"), None),
    ("extra-text", extra('"y"'), None),
    ("extra-nested", extra('[1.5E+3,{"y":[true,false,null,{}]},-0,[]]'), None),
    ("extra-depth-limit", extra("[" * 125 + "]" * 125), None),
    ("extra-tiny-number", extra("1e-400"), None),
    ("f4-in-whole-bytes", build({"a": describe("F4", [2, 3], 0, 3)}, 3), None),
    ("f6-in-whole-bytes", build({"a": describe("F6_E2M3", [4], 0, 3)}, 3), None),
    ("del-in-name", build_file(b'{"\x7f":{' + _ONE.encode() + b"}}", b"1"), None),
]

LENGTH: Final[list[Case]] = [
    ("empty-file", b"", "is empty"),
    ("seven-bytes", b"\2\0\0\0\0\0\0", "has only 7 bytes"),
    ("only-a-length", struct.pack("<Q", 2), "truncated in its header"),
    ("length-zero", struct.pack("<Q", 0), "nothing but zeros"),
    ("length-zero-then-data", struct.pack("<Q", 0) + b"xyz", "does not begin with"),
    ("length-over-file", build_file("{}", length=100), "is truncated in its header: 10 bytes"),
    ("length-over-limit", build_file("{}", length=100_000_001), "a header of 100000001 bytes"),
    ("length-largest", build_file("{}", length=(1 << 64) - 1), "a header of 18446744073709551615"),
    ("length-short", build_file('{"a":{' + _ONE + "}}", b"1", length=19), "the end"),
    ("length-long", build_file("{}", b"abc", length=4), "goes on after the closing"),
    ("length-over-soft-limit", build_file(b"{" + b" " * 25_000_000 + b"}"), "at most 25000000"),
    ("big-endian", struct.pack(">Q", 2) + b"{}", "a header of"),
]

JSON: Final[list[Case]] = [
    ("leading-blank", build_file(" {}"), "does not begin with"),
    ("leading-newline", build_file("\n{}"), "does not begin with"),
    ("bom", build_file(b"\xef\xbb\xbf{}"), "does not begin with"),
    ("list", build_file("[]"), "does not begin with"),
    ("null", build_file("null"), "does not begin with"),
    ("only-text", build_file('"a"'), "does not begin with"),
    ("nul-padding", build_file(b"{}\0\0"), "goes on after the closing"),
    ("two-objects", build_file("{}{}"), "goes on after the closing"),
    ("vertical-tab", build_file("{}\x0b"), "goes on after the closing"),
    ("no-break-space", build_file("{}\u00a0"), "goes on after the closing"),
    ("open-object", build_file("{"), "the end"),
    ("open-text", build_file('{"a'), "not valid JSON"),
    ("trailing-comma", build_file('{"a":{' + _ONE + "},}", b"1"), "'\"' belongs"),
    ("trailing-comma-inside", one(_ONE + ","), "'\"' belongs"),
    ("leading-comma", build_file("{,}"), "'\"' belongs"),
    ("no-colon", build_file('{"a"{' + _ONE + "}}", b"1"), "':' belongs"),
    ("no-comma", build_file('{"a":{' + _ONE + '}"b":{}}', b"1"), "'}' belongs"),
    ("single-quotes", build_file("{'a':1}"), "'\"' belongs"),
    ("comment", build_file("{/**/}"), "'\"' belongs"),
    ("bare-key", build_file("{a:1}"), "'\"' belongs"),
    ("utf8-invalid", build_file(b'{"\xff":{}}'), "not UTF-8 at byte 2"),
    ("utf8-overlong", build_file(b'{"\xc0\xaf":{}}'), "not UTF-8"),
    ("utf8-surrogate", build_file(b'{"\xed\xa0\x80":{}}'), "not UTF-8"),
    ("utf16", build_file('{"a":{}}'.encode("utf-16-le")), "'\"' belongs"),
    ("lone-surrogate", build_file('{"\\ud800":{' + _ONE + "}}", b"1"), "half a surrogate pair"),
    ("low-surrogate", build_file('{"\\udc00":{' + _ONE + "}}", b"1"), "half a surrogate pair"),
    ("bad-escape", build_file('{"\\x":{' + _ONE + "}}", b"1"), "not valid JSON"),
    ("bad-unicode-escape", build_file('{"\\u00g0":{' + _ONE + "}}", b"1"), "not valid JSON"),
    ("control-in-text", build_file('{"a\nb":{' + _ONE + "}}", b"1"), "not valid JSON"),
    ("extra-nan", extra("NaN"), "a number belongs"),
    ("extra-infinity", extra("-Infinity"), "a number belongs"),
    ("extra-overflow", extra("1e999"), "out of range"),
    ("extra-many-digits", extra("9" * 2000), "out of range"),
    ("extra-leading-zero", extra("01"), "'}' belongs"),
    ("extra-plus", extra("+1"), "a number belongs"),
    ("extra-word", extra("tru"), "a number belongs"),
    ("extra-deep", extra("[" * 126 + "]" * 126), "more than 127"),
    ("extra-very-deep", extra("[" * 100_000), "more than 127"),
    ("extra-open", extra("[1"), "']' belongs"),
    ("extra-mismatch", extra("[1}"), "']' belongs"),
    ("extra-key", extra("{1:2}"), "'\"' belongs"),
]

DUPLICATES: Final[list[Case]] = [
    ("tensor-twice", build_file(f'{{"a":{{{_ONE}}},"a":{{{_ONE}}}}}', b"1"), "'a' appears twice"),
    (
        "tensor-twice-escaped",
        build_file(f'{{"a":{{{_ONE}}},"\\u0061":{{{_ONE}}}}}', b"1"),
        "'a' appears twice",
    ),
    ("metadata-twice", build_file('{"__metadata__":{},"__metadata__":{}}'), "appears twice"),
    ("metadata-null-twice", build_file('{"__metadata__":null,"__metadata__":null}'), "twice"),
    ("metadata-key-twice", build_file('{"__metadata__":{"k":"a","k":"b"}}'), "the key 'k' twice"),
    ("dtype-twice", one(_ONE + ',"dtype":"U8"'), "the field 'dtype' twice"),
    ("shape-twice", one(_ONE + ',"shape":[1]'), "the field 'shape' twice"),
    ("offsets-twice", one(_ONE + ',"data_offsets":[0,1]'), "the field 'data_offsets' twice"),
    ("dtype-for-shape", one('"dtype":"U8","dtype":"U8","data_offsets":[0,1]'), "'dtype' twice"),
    ("extra-twice", one(_ONE + ',"x":1,"x":1'), "the field 'x' twice"),
    ("extra-nested-twice", extra('{"y":1,"y":2}'), "appears twice"),
]

ENTRIES: Final[list[Case]] = [
    ("tensor-null", build_file('{"a":null}'), "'{' belongs"),
    ("tensor-number", build_file('{"a":1}'), "'{' belongs"),
    ("tensor-list", build_file('{"a":["U8",[1],[0,1]]}', b"1"), "'{' belongs"),
    ("tensor-empty", build_file('{"a":{}}'), "lacks a dtype"),
    ("no-dtype", one('"shape":[1],"data_offsets":[0,1]'), "lacks a dtype"),
    ("no-shape", one('"dtype":"U8","data_offsets":[0,1]'), "lacks a dtype"),
    ("no-offsets", one('"dtype":"U8","shape":[1]'), "lacks a dtype"),
    ("metadata-list", build_file('{"__metadata__":[]}'), "'{' belongs"),
    ("metadata-number", build_file('{"__metadata__":{"k":1}}'), "'\"' belongs"),
    ("metadata-nested", build_file('{"__metadata__":{"k":{}}}'), "'\"' belongs"),
    ("metadata-as-tensor", build_file(f'{{"__metadata__":{{{_ONE}}}}}', b"1"), "'\"' belongs"),
    ("dtype-unknown", sized("[1]", "F7"), "unknown dtype 'F7'"),
    ("dtype-lower", sized("[1]", "u8"), "unknown dtype 'u8'"),
    ("dtype-empty", sized("[1]", ""), "unknown dtype ''"),
    ("dtype-torch", sized("[1]", "float32"), "unknown dtype 'float32'"),
    ("dtype-c128", sized("[1]", "C128"), "unknown dtype 'C128'"),
    ("dtype-escape", sized("[1]", "\\u001b[31m"), "unknown dtype '\\x1b[31m'"),
    ("dtype-number", one('"dtype":1,"shape":[1],"data_offsets":[0,1]'), "'\"' belongs"),
    ("dtype-object", one('"dtype":{"U8":null},"shape":[1],"data_offsets":[0,1]'), "'\"' belongs"),
    ("shape-float", sized("[1.0]"), "'1.0' in the shape"),
    ("shape-exponent", sized("[1e0]"), "'1e0' in the shape"),
    ("shape-negative", sized("[-1]"), "'-1' in the shape"),
    ("shape-minus-zero", sized("[-0]"), "'-0' in the shape"),
    ("shape-bool", sized("[true]"), "a number belongs"),
    ("shape-null", sized("null"), "'[' belongs"),
    ("shape-number", sized("1"), "'[' belongs"),
    ("shape-text", sized('["1"]'), "a number belongs"),
    ("shape-nested", sized("[[1]]"), "a number belongs"),
    ("shape-object", sized("{}"), "'[' belongs"),
    ("shape-over-u64", sized("[18446744073709551616]"), "below 2^64"),
    ("shape-zero-over-u64", sized("[0,18446744073709551616]"), "below 2^64"),
    ("shape-huge", sized("[" + "9" * 5000 + "]"), "out of range"),
    ("shape-leading-zero", sized("[01]"), "']' belongs"),
    ("shape-two-in-one", sized("[1 1]"), "']' belongs"),
    ("shape-comma", sized("[1,]"), "a number belongs"),
    ("shape-only-comma", sized("[,]"), "a number belongs"),
    ("shape-open", build_file('{"a":{"dtype":"U8","shape":[1'), "']' belongs"),
    ("shape-1025", sized("[" + ",".join(["1"] * 1025) + "]"), "more than 1024 numbers"),
    ("shape-overflow", sized("[9223372036854775808,4,0]"), "more elements than fit"),
    ("shape-overflow-bits", sized("[4611686018427387904]", "F64"), "more elements than fit"),
    ("shape-wraps-to-one", sized("[4294967296,4294967296]"), "more elements than fit"),
    ("f4-odd", one('"dtype":"F4","shape":[3],"data_offsets":[0,1]'), "no whole bytes"),
    ("f4-scalar", one('"dtype":"F4","shape":[],"data_offsets":[0,1]'), "no whole bytes"),
    ("f6-odd", one('"dtype":"F6_E3M2","shape":[2],"data_offsets":[0,1]'), "no whole bytes"),
]

OFFSETS: Final[list[Case]] = [
    ("offsets-one", offset("[0]"), "two data_offsets"),
    ("offsets-three", offset("[0,1,1]"), "two data_offsets"),
    ("offsets-empty", offset("[]"), "two data_offsets"),
    ("offsets-null", offset("null"), "'[' belongs"),
    ("offsets-float", offset("[0.0,1]"), "'0.0' in the data_offsets"),
    ("offsets-negative", offset("[-1,0]"), "'-1' in the data_offsets"),
    ("offsets-minus-zero", offset("[-0,1]"), "'-0' in the data_offsets"),
    ("offsets-bool", offset("[false,1]"), "a number belongs"),
    ("offsets-text", offset('["0","1"]'), "a number belongs"),
    ("offsets-leading-zero", offset("[00,1]"), "']' belongs"),
    ("offsets-over-u64", offset("[0,18446744073709551617]"), "takes 18446744073709551617"),
    ("offsets-backwards", offset("[1,0]"), "at bytes 1 to 0"),
    ("offsets-backwards-second", two(describe("U8", [0], 4, 3), 4), "ends before its start"),
    ("start-after-zero", offset("[1,2]"), "leaves a hole"),
    ("hole", two(describe("U8", [4], 5, 9), 9), "leaves a hole"),
    ("overlap", two(describe("U8", [4], 3, 7), 7), "overlaps"),
    ("alias", two(describe("U8", [4], 0, 4), 4), "overlaps"),
    ("zero-size-inside", two(describe("U8", [0], 2, 2), 4), "overlaps"),
    ("zero-size-beyond", two(describe("U8", [0], 9, 9), 4), "leaves a hole"),
    ("size-too-small", offset("[0,0]"), "takes 0 bytes, its dtype and shape need 1"),
    ("size-too-large", sized("[0]"), "takes 1 bytes, its dtype and shape need 0"),
    ("dtype-needs-more", two(describe("F32", [4], 4, 8), 8), "need 16"),
    ("offsets-largest", offset("[0,18446744073709551615]"), "takes 18446744073709551615 bytes"),
]

COVERAGE: Final[list[Case]] = [
    ("truncated-by-one", build({"a": describe("U8", [9], 0, 9)}, 8), "is truncated"),
    ("truncated-data", build({"a": describe("F32", [900], 0, 3600)}, 0), "is truncated"),
    ("trailing-byte", build({"a": describe("U8", [9], 0, 9)}, 10), "has 1 bytes after its last"),
    ("trailing-zip", one(_ONE, 1) + b"PK\x03\x04", "has 4 bytes after its last"),
    ("data-without-tensors", build_file("{}", b"abc"), "has 3 bytes after its last"),
]

FOREIGN: Final[list[Case]] = [
    (
        "git-lfs",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
        "Git-LFS pointer",
    ),
    ("html", b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    ("html-blank", b"\n\n  <HTML><head></head></HTML>", "web page"),
    ("xml", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "web page"),
    ("json-error", b'{"error": "Repository not found", "code": 404}', "JSON text"),
    ("pickle-2", b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.", "is a pickle"),
    ("pickle-5", b"\x80\x05\x95\x0a\x00\x00\x00\x00\x00\x00\x00}\x94.", "is a pickle"),
    ("torch-zip", b"PK\x03\x04" + bytes(26) + b"archive/data.pkl" + bytes(60), "is a pickle"),
    ("npz", b"PK\x03\x04" + bytes(26) + b"weight.npy" + bytes(60), "numpy archive"),
    ("zip", b"PK\x03\x04" + bytes(26) + b"readme.txt" + bytes(60), "zip archive"),
    ("npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'}", "numpy array"),
    ("gguf", b"GGUF\x03\x00\x00\x00" + bytes(40), "GGUF"),
    ("gzip", b"\x1f\x8b\x08\x00" + bytes(40), "gzip"),
    ("zstd", b"\x28\xb5\x2f\xfd" + bytes(40), "zstd"),
    ("hdf5", b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5"),
    ("parquet", b"PAR1\x15\x04\x15\x10" + bytes(40), "Parquet"),
    ("zeros", bytes(4096), "nothing but zeros"),
    ("text", b"hello, this is not a checkpoint at all", "ask for a header of"),
    # Its length looks like a pickle, and yet it is only cut off.
    ("cut-off-640", build_file('{"a":{' + _ONE + "}}", length=640), "truncated in its header"),
]

CASES: Final = [*VALID, *LENGTH, *JSON, *DUPLICATES, *ENTRIES, *OFFSETS, *COVERAGE, *FOREIGN]
