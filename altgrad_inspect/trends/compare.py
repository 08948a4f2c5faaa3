"""Two analysed runs side by side: what the tables of both say about each layer and in total.

Values of a layer are those at its last step; flips are medians over the transitions, since
two runs rarely save at the same steps. Nothing but tables is read.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import pyarrow as pa

from altgrad_inspect.records import Severity
from altgrad_inspect.tables.comparisons import CompareRow, CompareTotalRow, RunSide
from altgrad_inspect.tables.results import Results

Key = tuple[str, int]
"""A layer and the index of one of its matrices."""

_RANKS: Final = ("stable_rank", "effective_rank")
_FLIPS: Final = ("flip_fraction", "stall_fraction")

MEDIAN_MEASURES: Final = (*_RANKS, *(f"{name}_drop" for name in _RANKS), *_FLIPS)
"""Fields of a side whose median over the matrices is a total."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        rows: One a matrix.
        totals: One a measure: numbers of layers, alerts and verdicts, and medians.
        notes: What could not be compared, one sentence each.
    """

    rows: tuple[CompareRow, ...]
    totals: tuple[CompareTotalRow, ...]
    notes: tuple[str, ...]


def compare_runs(a: Results, b: Results) -> Comparison:
    """Set the tables of two runs side by side.

    Args:
        a: Any of the tables ranks, flips, trends, alerts and verdicts of a run.
        b: Those of another one. Flips are compared for one quantizer: of those
            that both runs have, the one with the most rows.
    """
    quantizer, notes = _find_quantizer(a, b)
    sides = [_read_sides(results, quantizer) for results in (a, b)]
    keys = sorted(sides[0].keys() | sides[1].keys())
    rows = tuple(
        CompareRow(
            layer=layer,
            matrix=matrix,
            quantizer=quantizer,
            a=sides[0].get((layer, matrix)),
            b=sides[1].get((layer, matrix)),
        )
        for layer, matrix in keys
    )
    totals = [_sum_up(results, side) for results, side in zip((a, b), sides, strict=True)]
    measures = sorted(totals[0].keys() | totals[1].keys())
    return Comparison(
        rows=rows,
        totals=tuple(
            CompareTotalRow(
                measure=name, a=_find_total(totals[0], name), b=_find_total(totals[1], name)
            )
            for name in measures
        ),
        notes=(*_find_missing(a, b), *notes),
    )


def _find_missing(a: Results, b: Results) -> list[str]:
    return [
        f"{'AB'[index]} has no table {name}: analyse the run with `altgrad-inspect report`"
        for name in ("ranks", "flips", "verdicts")
        for index, results in enumerate((a, b))
        if name not in results.tables
    ]


def _find_quantizer(a: Results, b: Results) -> tuple[str | None, list[str]]:
    """Return the quantizer that is compared, and a note where there is a choice or none."""
    named: list[Counter[object]] = [
        Counter(results.flips.column("quantizer").to_pylist()) if results.flips else Counter()
        for results in (a, b)
    ]
    # A run of stored codes has several, each with other layers: the one with the most comes first.
    by_rows = sorted((named[0] & named[1]).items(), key=lambda item: (-item[1], str(item[0])))
    shared = [str(name) for name, _ in by_rows]
    if shared and len(named[0] | named[1]) > 1:
        return shared[0], [f"flips are compared under {shared[0]}"]
    if not shared and all(named):
        names = " and ".join(", ".join(sorted(map(str, one))) for one in named)
        return None, [f"flips are not compared: the runs share no quantizer ({names})"]
    return (shared[0] if shared else None), []


def _read_sides(results: Results, quantizer: str | None) -> dict[Key, RunSide]:
    """Return everything that the tables say about each matrix."""
    facts: dict[Key, dict[str, Any]] = {}
    for row in _rows(results.ranks):
        if row["subject"] == "weight":  # sorted by step, so the last one stays
            side = facts.setdefault((row["layer"], row["matrix"]), {})
            side.update({name: row[name] for name in ("step", *_RANKS)})
    for row in _rows(results.trends):
        key = (row["layer"], row["matrix"])
        if row["metric"] in _RANKS and key in facts:
            facts[key][f"{row['metric']}_drop"] = row["drop_fraction"]
    _add_flips(facts, results.flips, quantizer)
    _add_judgements(facts, results)
    return {key: RunSide(**side) for key, side in facts.items()}


def _add_flips(
    facts: dict[Key, dict[str, Any]], flips: pa.Table | None, quantizer: str | None
) -> None:
    series: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(flips):
        if row["quantizer"] == quantizer:
            series.setdefault(row["layer"], []).append(row)
    matrices = _find_matrices(facts)
    for layer, rows in series.items():
        for key in matrices.get(layer, [(layer, 0)]):
            side = facts.setdefault(key, {"step": rows[-1]["step_to"]})
            side.update({name: _find_median(row[name] for row in rows) for name in _FLIPS})


def _add_judgements(facts: dict[Key, dict[str, Any]], results: Results) -> None:
    """Add the verdict of each layer, and the alerts of each matrix."""
    matrices = _find_matrices(facts)
    for row in _rows(results.verdicts):
        for key in matrices.get(row["layer"], []):
            facts[key]["verdict"] = row["verdict"]
    if results.alerts is None:
        return
    counts = Counter(
        (row["layer"], row["matrix"] or 0, row["severity"]) for row in _rows(results.alerts)
    )
    for (layer, matrix), side in facts.items():
        for severity in (Severity.CRITICAL, Severity.WARNING):
            side[f"num_{severity.value}"] = counts[layer, matrix, severity.value]


def _find_matrices(facts: Iterable[Key]) -> dict[str, list[Key]]:
    matrices: dict[str, list[Key]] = {}
    for key in facts:
        matrices.setdefault(key[0], []).append(key)
    return matrices


def _sum_up(results: Results, sides: Mapping[Key, RunSide]) -> dict[str, float | None]:
    totals: dict[str, float | None] = {"num_layers": float(len(_find_matrices(sides)))}
    if results.alerts is not None:
        severities = Counter(row["severity"] for row in _rows(results.alerts))
        totals |= {f"num_{name.value}": float(severities[name.value]) for name in Severity}
    if results.verdicts is not None:
        verdicts = Counter(row["verdict"] for row in _rows(results.verdicts))
        totals |= {f"verdict {name}": float(number) for name, number in verdicts.items()}
    for name in MEDIAN_MEASURES:
        totals[f"median {name}"] = _find_median(getattr(side, name) for side in sides.values())
    return totals


def _find_total(totals: Mapping[str, float | None], measure: str) -> float | None:
    """Return a total; a verdict that a judged run has of no layer is 0, not unknown."""
    is_judged = any(name.startswith("verdict ") for name in totals)
    absent = 0.0 if measure.startswith("verdict ") and is_judged else None
    return totals.get(measure, absent)


def _find_median(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return median(defined) if defined else None


def _rows(table: pa.Table | None) -> list[dict[str, Any]]:
    return [] if table is None else table.to_pylist()
