"""Findings to the blocks of a report: worst first, many layers with one fault in one block."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, groupby
from typing import Final

import pyarrow as pa

from altgrad_inspect.records import Severity, Status, Verdict
from altgrad_inspect.reports.advice import find_advice
from altgrad_inspect.reports.cases import Finding, find_findings
from altgrad_inspect.reports.model import Attention
from altgrad_inspect.reports.sections.rows import natural_key

MIN_GROUP: Final = 4
"""From so many layers on, those with one fault since one step are one block."""

MAX_ALIKE: Final = 8
"""More blocks of one fault than this are one block, whenever they began."""


def build_attention(
    tables: Mapping[str, pa.Table], *, verbose: bool
) -> tuple[tuple[Attention, ...], tuple[Attention, ...]]:
    """Return what needs attention, and what is worth knowing, each worst first.

    Args:
        tables: With alerts; verdicts, ranks, flips, trends and checkpoints if there are any.
        verbose: One block a layer, however many there are, and also alerts of severity
            ``info`` among what is worth knowing; else only verdicts of that severity.

    Returns:
        Findings of severity ``warning`` and ``critical``, and those of ``info``.
    """
    steps = _find_steps(tables)
    findings = find_findings(tables)
    attention = [one for one in findings if one.severity != Severity.INFO]
    named = {str(verdict) for verdict in Verdict}
    information = [
        one for one in findings if one.severity == Severity.INFO and (verbose or one.word in named)
    ]
    return (
        tuple(_build_block(group, steps) for group in _group(attention, verbose=verbose)),
        tuple(_build_block(group, steps) for group in _group_information(information)),
    )


def _group(findings: Sequence[Finding], *, verbose: bool) -> Iterable[list[Finding]]:
    """Split findings, which are sorted, into blocks."""
    if verbose:
        return [[finding] for finding in findings]
    groups: list[list[Finding]] = []
    for _, alike in groupby(findings, key=lambda one: (one.severity, one.word)):
        blocks = _group_alike(list(alike))
        groups += [[*chain(*blocks)]] if len(blocks) > MAX_ALIKE else blocks
    return groups


def _group_alike(findings: Sequence[Finding]) -> list[list[Finding]]:
    blocks: dict[object, list[Finding]] = {}
    for finding in findings:
        evidence = finding.case.evidence
        blocks.setdefault((evidence.step_onset, evidence.metric), []).append(finding)
    return [
        part
        for block in blocks.values()
        for part in ([block] if len(block) >= MIN_GROUP else [[one] for one in block])
    ]


def _group_information(findings: Sequence[Finding]) -> Iterable[list[Finding]]:
    """Put what has one word and one onset together: it takes one line, not one block."""
    groups: dict[tuple[str, int | None], list[Finding]] = {}
    for one in findings:
        groups.setdefault((one.word, one.case.evidence.step_onset), []).append(one)
    return groups.values()


def _build_block(findings: Sequence[Finding], steps: Sequence[int]) -> Attention:
    onsets = [one.case.evidence.step_onset for one in findings]
    known = [onset for onset in onsets if onset is not None]
    last = max(known, default=None)
    cases = sorted((one.case for one in findings), key=lambda case: natural_key(case.layer))
    return Attention(
        word=findings[0].word,
        severity=findings[0].severity,
        cases=tuple(cases),
        step_first=min(known, default=None),
        step_last=last,
        num_since=_count_later(last, steps),
        from_start=bool(steps) and min(known, default=None) == steps[0],
        look_at=find_advice(findings[0].word),
    )


def _count_later(step: int | None, steps: Sequence[int]) -> int | None:
    if step is None or step not in steps:
        return None
    return len(steps) - bisect_right(steps, step)


def _find_steps(tables: Mapping[str, pa.Table]) -> list[int]:
    """Return the steps of the usable checkpoints, in order; empty if they are not known."""
    if "checkpoints" not in tables:
        return []
    columns = (tables["checkpoints"].column(name).to_pylist() for name in ("step", "status"))
    return sorted({step for step, status in zip(*columns, strict=True) if status == Status.OK})
