"""Offline analysis of training checkpoints: flips, ranks, trends.

    import altgrad_inspect as ai

    ai.report("run/").to_pandas("alerts")

The functions live in `altgrad_inspect.api` and are loaded on first use, so that importing
the package costs nothing and never loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from altgrad_inspect.errors import (
    ChangedError,
    CheckpointError,
    ConfigError,
    ExitCode,
    FormatError,
    HeaderError,
    InspectError,
    NothingMatchedError,
    OutputError,
)

if TYPE_CHECKING:
    from altgrad_inspect.api import (
        CheckOutcome,
        check,
        compare,
        diff,
        flips,
        ls,
        plan,
        rank,
        report,
        sweep,
        trend,
    )
    from altgrad_inspect.tables.results import Results

__all__ = [
    "ChangedError",
    "CheckOutcome",
    "CheckpointError",
    "ConfigError",
    "ExitCode",
    "FormatError",
    "HeaderError",
    "InspectError",
    "NothingMatchedError",
    "OutputError",
    "Results",
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

_LAZY = {
    "CheckOutcome": "altgrad_inspect.api",
    "Results": "altgrad_inspect.tables.results",
    "check": "altgrad_inspect.api",
    "compare": "altgrad_inspect.api",
    "diff": "altgrad_inspect.api",
    "flips": "altgrad_inspect.api",
    "ls": "altgrad_inspect.api",
    "plan": "altgrad_inspect.api",
    "rank": "altgrad_inspect.api",
    "report": "altgrad_inspect.api",
    "sweep": "altgrad_inspect.api",
    "trend": "altgrad_inspect.api",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return __all__
