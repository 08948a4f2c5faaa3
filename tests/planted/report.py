"""The tables of docs/detection.md, written between its markers."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.rules import RULES, Rule
from altgrad_inspect.trends.rules.bit_stalled import find_bit_stalls
from altgrad_inspect.trends.rules.oscillation import find_oscillations
from altgrad_inspect.trends.rules.outlier import find_outliers
from altgrad_inspect.trends.rules.rank_break import find_rank_breaks
from altgrad_inspect.trends.rules.rank_drop import find_rank_drops
from altgrad_inspect.trends.rules.rank_early import find_early_signs
from altgrad_inspect.trends.rules.rank_slide import find_rank_slides
from altgrad_inspect.trends.rules.scale_jump import find_scale_jumps
from tests.planted.evaluate import (
    Material,
    PlantedResult,
    TrainedResult,
    judge_case,
    judge_trainings,
)
from tests.planted.plants import FAULTS
from tests.planted.scoring import watch
from tests.planted.sweep import LENGTHS

BEGIN: Final = "<!-- begin: python -m tests.planted.evaluate -->"
END: Final = "<!-- end -->"

SWEEPS: Final[Sequence[tuple[str, str, Sequence[float]]]] = (
    ("rank-drop", "rank_drop_threshold", (0.1, 0.2, 0.3, 0.4, 0.5)),
    ("rank-break", "break_deviations", (2.0, 3.0, 4.0, 6.0, 10.0)),
    ("rank-break", "rank_drop_threshold", (0.1, 0.2, 0.3, 0.4, 0.5)),
    ("rank-slide", "slide_significance", (1e-4, 1e-3, 0.01, 0.05, 0.2)),
    ("rank-early", "early_lambda", (0.025, 0.05, 0.1, 0.2, 0.4)),
    ("outlier-dominated", "outlier_share", (0.2, 0.35, 0.5, 0.7, 0.9)),
    ("bit-stalled", "stall_flip_fraction", (1e-5, 1e-4, 1e-3, 1e-2, 0.1)),
    ("bit-stalled", "stall_peer_share", (0.005, 0.02, 0.05, 0.2, 0.5)),
    ("oscillation", "oscillation_excess", (1.0, 1.5, 2.0, 3.0, 5.0)),
    ("oscillation", "oscillation_reverted", (0.1, 0.25, 0.5, 0.75)),
    ("scale-jump", "scale_jump_ratio", (1.25, 1.6, 2.5, 4.0, 8.0)),
)
"""Rule, setting, values: the default is among them."""

COMBINED: Final = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""All thresholds of falls and shares times this."""

ROC_LENGTHS: Final = (20,)

_RULES: Final[Mapping[str, Rule]] = {
    "rank-drop": find_rank_drops,
    "rank-break": find_rank_breaks,
    "rank-slide": find_rank_slides,
    "rank-early": find_early_signs,
    "outlier-dominated": find_outliers,
    "bit-stalled": find_bit_stalls,
    "oscillation": find_oscillations,
    "scale-jump": find_scale_jumps,
}


def render_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _cell(results: Sequence[PlantedResult]) -> str:
    delays = sorted(one.delay for one in results if one.delay is not None)
    text = f"{len(delays)}/{len(results)}"
    return f"{text}, {median(delays):g} (≤ {delays[-1]})" if delays else text


def render_planted(results: Sequence[PlantedResult]) -> str:
    """Return recall and delay by fault, strength and length."""
    rows = []
    for fault in FAULTS:
        if not fault.rules:
            continue
        for strength in fault.strengths:
            mine = [
                one
                for one in results
                if one.case.fault.name == fault.name and one.case.strength == strength
            ]
            by_length = [
                _cell([one for one in mine if one.case.course.num_checkpoints == length])
                for length in LENGTHS
            ]
            by = Counter(rule for one in mine for rule in one.delays)
            rules = ", ".join(f"{rule} {count}" for rule, count in by.most_common())
            label = f"{strength:g} {fault.unit}" if fault.unit else ""
            rows.append([fault.name, label, *by_length, rules or "none"])
    head = ["fault", "strength", *(f"{length} checkpoints" for length in LENGTHS), "named by"]
    return render_table(head, rows)


def count_false_alarms(
    material: Material, settings: TrendSettings, *, rules: Iterable[Rule] = RULES
) -> Counter[str]:
    """Return, by rule, the healthy planted layer-runs that it ever accused."""
    return Counter(
        rule
        for tables in material.healthy.values()
        for rule, _ in watch(tables, settings, rules=rules).first
    )


def render_false_alarms(
    material: Material,
    results: Sequence[PlantedResult],
    trained: Sequence[TrainedResult],
    settings: TrendSettings,
) -> str:
    """Return who was accused and had nothing."""
    healthy = count_false_alarms(material, settings)
    controls = [one for one in results if not one.case.fault.rules]
    planted = [one for one in results if one.case.fault.rules]
    quiet = [one for one in trained if one.cause == "healthy"]
    num_trained = sum(
        len(set(tables.ranks.column("layer").to_pylist()))
        for (_, cause), tables in material.trained.items()
        if cause == "healthy"
    )
    rows: list[Sequence[object]] = [
        ["healthy, moved by simulated Adam", material.num_healthy_layers, _count(healthy)],
        [
            "healthy, trained from scratch",
            num_trained,
            _count(Counter(rule for one in quiet for rule, _ in one.before | one.elsewhere)),
        ],
        [
            "±0 alternation, otherwise healthy",
            len(controls),
            _count(Counter(rule for one in controls for rule in one.delays)),
        ],
        [
            "bystanders of one planted fault",
            sum(one.num_bystanders for one in planted),
            _count(Counter(rule for one in planted for rule, _ in one.false_alarms)),
        ],
    ]
    return render_table(["layers", "layer-runs", "accused at warning or above"], rows)


