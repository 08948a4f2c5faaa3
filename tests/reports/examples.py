"""Results of a made-up run, row by row, with everything in them that a report shows."""

import pyarrow as pa

from altgrad_inspect.records import Verdict
from altgrad_inspect.tables.results import Results
from altgrad_inspect.tables.schema import TABLES

STEPS = (100, 200, 300, 400, 500, 600)
MLP = "model.layers.10.mlp.down_proj.weight"
ATTENTION = "model.layers.2.self_attn.q_proj.weight"
DEAD = "model.layers.2.self_attn.k_proj.weight"
HEAD = "lm_head.weight"


def make_table(name: str, rows: list[dict[str, object]]) -> pa.Table:
    schema = TABLES[name].arrow
    full = [{column: row.get(column) for column in schema.names} for row in rows]
    assert all(row.keys() <= set(schema.names) for row in rows)
    return pa.Table.from_pylist(full, schema=schema)


def flips_row(layer: str, index: int, num_flipped: int, **others: object) -> dict[str, object]:
    weights, updated = 65_536, 30_000
    return {
        "layer": layer,
        "quantizer": "e4m3:tensor:amax",
        "step_from": STEPS[index],
        "step_to": STEPS[index + 1],
        "num_weights": weights,
        "num_updated": updated,
        "num_flipped": num_flipped,
        "flip_fraction": num_flipped / weights,
        "num_stalled": updated - num_flipped,
        "stall_fraction": 1 - num_flipped / updated,
        "num_recoded": num_flipped + 7,
        "recode_fraction": (num_flipped + 7) / weights,
        "num_expected_flips": num_flipped * 1.01,
        "flip_excess": 1 / 1.01,
        "num_reverted": num_flipped // 10 if index else None,
        "num_saturated": 0,
        "relative_update": 0.0123,
        "status": "ok",
        **others,
    }


def ranks_row(layer: str, step: int, stable: float | None, **others: object) -> dict[str, object]:
    is_defined = stable is not None
    return {
        "layer": layer,
        "matrix": 0,
        "subject": "weight",
        "step": step,
        "rows": 256,
        "cols": 1024,
        "stable_rank": stable,
        "effective_rank": stable * 3.1 if stable is not None else None,
        "spectral_norm": 2.5 if is_defined else None,
        "outlier_share": 0.015 if is_defined else None,
        "method": "exact" if is_defined else None,
        "stable_rank_error": 2e-9 if is_defined else None,
        "effective_rank_error": 3e-8 if is_defined else None,
        "status": "ok" if is_defined else "undefined",
        "reason": None if is_defined else "zero matrix",
        **others,
    }


def alert_row(layer: str, severity: str, rule: str, **others: object) -> dict[str, object]:
    return {
        "fingerprint": f"{rule}-{layer}"[:16],
        "rule": rule,
        "severity": severity,
        "layer": layer,
        "matrix": 0,
        "metric": "stable_rank",
        "step_onset": 300,
        "step_detected": 500,
        "value": 4.0,
        "baseline": 40.0,
        "drop_fraction": 0.9,
        "message": f"The smoothed stable rank of {layer} fell 62% below its baseline of 43.9, "
        "to 16.7 at step 600; it began at step 300 and passed the threshold at step 500.",
        **others,
    }


def verdict_row(
    layer: str, verdict: str, severity: str = "critical", **others: object
) -> dict[str, object]:
    return {
        "layer": layer,
        "verdict": verdict,
        "severity": severity,
        "step_onset": 300,
        "evidence": f"{layer} is {verdict}, as 3 of its 6 checkpoints say.",
        **others,
    }


def make_every_verdict() -> Results:
    """Return a run in which every verdict occurs, one of them in a hundred layers at once."""
    verdicts, alerts = [], []
    severities = {"rescaling": "warning", "stalling": "warning", "oscillating": "warning"}
    metrics = {"bit-stalled": "flip_fraction[e4m3:tensor:amax]", "dead": "frobenius_norm"}
    for index, verdict in enumerate(Verdict):
        layer, word = f"model.layers.{index}.mlp.up_proj.weight", str(verdict)
        if word in {"healthy", "undecided", "frozen"}:
            verdicts.append(verdict_row(layer, word, "info", step_onset=None))
            continue
        severity = severities.get(word, "critical")
        row = verdict_row(layer, word, severity)
        verdicts.append(row)
        metric = metrics.get(word, "stable_rank")
        message = row["evidence"]
        alerts.append(alert_row(layer, severity, f"r-{word}", message=message, metric=metric))
    for index in range(100):
        layer = f"model.layers.{index}.mlp.down_proj.weight"
        verdicts.append(verdict_row(layer, "collapsing"))
        message = verdicts[-1]["evidence"]
        alerts.append(alert_row(layer, "critical", "rank-drop", message=message))
    named = [str(row["layer"]) for row in verdicts]
    ranks = [
        ranks_row(layer, *pair) for layer in named for pair in zip(STEPS, FALLING, strict=True)
    ]
    return make_results(
        checkpoints=make_checkpoints(),
        ranks=make_table("ranks", ranks),
        flips=make_table("flips", [flips_row(layer, 0, 9) for layer in named]),
        alerts=make_table("alerts", alerts),
        verdicts=make_table("verdicts", verdicts),
    )


