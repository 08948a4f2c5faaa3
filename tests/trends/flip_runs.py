"""Runs made up by hand: the flips and ranks rows of a few layers, and the evidence in them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from altgrad_inspect.records import FlipRecord, RankRecord, Status
from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.tables.convert import build_table
from altgrad_inspect.tables.schema import FLIPS, RANKS
from altgrad_inspect.trends.rules.evidence import Evidence
from altgrad_inspect.trends.series import find_flip_series, find_rank_series
from tests.tables.examples import COUNTS, SPECTRUM

LAYER = "model.layers.0.mlp.up_proj.weight"
QUANTIZER = "e4m3:tensor:amax"
FAILED = "failed"

_PLAIN = replace(
    COUNTS,
    num_saturated=0,
    num_underflowed=0,
    scale_ratio_max=1.01,
    update_norm=1.0,
    relative_update=0.1,
)


def flip_run(
    flipped: Sequence[int | None],
    layer: str = LAYER,
    *,
    num_weights: int = 10_000,
    steps: Sequence[int] | None = None,
    quantizer: str = QUANTIZER,
    **columns: Sequence[Any],
) -> list[FlipRecord]:
    """Rows of one layer, one a number in ``flipped``; None is a transition that failed.

    Everything else is that of a healthy layer whose weights all move, unless ``columns`` says
    otherwise, one value a transition. Checkpoints are 100 steps apart unless ``steps`` says.
    """
    steps = steps or range(0, 100 * len(flipped) + 1, 100)
    records = []
    for index, number in enumerate(flipped):
        record = FlipRecord(
            layer=layer, quantizer=quantizer, step_from=steps[index], step_to=steps[index + 1]
        )
        if number is None:
            records.append(replace(record, status=Status.FAILED, reason="read error"))
            continue
        changes: dict[str, Any] = {
            "num_weights": num_weights,
            "num_updated": num_weights,
            "num_flipped": number,
            "num_expected_flips": float(number),
            "num_reverted": None if index == 0 else 0,
        }
        changes |= {name: values[index] for name, values in columns.items()}
        records.append(replace(record, counts=replace(_PLAIN, **changes)))
    return records


def peers_run(
    flipped: Sequence[int | None], blocks: Iterable[int] = (1, 2, 3), **more: Any
) -> list[FlipRecord]:
    """Rows of the peers of `LAYER`, all alike."""
    return [
        record
        for block in blocks
        for record in flip_run(flipped, f"model.layers.{block}.mlp.up_proj.weight", **more)
    ]


def rank_run(
    values: Sequence[float | str],
    layer: str = LAYER,
    *,
    matrix: int = 0,
    status: Status = Status.UNDEFINED,
    steps: Sequence[int] | None = None,
) -> list[RankRecord]:
    """Ranks rows of one matrix: a stable rank, or the reason why there is none.

    The reason `FAILED` makes a failed row; others have the status ``status``.
    """
    steps = steps or range(0, 100 * len(values), 100)
    records = []
    for step, value in zip(steps, values, strict=True):
        record = RankRecord(
            layer=layer, matrix=matrix, subject="weight", step=step, rows=100, cols=100
        )
        if isinstance(value, str):
            undefined = Status.FAILED if value == FAILED else status
            records.append(replace(record, status=undefined, reason=value))
        else:
            records.append(replace(record, spectrum=replace(SPECTRUM, stable_rank=value)))
    return records


def evidence_of(
    flips: Sequence[FlipRecord] = (),
    ranks: Sequence[RankRecord] = (),
    *,
    losses: Sequence[float] = (),
    loss_steps: Sequence[int] | None = None,
    settings: TrendSettings | None = None,
) -> Evidence:
    """All that a rule is given; losses are 100 steps apart unless ``loss_steps`` says."""
    settings = settings or TrendSettings()
    flips_table = build_table(FLIPS, flips) if flips else None
    ranks_table = build_table(RANKS, ranks) if ranks else None
    series = find_flip_series(flips_table, settings) if flips_table is not None else []
    if ranks_table is not None:
        series += find_rank_series(ranks_table, settings, frozenset())
    loss_steps = loss_steps or range(0, 100 * len(losses), 100)
    return Evidence(
        series=tuple(series),
        ranks=ranks_table,
        flips=flips_table,
        losses=tuple(zip(loss_steps, map(float, losses), strict=True)),
        settings=settings,
    )