def _count(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {rule}" for rule, number in counts.most_common()) or "0"


def render_trained(results: Sequence[TrainedResult]) -> str:
    """Return which rule named the cause of each trained run, and when."""
    rows = []
    for one in results:
        if one.cause == "healthy":
            continue
        delays = sorted(one.delays.items(), key=lambda item: item[1])
        text = ", ".join(f"{rule} {delay}" for rule, delay in delays) or "not named"
        others = Counter(rule for rule, _ in one.elsewhere)
        rows.append([one.cause, one.recipe.name, text, _count(others)])
    rows.sort(key=lambda row: row[0])
    return render_table(["cause", "recipe", "named by, after", "others accused after it"], rows)


def _select(material: Material) -> Material:
    cases = tuple(case for case in material.cases if case.course.num_checkpoints in ROC_LENGTHS)
    names = {case.course.name for case in cases}
    return replace(
        material,
        cases=cases,
        healthy={name: one for name, one in material.healthy.items() if name in names},
        trained={key: one for key, one in material.trained.items() if key[1] == "healthy"},
    )


def _sweep_point(
    material: Material, settings: TrendSettings, rule: str | None, label: Sequence[object]
) -> Sequence[object]:
    rules = RULES if rule is None else (_RULES[rule],)
    alarms = count_false_alarms(material, settings, rules=rules)
    trained = Counter(
        name
        for one in judge_trainings(material, settings, rules=rules)
        for name, _ in one.before | one.elsewhere
    )
    delays: list[int | None] = []
    for case in material.cases:
        if case.fault.rules and (rule is None or rule in case.fault.rules):
            found = judge_case(case, settings, rules=rules)
            delays.append(found.delay if rule is None else found.delays.get(rule))
    named = sorted(delay for delay in delays if delay is not None)
    return [
        *label,
        alarms.total() if rule is None else alarms[rule],
        trained.total() if rule is None else trained[rule],
        f"{len(named)}/{len(delays)}",
        f"{median(named):g}" if named else "",
    ]


def render_sweeps(material: Material, settings: TrendSettings) -> str:
    """Return false alarms against recall and delay, over the main threshold of each rule."""
    selected = _select(material)
    rows = []
    for rule, setting, values in SWEEPS:
        for value in values:
            change: dict[str, Any] = {setting: value}
            mark = " (default)" if value == getattr(settings, setting) else ""
            label = [rule, f"`{setting}` {value:g}{mark}"]
            rows.append(_sweep_point(selected, replace(settings, **change), rule, label))
    for factor in COMBINED:
        label = ["all rules", f"all thresholds times {factor:g}"]
        rows.append(_sweep_point(selected, _scale(settings, factor), None, label))
    head = [
        "rule",
        "at",
        "false alarms, simulated",
        "false alarms, trained",
        "named",
        "median delay",
    ]
    return render_table(head, rows)


def _scale(settings: TrendSettings, factor: float) -> TrendSettings:
    return replace(
        settings,
        rank_drop_threshold=min(0.95, settings.rank_drop_threshold * factor),
        rank_wander_fraction=min(0.95, settings.rank_wander_fraction * factor),
        break_deviations=settings.break_deviations * factor,
        early_lambda=settings.early_lambda * factor,
        oscillation_excess=1 + (settings.oscillation_excess - 1) * factor,
        oscillation_reverted=min(0.95, settings.oscillation_reverted * factor),
        stall_flip_fraction=settings.stall_flip_fraction / factor,
        stall_peer_share=settings.stall_peer_share / factor,
        scale_jump_ratio=1 + (settings.scale_jump_ratio - 1) * factor,
    )


def render_part(title: str, material: Material, settings: TrendSettings) -> list[str]:
    """Return the sections of one set of runs."""
    results = [judge_case(case, settings) for case in material.cases]
    trained = list(judge_trainings(material, settings))
    recipes = len({recipe for recipe, _ in material.trained})
    return [
        f"## {title}",
        (
            f"{len(material.healthy)} simulated courses ({material.num_healthy_layers:,} layers),"
            f" {len(results)} planted cases, {recipes} recipes trained healthy and with six causes."
        ),
        "### False alarms",
        render_false_alarms(material, results, trained, settings),
        "### Planted faults",
        render_planted(results),
        "### Causes made in training",
        render_trained(trained),
    ]


def write_report(path: Path, tuned: Material, held_out: Material) -> None:
    """Write all tables between the markers of ``path``."""
    settings = TrendSettings()
    parts = [
        *render_part("On what the defaults were chosen on", tuned, settings),
        *render_part("Held out", held_out, settings),
        "## Delay against false alarms",
        render_sweeps(tuned, settings),
    ]
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    middle = "\n\n".join(parts)
    path.write_text(f"{before}{BEGIN}\n\n{middle}\n\n{END}{after}", encoding="utf-8")
