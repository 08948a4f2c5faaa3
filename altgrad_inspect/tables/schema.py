"""The tables: every column's name, type, unit and meaning. The only place that names columns.

``meaning`` and ``unit`` travel with each column as Arrow field metadata, so a file explains
itself: ``pyarrow.parquet.read_schema("flips.parquet").field("flip_excess").metadata``.
Columns are only ever added; a rename or removal bumps ``SCHEMA_VERSION``.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import pyarrow as pa

from altgrad_inspect.tables.columns import INT as _INT
from altgrad_inspect.tables.columns import REAL as _REAL
from altgrad_inspect.tables.columns import STATUS as _STATUS
from altgrad_inspect.tables.columns import TEXT as _TEXT
from altgrad_inspect.tables.columns import TableSchema
from altgrad_inspect.tables.columns import column as _column
from altgrad_inspect.tables.comparisons import COMPARISONS

SCHEMA_VERSION: Final = 1

HISTOGRAM_BINS: Final = ("1", "2", "3-4", "5-8", "9-16", "17-32", "33-64", "65-128", "over 128")
"""Distances in codes of the bins of ``code_step_histogram``."""


FLIPS: Final = TableSchema(
    name="flips",
    sort_keys=("layer", "quantizer", "step_from", "step_to"),
    arrow=pa.schema(
        [
            _column("layer", _TEXT, "", "name of the layer"),
            _column(
                "quantizer", _TEXT, "", "format:granularity:scale rule, or the name of a recipe"
            ),
            _column("step_from", _INT, "steps", "step of the earlier checkpoint"),
            _column("step_to", _INT, "steps", "step of the later checkpoint"),
            _column("num_weights", _INT, "weights", "elements compared"),
            _column("num_updated", _INT, "weights", "stored bits changed"),
            _column(
                "num_flipped",
                _INT,
                "weights",
                "code changed, both checkpoints encoded at the earlier one's scales",
            ),
            _column("flip_fraction", _REAL, "fraction", "num_flipped / num_weights"),
            _column("num_stalled", _INT, "weights", "updated but not flipped"),
            _column("stall_fraction", _REAL, "fraction", "num_stalled / num_updated"),
            _column(
                "num_recoded",
                _INT,
                "weights",
                "code changed, each checkpoint at its own scales: what hardware sees",
            ),
            _column("recode_fraction", _REAL, "fraction", "num_recoded / num_weights"),
            _column("num_scales", _INT, "scales", "scales of the quantizer"),
            _column("num_scales_changed", _INT, "scales", "scales whose bits changed"),
            _column(
                "scale_ratio_max",
                _REAL,
                "ratio",
                "largest of max(scale_to/scale_from, scale_from/scale_to)",
            ),
            _column(
                "num_expected_flips",
                _REAL,
                "weights",
                "sum of min(1, abs(update)/cell): the flips of uniformly placed weights",
            ),
            _column(
                "flip_excess",
                _REAL,
                "ratio",
                "num_flipped / num_expected_flips; null below 30 expected",
            ),
            _column("num_up", _INT, "weights", "flips to a larger value"),
            _column("num_down", _INT, "weights", "flips to a smaller value"),
            _column("num_sign_flipped", _INT, "weights", "flips that changed sign"),
            _column("num_to_zero", _INT, "weights", "flips from non-zero to zero"),
            _column("num_from_zero", _INT, "weights", "flips from zero to non-zero"),
            _column(
                "num_reverted",
                _INT,
                "weights",
                "flips back to the code of the checkpoint before last; null at first",
            ),
            _column(
                "num_saturated",
                _INT,
                "weights",
                "later checkpoint: clipped at the largest value, own scales",
            ),
            _column(
                "num_underflowed",
                _INT,
                "weights",
                "later checkpoint: non-zero weights whose code is zero, own scales",
            ),
            _column("num_nonfinite", _INT, "weights", "later checkpoint: NaN or Inf"),
            _column("code_step_mean", _REAL, "codes", "mean distance moved by the flips"),
            _column("code_step_max", _INT, "codes", "largest distance moved by a flip"),
            _column(
                "code_step_histogram",
                pa.list_(_INT),
                "weights",
                "flips that moved " + ", ".join(HISTOGRAM_BINS) + " codes",
            ),
            _column("update_norm", _REAL, "weight", "Frobenius norm of the update"),
            _column(
                "relative_update", _REAL, "ratio", "update_norm / Frobenius norm of the earlier"
            ),
            _column("update_mean_abs", _REAL, "weight", "mean abs(update)"),
            *_STATUS,
        ]
    ),
)

RANKS: Final = TableSchema(
    name="ranks",
    sort_keys=("layer", "matrix", "subject", "step"),
    arrow=pa.schema(
        [
            _column("layer", _TEXT, "", "name of the layer"),
            _column("matrix", _INT, "index", "0, or the index in a stack of matrices"),
            _column(
                "subject",
                _TEXT,
                "",
                "weight; with --updates also update (this step minus the one before) and "
                "update_total (this step minus the first with the layer)",
            ),
            _column("step", _INT, "steps", "step of the checkpoint"),
            _column("rows", _INT, "weights", "rows of the matrix"),
            _column("cols", _INT, "weights", "columns of the matrix"),
            _column("stable_rank", _REAL, "directions", "sum(s^2) / s1^2"),
            _column(
                "effective_rank",
                _REAL,
                "directions",
                "exp(entropy of s / sum(s)); null with --metrics stable",
            ),
            _column("stable_rank_fraction", _REAL, "fraction", "stable_rank / min(rows, cols)"),
            _column(
                "effective_rank_fraction", _REAL, "fraction", "effective_rank / min(rows, cols)"
            ),
            _column("spectral_norm", _REAL, "weight", "largest singular value s1"),
            _column("frobenius_norm", _REAL, "weight", "sqrt(sum(w^2)), from the weights"),
            _column("nuclear_norm", _REAL, "weight", "sum(s)"),
            _column(
                "numerical_rank",
                _INT,
                "directions",
                "singular values above max(rows, cols) * eps(stored dtype) * s1",
            ),
            _column("participation_ratio", _REAL, "directions", "sum(s^2)^2 / sum(s^4)"),
            _column(
                "stable_rank_vs_random",
                _REAL,
                "ratio",
                "stable_rank over that of a Gaussian matrix of this shape",
            ),
            _column(
                "outlier_share",
                _REAL,
                "fraction",
                "(max abs(w) / s1)^2; near 1, one weight is the spectral norm",
            ),
            _column("method", _TEXT, "", "exact, estimate, or carried on from an earlier step"),
            _column("stable_rank_error", _REAL, "relative", "bound on the relative error"),
            _column("effective_rank_error", _REAL, "relative", "bound on the relative error"),
            _column(
                "singular_values",
                pa.list_(pa.float32()),
                "weight",
                "descending, with --spectra; null if one is beyond float32",
            ),
            _column("step_from", _INT, "steps", "the step that is subtracted; null for weight"),
            _column(
                "rounding_floor",
                _REAL,
                "weight",
                "Frobenius norm that rounding to a 16-bit dtype alone leaves in an update, on "
                "average; null for weight and for wider dtypes",
            ),
            *_STATUS,
        ]
    ),
)

TRENDS: Final = TableSchema(
    name="trends",
    sort_keys=("layer", "matrix", "metric", "step"),
    arrow=pa.schema(
        [
            _column("layer", _TEXT, "", "name of the layer"),
            _column("matrix", _INT, "index", "0, or the index in a stack of matrices"),
            _column("metric", _TEXT, "", "the column that is smoothed"),
            _column("step", _INT, "steps", "step of the checkpoint"),
            _column("value", _REAL, "of the metric", "the value itself; null if undefined"),
            _column("ema", _REAL, "of the metric", "exponential moving average"),
            _column("baseline", _REAL, "of the metric", "median of the later half of the warm-up"),
            _column("drop_fraction", _REAL, "fraction", "(baseline - ema) / baseline"),
            _column("threshold", _REAL, "fraction", "drop_fraction above which it is a warning"),
            _column("state", _TEXT, "", "warmup, ok, warning, critical or insufficient"),
        ]
    ),
)

ALERTS: Final = TableSchema(
    name="alerts",
    sort_keys=("layer", "matrix", "metric", "rule", "step_detected"),
    arrow=pa.schema(
        [
            _column("fingerprint", _TEXT, "", "stable name of this alert, for baselines"),
            _column("rule", _TEXT, "", "the rule that raised it"),
            _column("severity", _TEXT, "", "info, warning or critical"),
            _column(
                "layer",
                _TEXT,
                "",
                "name of the layer; with * for the block's number, of all layers of that name",
            ),
            _column("matrix", _INT, "index", "0, or the index in a stack of matrices"),
            _column("metric", _TEXT, "", "the column that the rule looked at"),
            _column("step_onset", _INT, "steps", "first checkpoint of the values that led to it"),
            _column("step_detected", _INT, "steps", "checkpoint at which the rule fired"),
            _column("value", _REAL, "of the metric", "value at detection"),
            _column("baseline", _REAL, "of the metric", "what it is compared with"),
            _column("drop_fraction", _REAL, "fraction", "largest drop below the baseline"),
            _column("message", _TEXT, "", "one sentence with the numbers"),
        ]
    ),
)

VERDICTS: Final = TableSchema(
    name="verdicts",
    sort_keys=("layer",),
    arrow=pa.schema(
        [
            _column("layer", _TEXT, "", "name of the layer"),
            _column("verdict", _TEXT, "", "the first of the list in the docs that holds"),
            _column("severity", _TEXT, "", "info, warning or critical"),
            _column("step_onset", _INT, "steps", "since when; null for healthy and undecided"),
            _column("evidence", _TEXT, "", "one sentence with the numbers that decided it"),
        ]
    ),
)

SKIPPED: Final = TableSchema(
    name="skipped",
    sort_keys=("layer", "reason", "dtype", "shape"),
    arrow=pa.schema(
        [
            _column("layer", _TEXT, "", "name of the layer"),
            _column("shape", pa.list_(_INT), "weights", "shape as stored"),
            _column("dtype", _TEXT, "", "dtype as safetensors spells it"),
            _column("reason", _TEXT, "", "what was left out and why"),
        ]
    ),
)

CHECKPOINTS: Final = TableSchema(
    name="checkpoints",
    sort_keys=("step", "path"),
    arrow=pa.schema(
        [
            _column("step", _INT, "steps", "training step"),
            _column("path", _TEXT, "", "relative to the run"),
            _column("layout", _TEXT, "", "the layout that recognised it"),
            _column("scheme", _TEXT, "", "storage scheme of the weights"),
            _column("num_layers", _INT, "layers", "layers in the checkpoint"),
            _column("num_weights", _INT, "weights", "elements in all layers"),
            _column("size_bytes", _INT, "bytes", "size of its safetensors files"),
            _column(
                "fingerprint", _TEXT, "", "digest of its headers, its size and samples of its bytes"
            ),
            _column("loss", _REAL, "", "mean training loss since the checkpoint before"),
            *_STATUS,
        ]
    ),
)

LAYERS: Final = TableSchema(
    name="layers",
    sort_keys=("layer",),
    arrow=pa.schema(
        [
            _column("layer", _TEXT, "", "name of the layer"),
            _column(
                "dtype",
                _TEXT,
                "",
                "dtypes as safetensors spells them; of stored codes, the formats they are codes of",
            ),
            _column("shape", pa.list_(_INT), "weights", "shape in the first checkpoint with it"),
            _column("num_weights", _INT, "weights", "elements in that checkpoint"),
            _column("num_checkpoints", _INT, "checkpoints", "checkpoints that hold it"),
            _column("step_first", _INT, "steps", "first step that holds it"),
            _column("step_last", _INT, "steps", "last step that holds it"),
            _column("scheme", _TEXT, "", "storage schemes, in the order of the steps"),
            _column(
                "recognised_by", _TEXT, "", "what gave the schemes away; null for a plain layer"
            ),
        ]
    ),
)
"""What ``ls`` shows of the layers; not written to disk."""

TABLES: Final[Mapping[str, TableSchema]] = MappingProxyType(
    {
        table.name: table
        for table in (
            *(FLIPS, RANKS, TRENDS, ALERTS, VERDICTS, SKIPPED, CHECKPOINTS, LAYERS),
            *COMPARISONS,
        )
    }
)
