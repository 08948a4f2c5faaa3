"""Small GPTs really trained from scratch, healthy or with one cause made half way.

The model and the text are those of the sample checkpoints. Recipes differ in size, learning
rate, warm-up, schedule, batch and seed, so that no threshold fits one run only.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from sample_checkpoints.model import Gpt, Shape
from sample_checkpoints.text import make_text, tokenize
from tests.planted.recorder import LayerRecorder, LayerRows, Tables, build_tables

CHARACTERS: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model is trained; ``floor`` is where the cosine ends, as a share of the peak."""

    name: str
    width: int = 32
    hidden: int = 96
    blocks: int = 4
    steps: int = 600
    save_every: int = 25
    save_first: bool = False
    peak_lr: float = 3e-3
    warmup: int = 40
    floor: float = 0.1
    weight_decay: float = 0.1
    batch: int = 8
    context: int = 48
    seed: int = 1

    @property
    def step_cause(self) -> int:
        """The first step made with the mistake: the one after the checkpoint half way."""
        return self.steps // 2 + 1

    @property
    def step_visible(self) -> int:
        """The first checkpoint that shows it."""
        return self.step_cause - 1 + self.save_every

    def learning_rate(self, step: int) -> float:
        """Return the rate of ``step``: a linear warm-up, then a cosine."""
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        share = self.floor + (1 - self.floor) * cosine
        return self.peak_lr * min(step / self.warmup, 1.0) * share


RECIPES: Final = (
    Recipe(name="plain"),
    Recipe(name="dense", width=40, hidden=80, blocks=3, save_every=10, steps=500, seed=2),
    Recipe(name="hot", peak_lr=8e-3, warmup=100, floor=0.0, save_every=20, blocks=6, seed=3),
    Recipe(name="cold", peak_lr=1e-3, warmup=10, floor=0.2, batch=12, steps=800, save_every=50,
           seed=4),
    Recipe(name="first", save_first=True, width=48, hidden=128, blocks=2, save_every=30,
           weight_decay=0.0, warmup=80, seed=5),
    Recipe(name="other seed", seed=11),
    Recipe(name="wide", width=64, hidden=160, blocks=3, steps=480, save_every=40,
           peak_lr=2e-3, batch=12, seed=12),
    Recipe(name="steep", peak_lr=5e-3, warmup=150, floor=0.0, save_every=15,
           blocks=5, hidden=64, save_first=True, seed=13),
)  # fmt: skip
"""What thresholds and rules were chosen on."""

HELD_OUT_RECIPES: Final = (
    Recipe(name="long", steps=1000, save_every=40, peak_lr=2e-3, warmup=20, batch=6, seed=21),
    Recipe(name="deep", blocks=8, hidden=64, steps=450, save_every=18, peak_lr=4e-3, warmup=90,
           seed=22),
    Recipe(name="small", blocks=3, width=24, hidden=48, save_first=True, save_every=12,
           peak_lr=6e-3, weight_decay=0.3, warmup=30, floor=0.0, seed=23),
)  # fmt: skip
"""What they were then tried on, once."""


