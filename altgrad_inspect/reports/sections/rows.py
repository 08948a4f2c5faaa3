"""Rows of a table as dictionaries, grouped and in the order that people count in."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any, Final

import pyarrow as pa

from altgrad_inspect.records import Status
from altgrad_inspect.reports.model import Number

Record = dict[str, Any]
"""One row of a table: column -> value, None where it is undefined."""

_DIGITS: Final = re.compile(r"(\d+)")


def read_rows(table: pa.Table, columns: Sequence[str]) -> list[Record]:
    """Return the rows of ``table`` with these columns only."""
    return table.select(list(columns)).to_pylist()


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which ``h.2`` comes before ``h.10``."""
    return tuple(
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in _DIGITS.split(name)
        if part
    )


def group_rows(
    rows: Iterable[Record], key: Callable[[Record], tuple[Any, ...]]
) -> list[tuple[tuple[Any, ...], list[Record]]]:
    """Group rows by ``key``, whose first part is the layer; groups are in natural order."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return sorted(groups.items(), key=lambda item: (natural_key(item[0][0]), item[0][1:]))


def find_median(values: Iterable[Number | None]) -> Number | None:
    """Return the median of the defined values; None if there is none."""
    defined = [value for value in values if value is not None]
    return median(defined) if defined else None


def find_share(part: Number | None, whole: Number | None) -> float | None:
    """Return ``part / whole``; None if either is undefined or the whole is zero."""
    return None if part is None or not whole else part / whole


def find_status_notes(rows: Iterable[Record]) -> tuple[str, ...]:
    """Say, once a reason, how many rows are not ``ok`` and where the first one is.

    Reasons that differ in nothing but the numbers in brackets behind them are one reason.
    """
    found: dict[tuple[str, str], list[Record]] = {}
    for row in rows:
        if row["status"] != Status.OK:
            reason = row["reason"] or "no reason given"
            found.setdefault((row["status"], reason.partition(" (")[0]), []).append(row)
    return tuple(
        f"{status}, {_shorten_reason(reason, at)}: {_count(len(at), 'row')}, {_place(at)}"
        for (status, reason), at in found.items()
    )


def _shorten_reason(reason: str, rows: Sequence[Record]) -> str:
    """Return the whole reason if all rows have the same, else what they share."""
    whole = {row["reason"] for row in rows}
    return (whole.pop() or reason) if len(whole) == 1 else reason


def _place(rows: Sequence[Record]) -> str:
    layers = Counter(str(row["layer"]) for row in rows)
    first = rows[0]
    step = first.get("step_to", first.get("step"))
    others = f" and {_count(len(layers) - 1, 'other layer')}" if len(layers) > 1 else ""
    at = "" if step is None else f"first at step {step}, "
    return f"{at}in {first['layer']}{others}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
