"""What a report does not know: left out, undefined and failed, how much of it and why."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import pyarrow as pa

from altgrad_inspect.records import Status
from altgrad_inspect.reports.model import Gap
from altgrad_inspect.reports.sections.rows import Record, natural_key, read_rows

_BAD: Final = (Status.FAILED, Status.UNDEFINED, Status.SKIPPED)

_MEASURED: Final = frozenset({"flips", "ranks", "updates"})
"""Tables whose rows are one measurement each."""


def build_gaps(tables: Mapping[str, pa.Table]) -> tuple[Gap, ...]:
    """Return one gap a table and status: failed first, then undefined, then left out.

    Each names its most frequent reason, where that holds first, and how many other reasons
    there are; the tables themselves have a row for every one.
    """
    gaps = [*_find_checkpoints(tables), *_find_rows(tables), *_find_layers(tables)]
    return tuple(sorted(gaps, key=lambda gap: _BAD.index(Status(gap.look))))


def _find_checkpoints(tables: Mapping[str, pa.Table]) -> Iterator[Gap]:
    if "checkpoints" not in tables:
        return
    rows = read_rows(tables["checkpoints"], ("path", "status", "reason"))
    for status in _BAD:
        bad = [row for row in rows if row["status"] == status]
        if bad:
            yield Gap(
                look=status,
                text=f"{_count(len(bad), 'checkpoint')} {_verb(status)}: {_explain(bad, 'path')}",
                number=len(bad),
                subject="checkpoints",
            )


def _find_rows(tables: Mapping[str, pa.Table]) -> Iterator[Gap]:
    for name in sorted(_MEASURED & tables.keys()):
        table = tables[name]
        step = "step" if "step" in table.column_names else "step_to"
        rows = read_rows(table, ("layer", step, "status", "reason"))
        for status in _BAD:
            bad = [row for row in rows if row["status"] == status]
            if bad:
                bad.sort(key=lambda row: (row[step], natural_key(row["layer"])))
                first = f"first at step {bad[0][step]}"
                what = f"{_count(len(bad), 'row')} of {name} {_verb(status)}"
                yield Gap(
                    look=status,
                    text=f"{what}, {first}: {_explain(bad, 'layer')}",
                    number=len(bad),
                    subject=name,
                )


def _find_layers(tables: Mapping[str, pa.Table]) -> Iterator[Gap]:
    if "skipped" not in tables or not tables["skipped"].num_rows:
        return
    rows = read_rows(tables["skipped"], ("layer", "reason"))
    rows.sort(key=lambda row: natural_key(row["layer"]))
    number = len({row["layer"] for row in rows})
    yield Gap(
        look=Status.SKIPPED,
        text=f"{_count(number, 'layer')} left out: {_explain(rows, 'layer')} (skipped.parquet)",
        number=number,
        subject="skipped",
    )


def _explain(rows: Iterable[Record], name: str) -> str:
    """Say the most frequent reason with its first example, and that there are others."""
    reasons: dict[str, list[str]] = {}
    for row in rows:  # reasons that differ only in the brackets behind them are one
        reason = (row["reason"] or "no reason given").partition(" (")[0]
        reasons.setdefault(reason, []).append(row[name])
    ((reason, _), *others) = Counter({why: len(at) for why, at in reasons.items()}).most_common()
    example = f", e.g. {reasons[reason][0]}"
    more = f"; {_count(len(others), 'other reason')}" if others else ""
    return f"{reason}{example}{more}"


def _verb(status: Status) -> str:
    return "left out" if status is Status.SKIPPED else str(status.value)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
