"""What changed in each layer from checkpoint A to checkpoint B: one row a layer and quantizer."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from altgrad_inspect.engine.layer import LayerRows
from altgrad_inspect.engine.plan import LayerUnit
from altgrad_inspect.engine.update_rows import UPDATE
from altgrad_inspect.records import FlipRecord, RankRecord, Spectrum, Status
from altgrad_inspect.refs import LayerRef
from altgrad_inspect.tables.comparisons import DiffRow

IDENTICAL: Final = "identical"
"""Every stored bit is the same."""

CHANGED: Final = "changed"
ADDED: Final = "added"
REMOVED: Final = "removed"
RESHAPED: Final = "reshaped"
RETYPED: Final = "retyped"
"""Same shape, another dtype; the values may be as near as rounding lets them be."""

UNKNOWN: Final = "unknown"
"""Not read, so nobody knows."""

_Row = TypeVar("_Row", FlipRecord, RankRecord)

_ORDER: Final = (ADDED, REMOVED, RESHAPED, RETYPED, UNKNOWN, CHANGED, IDENTICAL)


def build_diff(units: Sequence[LayerUnit], rows: LayerRows) -> list[DiffRow]:
    """Return the rows of all layers: differences of structure first, then the largest updates.

    Args:
        units: Layers, each with where it is in A and in B.
        rows: Flips, ranks, updates and identical layers of these units.
    """
    flips = _group(rows.flips)
    ranks = _group(rows.ranks)
    found: list[DiffRow] = []
    for unit in units:
        sources = flips.get(unit.layer, []), ranks.get(unit.layer, [])
        layer = _build_layer(unit, *sources, is_identical=unit.layer in rows.identical)
        found += [_with_note(row, *sources) for row in layer]
    return sorted(found, key=_sort_key)


def _sort_key(row: DiffRow) -> tuple[int, float, str, str]:
    size = math.inf if row.relative_update is None else row.relative_update
    return _ORDER.index(row.change), -size, row.layer, row.quantizer or ""


def _group(rows: Iterable[_Row]) -> dict[str, list[_Row]]:
    grouped: dict[str, list[_Row]] = {}
    for row in rows:
        grouped.setdefault(row.layer, []).append(row)
    return grouped


def _build_layer(
    unit: LayerUnit,
    flips: Sequence[FlipRecord],
    ranks: Sequence[RankRecord],
    *,
    is_identical: bool,
) -> Iterator[DiffRow]:
    a, b = unit.refs
    ref = b or a
    if ref is None:
        return
    shared = DiffRow(
        layer=unit.layer,
        quantizer=None,
        change=_find_structure(a, b) or (IDENTICAL if is_identical else CHANGED),
        dtype_a=a.dtype if a else None,
        dtype_b=b.dtype if b else None,
        shape_a=a.shape if a else None,
        shape_b=b.shape if b else None,
        num_weights=ref.num_weights,
        **_find_ranks(ranks, unit.steps),
    )
    measured = [flip for flip in flips if flip.counts is not None]
    if shared.change == CHANGED and measured:
        without = _find_undefined(ranks, unit.steps)
        for flip in measured:
            row = _with_flips(shared, flip)
            if row.status is Status.OK and without is not None:
                row = replace(row, status=Status.UNDEFINED, reason=without)
            yield row
        return
    problems = [row.reason for row in flips if row.status is Status.FAILED]
    problems += [row.reason for row in ranks if row.status is Status.FAILED]
    if problems:
        change = UNKNOWN if shared.change in {CHANGED, IDENTICAL} else shared.change
        yield replace(shared, change=change, status=Status.FAILED, reason=problems[0])
    elif is_identical:
        yield replace(shared, num_updated=0, update_norm=0.0, relative_update=0.0)
    elif shared.change == RETYPED:
        yield _with_update(shared, ranks)
    elif shared.change == CHANGED:
        reason = "not weights: only its bits were compared"
        yield replace(shared, status=Status.UNDEFINED, reason=reason)
    else:
        yield shared


def _find_structure(a: LayerRef | None, b: LayerRef | None) -> str | None:
    if a is None or b is None:
        return ADDED if a is None else REMOVED
    if a.shape != b.shape:
        return RESHAPED
    return RETYPED if a.dtype != b.dtype else None


def _find_ranks(ranks: Sequence[RankRecord], steps: Sequence[int]) -> dict[str, Any]:
    """Return the ranks of A, of B and of the update, where the layer is one matrix."""
    if any(row.matrix for row in ranks):
        return {}
    found: dict[str, Any] = {}
    for row in ranks:
        if not isinstance(row.spectrum, Spectrum):
            continue
        if row.subject == UPDATE:
            found["update_stable_rank"] = row.spectrum.stable_rank
        else:
            side = "a" if row.step == steps[0] else "b"
            found[f"stable_rank_{side}"] = row.spectrum.stable_rank
            found[f"effective_rank_{side}"] = row.spectrum.effective_rank
    return found


def _find_undefined(ranks: Sequence[RankRecord], steps: Sequence[int]) -> str | None:
    """Return why a rank of A, of B or of the update is null; None if all are there."""
    for row in ranks:
        if row.status is not Status.OK:  # one that is may have a note
            side = "A" if row.step == steps[0] else "B"
            what = "the update" if row.subject == UPDATE else side
            return f"no rank of {what}: {row.reason}"
    return None


def _with_flips(shared: DiffRow, flip: FlipRecord) -> DiffRow:
    counts = flip.counts
    if counts is None:
        return shared
    return replace(
        shared,
        quantizer=flip.quantizer,
        num_updated=counts.num_updated,
        num_flipped=counts.num_flipped,
        flip_fraction=counts.flip_fraction,
        stall_fraction=counts.stall_fraction,
        recode_fraction=counts.recode_fraction,
        update_norm=counts.update_norm,
        relative_update=counts.relative_update,
        status=flip.status,
        reason=flip.reason,
    )


def _with_note(row: DiffRow, flips: Sequence[FlipRecord], ranks: Sequence[RankRecord]) -> DiffRow:
    """Say of a row that is all right where its numbers were computed, if that is worth a note."""
    if row.status is not Status.OK or row.reason is not None:
        return row
    sources: list[FlipRecord | RankRecord] = [*ranks]
    sources += (flip for flip in flips if row.quantizer in {None, flip.quantizer})
    notes = [one.reason for one in sources if one.status is Status.OK and one.reason]
    return replace(row, reason=notes[0]) if notes else row


def _with_update(shared: DiffRow, ranks: Sequence[RankRecord]) -> DiffRow:
    """Fill in the norm of the update from its spectrum, since no flips can be counted."""
    updates = [row for row in ranks if row.subject == UPDATE]
    undefined = [row for row in updates if row.spectrum is None]
    earlier = min((row.step for row in ranks if row.subject != UPDATE), default=None)
    before = [row.spectrum for row in ranks if row.subject != UPDATE and row.step == earlier]
    if undefined or not updates:
        reason = undefined[0].reason if undefined else "another dtype: flips are not comparable"
        return replace(shared, status=Status.UNDEFINED, reason=reason)
    norm = math.hypot(*(row.spectrum.frobenius_norm for row in updates if row.spectrum))
    norm_a = math.hypot(*(one.frobenius_norm for one in before if one))
    is_known = len(before) == len(updates) and all(before) and norm_a > 0
    relative = norm / norm_a if is_known else None
    return replace(shared, update_norm=norm, relative_update=relative)
