"""The gate: is there anything in a run that should stop a pipeline?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import pyarrow as pa

from altgrad_inspect.api.diagnosis import add_diagnosis
from altgrad_inspect.api.options import MeasureAndTrendOptions, read_selection, read_trend_settings
from altgrad_inspect.checkpoints.selection import select_layers
from altgrad_inspect.errors import ConfigError, ExitCode
from altgrad_inspect.records import Severity
from altgrad_inspect.refs import RunTarget
from altgrad_inspect.tables.results import Results
from altgrad_inspect.tables.schema import FLIPS, RANKS
from altgrad_inspect.trends.findings import find_findings, require_rules


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOutcome:
    """What a check found.

    Attributes:
        findings: Alerts and verdicts at least as severe as asked, worst first, with the
            columns of the alerts table.
        exit_code: FINDINGS if there are any; else INCOMPLETE if rows failed; else OK.
        results: All tables that they were found in.
        was_read: Whether those were read from a directory of tables, not computed.
    """

    findings: pa.Table
    exit_code: ExitCode
    results: Results
    was_read: bool = False


def check(
    run: RunTarget = ".",
    *,
    fail_on: str = Severity.WARNING.value,
    rule: Sequence[str] = (),
    ignore: Sequence[str] = (),
    quant: Sequence[str] = ("auto",),
    master_cast: str = "none",
    **options: Unpack[MeasureAndTrendOptions],
) -> CheckOutcome:
    """Say whether anything in a run is severe enough to stop at.

    Args:
        run: A run, or a directory with the tables of one: then only the rules run again, and
            of the options about what to measure only ``layers`` and ``exclude`` count.
        fail_on: The least severity of a finding: ``info``, ``warning`` or ``critical``.
        rule: Only these rules and verdicts; all if empty.
        ignore: Rules and verdicts to leave out; they win.
        quant: Quantizers, ``ELEMENT[:GRANULARITY[:SCALE]]``, names of recipes or ``auto``.
        master_cast: What weights are cast to before they are quantized, ``none`` or ``bf16``.
        options: See `TrendOptions` and `MeasureOptions`.

    Raises:
        ConfigError: A rule or ``fail_on`` is not known.
        NothingMatchedError: There is no such run, checkpoint or layer.
    """
    severity = _parse_severity(fail_on)
    require_rules((*rule, *ignore))
    tables = find_tables(run)
    if tables is not None:
        results = _read(tables, options)
    else:
        from altgrad_inspect.api.run import report  # torch is needed only here

        results = report(run, quant=quant, master_cast=master_cast, **options)
    findings = find_findings(
        results.to_arrow("alerts"),
        results.to_arrow("verdicts"),
        fail_on=severity,
        rule=rule,
        ignore=ignore,
    )
    if findings.num_rows:
        exit_code = ExitCode.FINDINGS
    else:
        exit_code = ExitCode.INCOMPLETE if results.num_failed else ExitCode.OK
    return CheckOutcome(
        findings=findings, exit_code=exit_code, results=results, was_read=tables is not None
    )


def _parse_severity(text: str) -> Severity:
    try:
        return Severity(text)
    except ValueError as error:
        msg = f"fail_on: {text!r} is not known, expected info, warning or critical"
        raise ConfigError(msg) from error


def find_tables(run: RunTarget) -> Path | None:
    """Return ``run`` if it is a directory that tables were written to, not a run."""
    if not isinstance(run, str | Path):
        return None
    held = any((Path(run) / table.file_name).is_file() for table in (RANKS, FLIPS))
    return Path(run) if held else None


def _read(directory: Path, options: MeasureAndTrendOptions) -> Results:
    """Read tables, keep the layers that are asked for, and run the rules again."""
    settings = read_trend_settings(options)
    found = Results.read(directory)
    selection = read_selection(options)
    tables = dict(found.tables)
    if selection.layers or selection.exclude:
        measured = [name for name in (RANKS.name, FLIPS.name) if name in tables]
        present = {
            name: list(map(str, tables[name].column("layer").to_pylist())) for name in measured
        }
        names = sorted(set().union(*present.values()))
        kept = set(select_layers(names, layers=selection.layers, exclude=selection.exclude))
        for name, layers in present.items():
            tables[name] = tables[name].filter(pa.array([layer in kept for layer in layers]))
    return add_diagnosis("report", replace(found, tables=tables), settings)
