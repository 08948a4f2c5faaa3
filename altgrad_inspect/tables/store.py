"""Tables on disk: written whole or not at all, and never read back silently wrong.

The footer of a file carries a digest of the whole file, computed with the digest itself set to
zeros, and it is checked before anything is parsed. Pages carry checksums too, for programs that
read the file without us. How files get to disk is ``altgrad_inspect.tables.files``.
"""

import json
from collections.abc import Mapping
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from altgrad_inspect.display import display_name
from altgrad_inspect.errors import OutputError
from altgrad_inspect.tables.files import check_writable, replace_files, write_text
from altgrad_inspect.tables.schema import SCHEMA_VERSION, TABLES

__all__ = ["check_writable", "read_settings", "read_table", "write_tables", "write_text"]

ROWS_PER_GROUP: Final = 65_536

_DIGEST_KEY: Final = b"altgrad.digest"
_DIGEST_BYTES: Final = 32
_NO_DIGEST: Final = b"0" * (2 * _DIGEST_BYTES)
_THRIFT_GAP: Final = 2
"""Bytes between a key and its value in the footer: a field header and a one-byte length."""

_MADE_BY: Final[Mapping[str, str]] = MappingProxyType(
    {"flips": "flips", "ranks": "rank", "trends": "trend", "alerts": "trend"}
)


def _read_program_version() -> str:
    try:
        return version("altgrad-inspect")
    except PackageNotFoundError:  # a checkout that is not installed
        return "0+unknown"


def _digest_position(data: bytes | bytearray) -> int | None:
    key = data.rfind(_DIGEST_KEY)
    start = key + len(_DIGEST_KEY) + _THRIFT_GAP
    return start if key >= 0 and start + len(_NO_DIGEST) <= len(data) else None


def _measure_digest(data: bytes | bytearray, position: int) -> bytes:
    view = memoryview(data)
    digest = blake2b(view[:position], digest_size=_DIGEST_BYTES)
    digest.update(_NO_DIGEST)
    digest.update(view[position + len(_NO_DIGEST) :])
    return digest.hexdigest().encode()


def _has_its_digest(data: bytes | bytearray) -> bool:
    position = _digest_position(data)
    if position is None:
        return False
    return data[position : position + len(_NO_DIGEST)] == _measure_digest(data, position)


def _serialise(table: pa.Table, settings: Mapping[str, object]) -> bytes:
    """Return the Parquet file of ``table``; the same table and settings give the same bytes."""
    metadata = {
        "altgrad.schema": str(SCHEMA_VERSION),
        "altgrad.version": _read_program_version(),
        "altgrad.settings": json.dumps(settings, sort_keys=True, allow_nan=False),
    }
    whole = table.replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        whole.schema,
        version="2.6",
        compression="zstd",
        compression_level=3,
        write_page_checksum=True,
    ) as writer:
        writer.write_table(whole, row_group_size=ROWS_PER_GROUP)
        writer.add_key_value_metadata({_DIGEST_KEY.decode(): _NO_DIGEST.decode()})
    data = bytearray(sink.getvalue().to_pybytes())
    position = _digest_position(data)
    if position is not None:
        data[position : position + len(_NO_DIGEST)] = _measure_digest(data, position)
    if not _has_its_digest(data):
        msg = "the digest is not where the footer should have it"
        raise ValueError(msg)
    return bytes(data)


def write_tables(
    tables: Mapping[str, pa.Table], directory: Path, settings: Mapping[str, object]
) -> list[Path]:
    """Write ``{name}.parquet`` for every table, replacing what was there.

    Args:
        tables: Table name -> table with the columns of that schema.
        directory: Made if it is missing; other files in it stay as they are.
        settings: What the numbers depend on; stored as sorted JSON in ``altgrad.settings``.

    Returns:
        The files, in the order of ``tables``.

    Raises:
        OutputError: The disk is full, fails, or may not be written to; every earlier file is
            then as it was and no temporary file is left.
    """
    contents = {
        TABLES[name].file_name: _serialise(table.cast(TABLES[name].arrow), settings)
        for name, table in tables.items()
    }
    return replace_files(directory, contents)


def _read_intact(path: Path, name: str) -> bytes:
    shown = display_name(str(path))
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        command = _MADE_BY.get(name, "report")
        msg = (
            f"{shown}: not there"
            f" (make it with `altgrad-inspect {command} --out {display_name(str(path.parent))}`)"
        )
        raise OutputError(msg) from error
    except OSError as error:
        msg = f"{shown}: cannot be read: {error.strerror or error}"
        raise OutputError(msg) from error
    if not _has_its_digest(data):
        msg = f"{shown}: damaged, or not written by altgrad-inspect (run it again to replace it)"
        raise OutputError(msg)
    return data


def read_table(directory: Path, name: str) -> pa.Table:
    """Read one table back.

    Returns:
        Exactly the columns of ``TABLES[name]``, those that an older version did not write as
        nulls; the schema metadata has ``altgrad.schema``, ``altgrad.version`` and
        ``altgrad.settings``.

    Raises:
        OutputError: The file is missing, damaged in any bit, of a newer schema, or not ours.
    """
    path = directory / TABLES[name].file_name
    shown = display_name(str(path))
    data = _read_intact(path, name)
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            table = file.read()
        metadata = dict(table.schema.metadata)
        written = int(metadata[b"altgrad.schema"])
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        msg = f"{shown}: cannot be parsed: {type(error).__name__} (run altgrad-inspect again)"
        raise OutputError(msg) from error
    if written > SCHEMA_VERSION:
        author = metadata.get(b"altgrad.version", b"?").decode()
        msg = (
            f"{shown}: written by altgrad-inspect {author} with schema {written},"
            f" this version reads up to {SCHEMA_VERSION} (upgrade altgrad-inspect)"
        )
        raise OutputError(msg)
    return _fit_to_schema(table, shown, name).replace_schema_metadata(metadata)


def _fit_to_schema(table: pa.Table, shown: str, name: str) -> pa.Table:
    schema = TABLES[name].arrow
    columns = [
        table.column(field.name)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    try:
        return pa.table(columns, names=schema.names).cast(schema)
    except (pa.ArrowException, ValueError) as error:
        msg = f"{shown}: not a table of {name} (run altgrad-inspect again to replace it)"
        raise OutputError(msg) from error


def read_settings(table: pa.Table) -> dict[str, object]:
    """Return the settings that a table read by `read_table` was written with."""
    stored = (table.schema.metadata or {}).get(b"altgrad.settings", b"{}")
    settings = json.loads(stored)
    return settings if isinstance(settings, dict) else {}
