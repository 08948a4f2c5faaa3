"""The Python API: everything the command line can do, without printing.

    import altgrad_inspect as ai

    ai.flips("run/").to_pandas()
    ai.rank("run/", layers=["lm_head"]).to_arrow()
    ai.report("run/", quant=["e4m3", "int8:channel"]).write("altgrad-report")

A run is a directory, a checkpoint file, a glob, or a list of them. Every function raises
`altgrad_inspect.errors.InspectError`, whose ``exit_code`` says of which kind it is.

Each function is loaded on first use, so that those which only read tables never load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from altgrad_inspect.api.gate import CheckOutcome, check
    from altgrad_inspect.api.options import (
        LayerOptions,
        MeasureAndTrendOptions,
        MeasureOptions,
        PairOptions,
        SelectionOptions,
        TrendOptions,
        WorkOptions,
    )
    from altgrad_inspect.api.pair import diff
    from altgrad_inspect.api.run import flips, ls, plan, rank, report, trend
    from altgrad_inspect.api.two_runs import compare
    from altgrad_inspect.api.what_if import sweep

__all__ = [
    "CheckOutcome",
    "LayerOptions",
    "MeasureAndTrendOptions",
    "MeasureOptions",
    "PairOptions",
    "SelectionOptions",
    "TrendOptions",
    "WorkOptions",
    "check",
    "compare",
    "diff",
    "flips",
    "ls",
    "plan",
    "rank",
    "report",
    "sweep",
    "trend",
]

_GATE = "altgrad_inspect.api.gate"
_OPTIONS = "altgrad_inspect.api.options"
_RUN = "altgrad_inspect.api.run"

_LAZY = {
    "CheckOutcome": _GATE,
    "LayerOptions": _OPTIONS,
    "MeasureAndTrendOptions": _OPTIONS,
    "MeasureOptions": _OPTIONS,
    "PairOptions": _OPTIONS,
    "SelectionOptions": _OPTIONS,
    "TrendOptions": _OPTIONS,
    "WorkOptions": _OPTIONS,
    "check": _GATE,
    "compare": "altgrad_inspect.api.two_runs",
    "diff": "altgrad_inspect.api.pair",
    "flips": _RUN,
    "ls": _RUN,
    "plan": _RUN,
    "rank": _RUN,
    "report": _RUN,
    "sweep": "altgrad_inspect.api.what_if",
    "trend": _RUN,
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return __all__
