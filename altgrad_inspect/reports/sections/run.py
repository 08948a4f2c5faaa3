"""What was looked at and what was not: checkpoints, layers, skipped layers, plans."""

from collections.abc import Mapping, Sequence
from typing import Final

import pyarrow as pa

from altgrad_inspect.records import Status
from altgrad_inspect.refs import PLAIN
from altgrad_inspect.reports.model import ALWAYS, Column, Kind, Section
from altgrad_inspect.reports.sections.rows import Record, natural_key, read_rows

_CHECKPOINT_COLUMNS: Final = {
    "step": Column(title="step", kind=Kind.STEP, weight=ALWAYS),
    "path": Column(title="checkpoint", kind=Kind.TEXT, weight=ALWAYS),
    "layout": Column(title="layout", kind=Kind.WORD, weight=40),
    "scheme": Column(title="scheme", kind=Kind.WORD, weight=50),
    "num_layers": Column(title="layers", kind=Kind.COUNT, weight=60),
    "num_weights": Column(title="weights", kind=Kind.COUNT, weight=55),
    "size_bytes": Column(title="size", kind=Kind.BYTES, weight=70),
    "loss": Column(title="loss", kind=Kind.REAL, weight=65),
    "status": Column(title="status", kind=Kind.LOOK, weight=80),
}

_LAYER_COLUMNS: Final = {
    "layer": Column(title="layer", kind=Kind.TEXT, weight=ALWAYS),
    "dtype": Column(title="dtype", kind=Kind.TEXT, weight=80),
    "shape": Column(title="shape", kind=Kind.SHAPE, weight=90),
    "num_weights": Column(title="weights", kind=Kind.COUNT, weight=70),
    "num_checkpoints": Column(title="checkpoints", kind=Kind.COUNT, weight=60),
    "step_first": Column(title="first", kind=Kind.STEP, weight=50),
    "step_last": Column(title="last", kind=Kind.STEP, weight=50),
}

_SCHEME_COLUMNS: Final = {
    "scheme": Column(title="scheme", kind=Kind.WORD, weight=85),
    "recognised_by": Column(
        title="recognised by",
        kind=Kind.TEXT,
        weight=45,
        why_undefined="where the numbers stored are the weights",
    ),
}


def _explain_checkpoints(rows: Sequence[Record]) -> tuple[str, ...]:
    return tuple(
        f"{row['status']}, {row['path']}: {row['reason']}"
        for row in rows
        if row["status"] != Status.OK
    )


def build_checkpoints_section(table: pa.Table) -> Section:
    """List the checkpoints in order; columns without any value are left out."""
    rows = read_rows(table, [*_CHECKPOINT_COLUMNS, "reason"])
    all_ok = all(row["status"] == Status.OK for row in rows)
    shown = [
        name
        for name in _CHECKPOINT_COLUMNS
        if any(row[name] is not None for row in rows) and not (name == "status" and all_ok)
    ]
    return Section(
        title="Checkpoints",
        columns=tuple(_CHECKPOINT_COLUMNS[name] for name in shown),
        rows=tuple(tuple(row[name] for name in shown) for row in rows),
        footnotes=_explain_checkpoints(rows),
    )


def build_layers_section(table: pa.Table) -> Section:
    """List the layers in natural order; how they are stored only if one is not plain."""
    rows = read_rows(table, [*_LAYER_COLUMNS, *_SCHEME_COLUMNS])
    rows.sort(key=lambda row: natural_key(row["layer"]))
    is_any_coded = any(row["scheme"] not in {None, PLAIN} for row in rows)
    shown = {**_LAYER_COLUMNS, **(_SCHEME_COLUMNS if is_any_coded else {})}
    return Section(
        title="Layers",
        columns=tuple(shown.values()),
        rows=tuple(tuple(tuple(row[n]) if n == "shape" else row[n] for n in shown) for row in rows),
    )


def build_skipped_section(table: pa.Table, *, verbose: bool) -> Section:
    """Say what was left out and why: one row a reason, one a layer if ``verbose``."""
    rows = read_rows(table, ["layer", "shape", "dtype", "reason"])
    rows.sort(key=lambda row: natural_key(row["layer"]))
    layer = Column(title="layer", kind=Kind.TEXT, weight=ALWAYS)
    reason = Column(title="reason", kind=Kind.WORD, weight=ALWAYS)
    if verbose:
        dtype = Column(title="dtype", kind=Kind.WORD, weight=60)
        shape = Column(title="shape", kind=Kind.SHAPE, weight=50)
        return Section(
            title="Left out",
            columns=(layer, shape, dtype, reason),
            rows=tuple((r["layer"], tuple(r["shape"]), r["dtype"], r["reason"]) for r in rows),
        )
    reasons: dict[str, list[str]] = {}
    for row in rows:
        reasons.setdefault(row["reason"], []).append(row["layer"])
    return Section(
        title="Left out",
        columns=(
            reason,
            Column(title="layers", kind=Kind.COUNT, weight=ALWAYS),
            Column(title="for example", kind=Kind.TEXT, weight=50),
        ),
        rows=tuple((why, len(layers), layers[0]) for why, layers in reasons.items()),
    )


def build_plan_section(
    *, size_bytes: int, memory_bytes: int, seconds: Mapping[str, float], footnotes: Sequence[str]
) -> Section:
    """Say what each command would read, hold and take; ``seconds`` is command -> estimate."""
    return Section(
        title="Plan",
        columns=(
            Column(title="command", kind=Kind.WORD, weight=ALWAYS),
            Column(title="reads", kind=Kind.BYTES, weight=ALWAYS),
            Column(title="memory", kind=Kind.BYTES, weight=ALWAYS),
            Column(title="time, about", kind=Kind.SECONDS, weight=ALWAYS),
        ),
        rows=tuple((name, size_bytes, memory_bytes, took) for name, took in seconds.items()),
        footnotes=tuple(footnotes),
    )