def make_healthy() -> Results:
    """Return a run without a fault."""
    layers = [f"model.layers.{index}.mlp.up_proj.weight" for index in range(12)]
    ranks = [
        ranks_row(layer, *pair) for layer in layers for pair in zip(STEPS, STEADY, strict=True)
    ]
    return make_results(
        checkpoints=make_table("checkpoints", make_checkpoints().slice(0, 6).to_pylist()),
        flips=make_table("flips", [flips_row(name, i, 4000) for name in layers for i in range(5)]),
        ranks=make_table("ranks", ranks),
        alerts=make_table("alerts", []),
        verdicts=make_table(
            "verdicts",
            [verdict_row(name, "healthy", "info", step_onset=None) for name in layers],
        ),
        skipped=make_table("skipped", []),
    )


def trends_rows(layer: str, values: list[float], state: str) -> list[dict[str, object]]:
    return [
        {
            "layer": layer,
            "matrix": 0,
            "metric": "stable_rank",
            "step": step,
            "value": value,
            "ema": value * 1.05,
            "baseline": values[0],
            "drop_fraction": 1 - value / values[0],
            "threshold": 0.15,
            "state": state,
        }
        for step, value in zip(STEPS, values, strict=True)
    ]


FALLING = [43.9, 43.1, 38.0, 24.5, 9.1, 1.21]
STEADY = [21.3, 21.2, 21.4, 21.2, 21.1, 21.2]


def make_flips() -> pa.Table:
    rows = [flips_row(HEAD, i, n) for i, n in enumerate((9000, 8000, 7000, 900, 3))]
    rows += [flips_row(MLP, i, n) for i, n in enumerate((4100, 4050, 4120, 4010, 4090))]
    rows += [flips_row(ATTENTION, i, n) for i, n in enumerate((4100, 4050, 4120, 4010, 4090))]
    nothing = dict.fromkeys(("stall_fraction", "flip_excess", "num_expected_flips"))
    rows += [flips_row(DEAD, i, 0, **nothing) for i in range(4)]
    rows += [
        {
            **dict.fromkeys(TABLES["flips"].columns),
            "layer": DEAD,
            "quantizer": "e4m3:tensor:amax",
            "step_from": 500,
            "step_to": 600,
            "status": "failed",
            "reason": "cannot be read: Input/output error",
        }
    ]
    return make_table("flips", rows)


def make_ranks() -> pa.Table:
    rows = [ranks_row(HEAD, *pair) for pair in zip(STEPS, FALLING, strict=True)]
    rows += [ranks_row(MLP, *pair) for pair in zip(STEPS, STEADY, strict=True)]
    rows += [ranks_row(ATTENTION, *pair) for pair in zip(STEPS, STEADY, strict=True)]
    rows += [ranks_row(DEAD, step, 5.0 if step < 400 else None) for step in STEPS]
    return make_table("ranks", rows)


def make_checkpoints() -> pa.Table:
    rows: list[dict[str, object]] = [
        {
            "step": step,
            "path": f"checkpoint-{step}",
            "layout": "trainer",
            "scheme": "plain",
            "num_layers": 40,
            "num_weights": 1_234_567,
            "size_bytes": 2_469_134,
            "loss": 5.5 - step / 200,
            "status": "ok",
        }
        for step in STEPS
    ]
    rows.append(
        {
            "step": 700,
            "path": "checkpoint-700",
            "layout": "trainer",
            "status": "skipped",
            "reason": "model-00002-of-00002.safetensors is not there yet",
        }
    )
    return make_table("checkpoints", rows)


def make_alerts() -> pa.Table:
    dead = {
        "metric": "flip_fraction",
        "message": f"{DEAD} has been zero since step 400.",
        "step_onset": 400,
    }
    return make_table(
        "alerts",
        [
            alert_row(HEAD, "critical", "rank-drop"),
            alert_row(DEAD, "critical", "dead-layer", **dead),
            alert_row(HEAD, "warning", "flips-fading", metric="flip_fraction"),
            alert_row(MLP, "warning", "rank-drop"),
            alert_row(ATTENTION, "info", "rank-drop"),
        ],
    )


def make_results(subject: str = "report", **tables: pa.Table) -> Results:
    chosen = tables or {
        "checkpoints": make_checkpoints(),
        "flips": make_flips(),
        "ranks": make_ranks(),
        "trends": make_table(
            "trends", trends_rows(HEAD, FALLING, "critical") + trends_rows(MLP, STEADY, "ok")
        ),
        "alerts": make_alerts(),
        "skipped": make_table(
            "skipped",
            [
                {
                    "layer": f"model.layers.{i}.input_layernorm.weight",
                    "shape": [256],
                    "dtype": "BF16",
                    "reason": "ranks: 1-D",
                }
                for i in range(12)
            ],
        ),
    }
    return Results(
        subject=subject,
        run="runs/tiny",
        tables=chosen,
        settings={"quantizers": ["e4m3:tensor:amax"]},
        notes=("lm_head.weight is tied to model.embed_tokens.weight, which is read instead",),
    )
