"""Words for findings that every format for people uses."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from altgrad_inspect.display import display_name
from altgrad_inspect.reports.cells import TIMES, render_ends
from altgrad_inspect.reports.model import Attention, Case, Evidence, Kind

NUM_EXAMPLES: Final = 3
"""Layers of a block that are shown one by one."""

NUM_PATTERNS: Final = 3
"""Patterns that say where the layers of a block are."""

_MIN_NAME: Final = 8
"""Names shorter than this are not worth replacing, and may be words."""

_NAMES: Final[Mapping[str, str]] = {
    "num_nonfinite": "NaN or Inf",
    "num_updated": "updated weights",
    "num_saturated": "clipped weights",
    "frobenius_norm": "norm",
    "scale_ratio_max": "change of a scale",
}
"""Metrics whose column is not what people say."""

_NUMBER: Final = re.compile(r"(?<![^.])\d+(?![^.])")

_FRACTIONS: Final = ("_fraction", "_share")


def render_since(attention: Attention) -> str:
    """Say since when: ``since step 875, 5 checkpoints ago``; empty if that is not known."""
    if attention.step_first is None:
        return ""
    if attention.step_first != attention.step_last:
        return f"since steps {attention.step_first} to {attention.step_last}"
    if attention.from_start:
        return f"since step {attention.step_first}, from the start"
    match attention.num_since:
        case None:
            ago = ""
        case 0:
            ago = ", the last checkpoint"
        case 1:
            ago = ", 1 checkpoint ago"
        case number:
            ago = f", {number} checkpoints ago"
    return f"since step {attention.step_first}{ago}"


def render_course(evidence: Evidence) -> str:
    """Name the metric with its first and last value: ``stable rank 43.9 → 1.21``."""
    column = evidence.metric.partition("[")[0]
    name = _NAMES.get(column) or display_name(column).replace("_", " ")
    if not evidence.series:
        return name
    if column.endswith(_FRACTIONS):
        kind = Kind.PERCENT
    else:
        kind = Kind.COUNT if column.startswith("num_") else Kind.REAL
    where = f" of matrix {evidence.matrix}" if evidence.matrix else ""
    return f"{name}{where} {render_ends(evidence.series, kind)}"


def render_message(evidence: Evidence, layer: str) -> str:
    """Return the sentence as one printable line, ``this layer`` in place of a long name.

    The name stands above it already.
    """
    message, name = display_name(evidence.message), display_name(layer)
    if len(name) < _MIN_NAME or not re.search(r"[._/]", name):
        return message
    exact = re.compile(rf"(?<![\w.]){re.escape(name)}(?![\w])")
    text = exact.sub("this layer", message)
    return text[:1].upper() + text[1:]


def render_layers(attention: Attention) -> str:
    """Say which layers: up to three names, or patterns with how many each covers."""
    names = [name or "the whole run" for name in attention.layers]
    if len(names) <= NUM_EXAMPLES:
        return ", ".join(map(display_name, names))
    found = summarize_names(names)
    shown = found[:NUM_PATTERNS]
    texts = [
        f"{number:,} {TIMES} {display_name(pattern)}" if number > 1 else display_name(pattern)
        for pattern, number in shown
    ]
    rest = len(names) - sum(number for _, number in shown)
    return ", ".join([*texts, f"and {rest:,} more"] if rest else texts)


def render_also(case: Case) -> str:
    """Name the other alerts of a layer, each metric once.

    ``rank-slide since step 625; effective rank 32.5 → 26.2: rank-early since step 875``
    """
    told = (case.evidence.metric, case.evidence.matrix)
    rules: dict[tuple[str, int], list[Evidence]] = {}
    for one in sorted(case.also, key=lambda one: (one.metric, one.matrix) != told):
        rules.setdefault((one.metric, one.matrix), []).append(one)
    return "; ".join(
        ("" if metric == told else f"{render_course(found[0])}: ") + _render_rules(found)
        for metric, found in rules.items()
    )


def _render_rules(alerts: Iterable[Evidence]) -> str:
    return ", ".join(f"{display_name(one.rule)} since step {one.step_onset}" for one in alerts)


def summarize_names(names: Iterable[str]) -> list[tuple[str, int]]:
    """Return patterns that cover ``names`` and how many each covers, most first.

    Numbers between dots become ``*``: ``model.layers.*.mlp.up_proj.weight``. A pattern of
    one name is that name.
    """
    members: dict[str, list[str]] = {}
    for name in names:
        members.setdefault(_NUMBER.sub("*", name), []).append(name)
    counts = Counter({pattern: len(found) for pattern, found in members.items()})
    return [
        (pattern if number > 1 else members[pattern][0], number)
        for pattern, number in counts.most_common()
    ]
