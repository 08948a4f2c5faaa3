"""Tables that were measured or read, with what the rules say about them. Never imports torch."""

from dataclasses import asdict

from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.tables.convert import build_table
from altgrad_inspect.tables.results import Results
from altgrad_inspect.tables.schema import ALERTS, TRENDS, VERDICTS
from altgrad_inspect.trends.detect import diagnose


def add_diagnosis(subject: str, measured: Results, settings: TrendSettings) -> Results:
    """Return the tables of ``measured``, with trends, alerts and verdicts made from them."""
    diagnosis = diagnose(
        settings,
        ranks=measured.ranks,
        flips=measured.flips,
        checkpoints=measured.checkpoints,
    )
    return Results(
        subject=subject,
        run=measured.run,
        tables={
            **measured.tables,
            TRENDS.name: build_table(TRENDS, diagnosis.points),
            ALERTS.name: build_table(ALERTS, diagnosis.alerts),
            VERDICTS.name: build_table(VERDICTS, diagnosis.verdicts),
        },
        settings={**measured.settings, "trends": asdict(settings)},
        notes=measured.notes,
        device=measured.device,
    )
