"""Two runs side by side, from their tables; torch is loaded only for a run that has none."""

from pathlib import Path

from altgrad_inspect.tables.comparisons import COMPARE, COMPARE_TOTALS
from altgrad_inspect.tables.convert import build_table
from altgrad_inspect.tables.results import Results
from altgrad_inspect.tables.schema import FLIPS, RANKS
from altgrad_inspect.trends.compare import compare_runs


def compare(a: str | Path, b: str | Path) -> Results:
    """Two runs side by side: ranks, drops, flips, alerts and verdicts, per layer and in total.

    Args:
        a: A directory with the tables of a run, as `report` writes them; or a run, which is
            then analysed first, with default settings.
        b: The other one.

    Returns:
        Results with the tables compare and compare_totals.

    Raises:
        OutputError: A table is damaged or newer than this version.
        InspectError: A run cannot be analysed.
    """
    sides = [_read(target) for target in (a, b)]
    comparison = compare_runs(*sides)
    return Results(
        subject=COMPARE.name,
        run=f"{a} and {b}",
        tables={
            COMPARE.name: build_table(COMPARE, comparison.rows),
            COMPARE_TOTALS.name: build_table(COMPARE_TOTALS, comparison.totals),
        },
        settings={
            name: {"path": str(target), "run": side.run, "settings": side.settings}
            for name, target, side in zip("ab", (a, b), sides, strict=True)
        },
        notes=(
            *(
                f"{name}: {note}"
                for name, side in zip("AB", sides, strict=True)
                for note in side.notes
            ),
            *comparison.notes,
        ),
    )


def _read(target: str | Path) -> Results:
    if any((Path(target) / name).is_file() for name in (RANKS.file_name, FLIPS.file_name)):
        return Results.read(target)
    from altgrad_inspect.api.run import report

    return report(target)
