"""Values of the metrics that alerts are about, over the run."""

from collections.abc import Collection, Mapping
from typing import Final

import pyarrow as pa

from altgrad_inspect.reports.model import Number, Series
from altgrad_inspect.reports.sections.rows import read_rows

SeriesKey = tuple[str, int, str]
"""Layer, matrix, and metric as the alerts spell it: ``flip_fraction[e4m3:tensor:amax]``."""

_KEYS: Final = ("matrix", "quantizer", "subject")


def find_series(
    tables: Mapping[str, pa.Table], wanted: Collection[SeriesKey]
) -> dict[SeriesKey, Series]:
    """Find the values of metrics, in the order of the steps; those not found are left out.

    Trends have the metrics that are smoothed, ranks and flips have all others. Where a
    metric does not name its quantizer, the first one of the layer is meant.
    """
    found: dict[SeriesKey, list[Number | None]] = {}
    if "trends" in tables and wanted:
        for row in read_rows(tables["trends"], ("layer", "matrix", "metric", "value")):
            key = (row["layer"], row["matrix"], row["metric"])
            if key in wanted:
                found.setdefault(key, []).append(row["value"])
    for name in ("ranks", "flips"):
        missing = [key for key in wanted if key not in found]
        if name in tables and missing:
            found |= _read_columns(tables[name], missing)
    return {key: tuple(values) for key, values in found.items()}


def _read_columns(
    table: pa.Table, wanted: Collection[SeriesKey]
) -> dict[SeriesKey, list[Number | None]]:
    spelled: dict[str, list[SeriesKey]] = {}
    for key in wanted:
        spelled.setdefault(key[0], []).append(key)
    metrics = sorted({_split(key[2])[0] for key in wanted} & set(table.column_names))
    if not metrics:
        return {}
    extra = [name for name in _KEYS if name in table.column_names]
    found: dict[SeriesKey, list[Number | None]] = {}
    first: dict[SeriesKey, object] = {}
    for row in read_rows(table, ["layer", *extra, *metrics]):
        for key in spelled.get(row["layer"], ()):
            metric, quantizer = _split(key[2])
            variant = (row.get("quantizer"), row.get("subject"))
            if metric not in row or row.get("matrix", 0) != key[1]:
                continue
            if quantizer not in {"", variant[0]} or first.setdefault(key, variant) != variant:
                continue  # one line of bars is one quantizer's
            found.setdefault(key, []).append(row[metric])
    return found


def _split(metric: str) -> tuple[str, str]:
    """Return the column, and the quantizer in brackets behind it or an empty text."""
    column, _, rest = metric.partition("[")
    return column, rest.removesuffix("]")