class Training:
    """A run as it stands.

    Attributes:
        model: What is trained.
        rates: Factor of the learning rate, by parameter; a cause changes it.
        after_step: Called after every step; a cause adds to it.
    """

    def __init__(self, recipe: Recipe) -> None:
        tokens, vocabulary = tokenize(make_text(seed=recipe.seed, length=CHARACTERS))
        shape = Shape(
            vocabulary=vocabulary,
            width=recipe.width,
            hidden=recipe.hidden,
            blocks=recipe.blocks,
            context=recipe.context,
        )
        self.recipe = recipe
        self.model = Gpt(shape, generator=torch.Generator().manual_seed(recipe.seed))
        self.rates = {name: 1.0 for name, _ in self.model.named_parameters()}
        self.after_step: list[Callable[[], None]] = []
        self._tokens = torch.tensor(tokens)
        self._random = torch.Generator().manual_seed(1000 + recipe.seed)
        self._optimizer = torch.optim.AdamW(
            [
                {
                    "params": [parameter],
                    "name": name,
                    "weight_decay": recipe.weight_decay if parameter.dim() == 2 else 0.0,
                }
                for name, parameter in self.model.named_parameters()
            ],
            betas=(0.9, 0.95),
        )

    def make_step(self, step: int) -> float:
        """Train on one batch; return the loss."""
        length = self.recipe.context + 1
        starts = torch.randint(
            0, len(self._tokens) - length, (self.recipe.batch,), generator=self._random
        )
        batch = self._tokens[starts[:, None] + torch.arange(length)]
        for group in self._optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate(step) * self.rates[group["name"]]
        self._optimizer.zero_grad()
        loss: Tensor = self.model(batch[:, :-1], batch[:, 1:])
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=1.0)
        self._optimizer.step()
        for hook in self.after_step:
            hook()
        return loss.item()


Cause = Callable[[Training], None]


def raise_all_rates(training: Training) -> None:
    """Make the learning rate 40 times what it was."""
    for name in training.rates:
        training.rates[name] *= 40


def starve(layer: str, factor: float = 1e-6) -> Cause:
    """Make the learning rate of ``layer`` almost zero."""

    def cause(training: Training) -> None:
        training.rates[layer] *= factor

    return cause


def decay_tail(layer: str, strength: float) -> Cause:
    """Apply an orthogonality regularizer to ``layer`` with the wrong sign.

    Moving by W - W W'W / s1^2 lifts every singular value towards the largest; moving
    against it lets all others decay, by up to ``strength`` a step.
    """

    def cause(training: Training) -> None:
        weight = training.model.get_parameter(layer)

        def regularize() -> None:
            with torch.no_grad():
                top = torch.linalg.matrix_norm(weight, ord=2)
                weight.sub_(weight - weight @ weight.T @ weight / top**2, alpha=strength)

        training.after_step.append(regularize)

    return cause


class Run:
    """A training and what was measured of it so far."""

    def __init__(self, recipe: Recipe) -> None:
        self.training = Training(recipe)
        self._recorders = {name: LayerRecorder(name) for name in self._list_matrices()}
        self._losses: dict[int, float | None] = {}
        self._recent: list[float] = []
        if recipe.save_first:
            self._save(0)

    def _list_matrices(self) -> dict[str, nn.Parameter]:
        return {n: p for n, p in self.training.model.named_parameters() if p.dim() == 2}

    def _save(self, step: int) -> None:
        for name, weights in self._list_matrices().items():
            self._recorders[name].see(step, weights)
        self._losses[step] = sum(self._recent) / len(self._recent) if self._recent else None
        self._recent.clear()

    def go_on(self, first: int, last: int) -> None:
        """Train from step ``first`` to ``last``, saving as the recipe says."""
        for step in range(first, last + 1):
            self._recent.append(self.training.make_step(step))
            if step % self.training.recipe.save_every == 0:
                self._save(step)

    @property
    def tables(self) -> Tables:
        """What was measured so far."""
        rows: Mapping[str, LayerRows] = {name: one.rows for name, one in self._recorders.items()}
        return build_tables(rows, self._losses)


def train(recipe: Recipe, causes: Mapping[str, Cause | None]) -> dict[str, Tables]:
    """Train to half way once, and on from there once a cause, made just before the next step.

    Args:
        recipe: How.
        causes: By name; None is a healthy run.
    """
    root = Run(recipe)
    root.go_on(1, recipe.step_cause - 1)
    tables = {}
    for name, cause in causes.items():
        run = copy.deepcopy(root)
        if cause is not None:
            cause(run.training)
        run.go_on(recipe.step_cause, recipe.steps)
        tables[name] = run.tables
    return tables
