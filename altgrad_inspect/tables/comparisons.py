"""Tables that set things side by side: two checkpoints, two runs, one run in many formats.

    diff              one row a layer and quantizer of two checkpoints A and B
    sweep             one row a quantizer: what the run would have been in that format
    sweep_layers      one row a layer and quantizer, from which ``sweep`` is made
    compare           one row a matrix of two analysed runs A and B
    compare_totals    one row a measure of those two runs

The rows are dataclasses here, beside their columns: nothing but these tables has them.
"""

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from altgrad_inspect.records import Status
from altgrad_inspect.tables.columns import INT, REAL, STATUS, TEXT, TableSchema, column


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffRow:
    """One row of the table ``diff``."""

    layer: str
    quantizer: str | None
    change: str
    dtype_a: str | None
    dtype_b: str | None
    shape_a: tuple[int, ...] | None
    shape_b: tuple[int, ...] | None
    num_weights: int
    num_updated: int | None = None
    num_flipped: int | None = None
    flip_fraction: float | None = None
    stall_fraction: float | None = None
    recode_fraction: float | None = None
    update_norm: float | None = None
    relative_update: float | None = None
    stable_rank_a: float | None = None
    stable_rank_b: float | None = None
    effective_rank_a: float | None = None
    effective_rank_b: float | None = None
    update_stable_rank: float | None = None
    status: Status = Status.OK
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepLayerRow:
    """One row of the table ``sweep_layers``."""

    layer: str
    quantizer: str
    num_weights: int | None = None
    num_transitions: int = 0
    updated_fraction_last: float | None = None
    flip_fraction_median: float | None = None
    flip_fraction_last: float | None = None
    stall_fraction_median: float | None = None
    stall_fraction_last: float | None = None
    saturated_fraction_last: float | None = None
    underflowed_fraction_last: float | None = None
    is_stalling: bool | None = None
    status: Status = Status.OK
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRow:
    """One row of the table ``sweep``."""

    quantizer: str
    same_as: tuple[str, ...] = ()
    num_layers: int = 0
    num_weights: int = 0
    num_stalling: int = 0
    flip_fraction_median: float | None = None
    flip_fraction_last: float | None = None
    stall_fraction_median: float | None = None
    saturated_fraction_last: float | None = None
    underflowed_fraction_last: float | None = None
    status: Status = Status.OK
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSide:
    """One matrix at the end of one run; every field is a column with suffix ``_a`` or ``_b``."""

    step: int | None = None
    stable_rank: float | None = None
    stable_rank_drop: float | None = None
    effective_rank: float | None = None
    effective_rank_drop: float | None = None
    flip_fraction: float | None = None
    stall_fraction: float | None = None
    verdict: str | None = None
    num_critical: int | None = None
    num_warning: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRow:
    """One row of the table ``compare``; ``a`` or ``b`` is None where the run lacks the layer."""

    layer: str
    matrix: int
    quantizer: str | None
    a: RunSide | None
    b: RunSide | None

    @property
    def present(self) -> str:
        """Which runs have the layer: ``both``, ``a`` or ``b``."""
        if self.a is None:
            return "b"
        return "a" if self.b is None else "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareTotalRow:
    """One row of the table ``compare_totals``."""

    measure: str
    a: float | None
    b: float | None


ComparisonRow = DiffRow | SweepLayerRow | SweepRow | CompareRow | CompareTotalRow


def read_side(row: CompareRow, name: str) -> object:
    """Return the value of a column of ``compare``, looking into the side it is about."""
    stem, _, side = name.rpartition("_")
    if side in {"a", "b"} and stem:
        one = row.a if side == "a" else row.b
        return None if one is None else getattr(one, stem)
    return getattr(row, name)


def _pair(stem: str, kind: pa.DataType, unit: str, meaning: str) -> tuple[pa.Field, pa.Field]:  # type: ignore[type-arg]
    return (
        column(f"{stem}_a", kind, unit, f"{meaning}, A"),
        column(f"{stem}_b", kind, unit, f"{meaning}, B"),
    )


_SHAPE: Final = pa.list_(INT)

DIFF: Final = TableSchema(
    name="diff",
    sort_keys=("layer", "quantizer"),
    arrow=pa.schema(
        [
            column("layer", TEXT, "", "name of the layer"),
            column("quantizer", TEXT, "", "of the flips; null where there is nothing to compare"),
            column(
                "change",
                TEXT,
                "",
                "identical, changed, added, removed, reshaped, retyped or unknown (not read)",
            ),
            *_pair("dtype", TEXT, "", "dtype as safetensors spells it"),
            *_pair("shape", _SHAPE, "weights", "shape as stored"),
            column("num_weights", INT, "weights", "elements in B, in A where B has none"),
            column("num_updated", INT, "weights", "stored bits differ"),
            column("num_flipped", INT, "weights", "code differs, both encoded at the scales of A"),
            column("flip_fraction", REAL, "fraction", "num_flipped / num_weights"),
            column("stall_fraction", REAL, "fraction", "updated and not flipped / num_updated"),
            column("recode_fraction", REAL, "fraction", "code differs, each at its own scales"),
            column("update_norm", REAL, "weight", "Frobenius norm of B - A"),
            column("relative_update", REAL, "ratio", "update_norm / Frobenius norm of A"),
            *_pair("stable_rank", REAL, "directions", "null for a stack of matrices: see ranks"),
            *_pair("effective_rank", REAL, "directions", "null for a stack of matrices: see ranks"),
            column("update_stable_rank", REAL, "directions", "stable rank of B - A"),
            *STATUS,
        ]
    ),
)

