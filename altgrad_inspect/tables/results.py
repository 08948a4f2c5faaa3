"""What a command hands back: its tables, and how to keep and reread them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from altgrad_inspect.display import display_name
from altgrad_inspect.errors import NothingMatchedError, OutputError
from altgrad_inspect.records import Status
from altgrad_inspect.tables.schema import LAYERS, TABLES
from altgrad_inspect.tables.store import read_settings, read_table, write_tables

if TYPE_CHECKING:
    import pandas as pd

_RUN = "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The tables of one run.

    Attributes:
        subject: Name of the main table: the one that is meant if none is named.
        run: What the user named, as text.
        tables: Table name -> table.
        settings: What the numbers depend on; written into every file, beside ``run``.
        notes: One sentence each about how the run was read, for stderr; not written.
        device: Where the numbers were computed, empty if not known; not written, since they
            do not depend on it.
    """

    subject: str
    run: str
    tables: Mapping[str, pa.Table]
    settings: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    device: str = ""

    def __repr__(self) -> str:
        tables = ", ".join(f"{name}: {table.num_rows} rows" for name, table in self.tables.items())
        return f"<Results {self.subject} of {self.run}; {tables}>"

    @property
    def flips(self) -> pa.Table | None:
        """Flips between consecutive checkpoints, if they were measured."""
        return self.tables.get("flips")

    @property
    def ranks(self) -> pa.Table | None:
        """Ranks of every matrix at every step, if they were measured."""
        return self.tables.get("ranks")

    @property
    def trends(self) -> pa.Table | None:
        """Smoothed metrics, if trends were looked for."""
        return self.tables.get("trends")

    @property
    def alerts(self) -> pa.Table | None:
        """What the rules raised, if trends were looked for."""
        return self.tables.get("alerts")

    @property
    def verdicts(self) -> pa.Table | None:
        """One verdict a layer, if trends were looked for."""
        return self.tables.get("verdicts")

    @property
    def skipped(self) -> pa.Table | None:
        """Layers that were left out, each with its reason."""
        return self.tables.get("skipped")

    @property
    def checkpoints(self) -> pa.Table | None:
        """The checkpoints of the run."""
        return self.tables.get("checkpoints")

    @property
    def num_failed(self) -> int:
        """Rows with status ``failed`` over all tables: work that we could not do."""
        return sum(
            table.column("status").to_pylist().count(Status.FAILED)
            for table in self.tables.values()
            if "status" in table.column_names
        )

    def to_arrow(self, table: str | None = None) -> pa.Table:
        """Return one table, the main one unless named.

        Raises:
            NothingMatchedError: These results have no table of that name.
        """
        name = table or self.subject
        if name not in self.tables:
            present = ", ".join(self.tables) or "none"
            msg = f"{name}: no such table in these results, expected one of: {present}"
            raise NothingMatchedError(msg)
        return self.tables[name]

    def to_pandas(self, table: str | None = None) -> "pd.DataFrame":
        """Return one table as a data frame, the main one unless named.

        Integer columns are pandas' nullable ``Int64`` whether or not they hold a null, so a
        count stays an integer and a dtype never depends on the data. Nulls of real columns
        are NaN; text and list columns have None or NaN as pandas does it.

        Raises:
            NothingMatchedError: These results have no table of that name.
        """
        import pandas as pd

        nullable: dict[pa.DataType, pd.api.extensions.ExtensionDtype] = {
            pa.int64(): pd.Int64Dtype()
        }
        frame: pd.DataFrame = self.to_arrow(table).to_pandas(types_mapper=nullable.get)
        return frame

    def write(self, directory: Path | str) -> list[Path]:
        """Write every table that has a file into ``directory``; see `write_tables`.

        Raises:
            OutputError: They cannot be written; earlier files are then as they were.
        """
        kept = {name: table for name, table in self.tables.items() if name != LAYERS.name}
        return write_tables(kept, Path(directory), {**self.settings, _RUN: self.run})

    @classmethod
    def read(cls, directory: Path | str, subject: str | None = None) -> "Results":
        """Read back the tables that an earlier command wrote.

        Args:
            directory: The ``--out`` of that command.
            subject: The main table; the first that is there if None, in the order flips,
                ranks, trends, alerts, skipped, checkpoints.

        Returns:
            Run and settings are those of the main table; a note names each table that was
            written for another run.

        Raises:
            OutputError: There is no table, ``subject`` is missing, or one is damaged or newer.
        """
        folder = Path(directory)
        shown = display_name(str(folder))
        present = [name for name in TABLES if (folder / TABLES[name].file_name).exists()]
        if not present:
            msg = (
                f"{shown}: no tables there, expected at least one of flips.parquet and"
                f" ranks.parquet (make them with `altgrad-inspect report --out {shown}`)"
            )
            raise OutputError(msg)
        main = subject or present[0]
        tables = {name: read_table(folder, name) for name in dict.fromkeys([*present, main])}
        runs = {name: str(read_settings(table).pop(_RUN, "")) for name, table in tables.items()}
        settings = read_settings(tables[main])
        settings.pop(_RUN, None)
        notes = tuple(
            f"{shown}/{TABLES[name].file_name} is of another run:"
            f" {display_name(run)}, not {display_name(runs[main])}"
            for name, run in runs.items()
            if run != runs[main]
        )
        return cls(subject=main, run=runs[main], tables=tables, settings=settings, notes=notes)
