"""What a table is made of: named, typed columns that say what they mean, and a sort order."""

from dataclasses import dataclass
from typing import Final

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class TableSchema:
    """One table: its columns and the columns that its rows are sorted by.

    Attributes:
        name: The file is ``{name}.parquet``.
        arrow: Column names, types, and per column the metadata ``meaning`` and ``unit``.
        sort_keys: Rows are sorted by these; together they identify a row.
    """

    name: str
    arrow: pa.Schema
    sort_keys: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(self.arrow.names)

    @property
    def file_name(self) -> str:
        """Name of the Parquet file in the output directory."""
        return f"{self.name}.parquet"


TEXT: Final = pa.string()
INT: Final = pa.int64()
REAL: Final = pa.float64()


def column(name: str, kind: pa.DataType, unit: str, meaning: str) -> pa.Field:  # type: ignore[type-arg]
    """Return a column with its meaning and unit as Arrow field metadata."""
    return pa.field(name, kind, metadata={"meaning": meaning, "unit": unit})


STATUS: Final = (
    column("status", TEXT, "", "ok, undefined, skipped or failed"),
    column("reason", TEXT, "", "why the status is not ok; of an ok row a note, or null"),
)