SWEEP: Final = TableSchema(
    name="sweep",
    sort_keys=("quantizer",),
    arrow=pa.schema(
        [
            column("quantizer", TEXT, "", "format:granularity:scale rule, or the name of a recipe"),
            column("same_as", pa.list_(TEXT), "", "quantizers with the very same grid and scales"),
            column("num_layers", INT, "layers", "layers with a transition that can be compared"),
            column("num_weights", INT, "weights", "elements of those layers"),
            column("num_stalling", INT, "layers", "of them, is_stalling in sweep_layers"),
            column("flip_fraction_median", REAL, "fraction", "median of the layers' medians"),
            column("flip_fraction_last", REAL, "fraction", "of all weights, newest transition"),
            column("stall_fraction_median", REAL, "fraction", "median of the layers' medians"),
            column(
                "saturated_fraction_last", REAL, "fraction", "of all weights, newest checkpoint"
            ),
            column(
                "underflowed_fraction_last", REAL, "fraction", "of all weights, newest checkpoint"
            ),
            *STATUS,
        ]
    ),
)

SWEEP_LAYERS: Final = TableSchema(
    name="sweep_layers",
    sort_keys=("layer", "quantizer"),
    arrow=pa.schema(
        [
            column("layer", TEXT, "", "name of the layer"),
            column("quantizer", TEXT, "", "format:granularity:scale rule, or the name of a recipe"),
            column("num_weights", INT, "weights", "elements compared"),
            column("num_transitions", INT, "transitions", "that could be compared"),
            column("updated_fraction_last", REAL, "fraction", "stored bits changed, newest"),
            column("flip_fraction_median", REAL, "fraction", "median over the transitions"),
            column("flip_fraction_last", REAL, "fraction", "newest transition"),
            column("stall_fraction_median", REAL, "fraction", "median over the transitions"),
            column("stall_fraction_last", REAL, "fraction", "newest transition"),
            column(
                "saturated_fraction_last",
                REAL,
                "fraction",
                "clipped at the largest value, newest checkpoint",
            ),
            column(
                "underflowed_fraction_last",
                REAL,
                "fraction",
                "non-zero weights whose code is zero, newest checkpoint",
            ),
            column(
                "is_stalling",
                pa.bool_(),
                "",
                "in each of the last 3 transitions at least 1 % of the weights are updated and "
                "fewer than 0.01 % flip",
            ),
            *STATUS,
        ]
    ),
)

COMPARE: Final = TableSchema(
    name="compare",
    sort_keys=("layer", "matrix"),
    arrow=pa.schema(
        [
            column("layer", TEXT, "", "name of the layer"),
            column("matrix", INT, "index", "0, or the index in a stack of matrices"),
            column("present", TEXT, "", "both, or the one run that has the layer: a or b"),
            column("quantizer", TEXT, "", "of the flips; null where the runs share none"),
            *_pair("step", INT, "steps", "last step with a rank or flips of the layer"),
            *_pair("stable_rank", REAL, "directions", "at the last step"),
            *_pair("stable_rank_drop", REAL, "fraction", "of its average below the baseline"),
            *_pair("effective_rank", REAL, "directions", "at the last step"),
            *_pair("effective_rank_drop", REAL, "fraction", "of its average below the baseline"),
            *_pair("flip_fraction", REAL, "fraction", "median over the transitions"),
            *_pair("stall_fraction", REAL, "fraction", "median over the transitions"),
            *_pair("verdict", TEXT, "", "verdict on the layer"),
            *_pair("num_critical", INT, "alerts", "critical alerts"),
            *_pair("num_warning", INT, "alerts", "warnings"),
        ]
    ),
)

COMPARE_TOTALS: Final = TableSchema(
    name="compare_totals",
    sort_keys=("measure",),
    arrow=pa.schema(
        [
            column("measure", TEXT, "", "what is counted or averaged"),
            column("a", REAL, "of the measure", "run A"),
            column("b", REAL, "of the measure", "run B"),
        ]
    ),
)

COMPARISONS: Final = (DIFF, SWEEP, SWEEP_LAYERS, COMPARE, COMPARE_TOTALS)
