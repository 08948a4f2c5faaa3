"""Train the sample runs: one healthy, one with a fault in each of seven layers.

    python sample_checkpoints/make.py [--out DIR]

One seed, one thread and deterministic kernels: on one machine and one version of torch the
files come out the same to the last byte.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

HERE: Final = Path(__file__).resolve().parent
if str(HERE.parent) not in sys.path:  # a script sees its own folder only
    sys.path.insert(0, str(HERE.parent))

from sample_checkpoints.faults import FAULTS, Fault  # noqa: E402
from sample_checkpoints.model import Gpt, Shape  # noqa: E402
from sample_checkpoints.text import make_text, tokenize  # noqa: E402

SEED: Final = 20
STEPS: Final = 1500
SAVE_EVERY: Final = 125  # odd, so that what hops every step shows between checkpoints
LOG_EVERY: Final = 25
WARMUP: Final = 60
PEAK_LR: Final = 3e-3
FLOOR: Final = 0.1  # the schedule ends at this share of the peak
BATCH: Final = 16
CHARACTERS: Final = 200_000

Save: TypeAlias = Callable[[int, "Run"], None]


@dataclass(kw_only=True)
class Run:
    """One training run as it stands.

    Attributes:
        model: What is trained.
        optimizer: AdamW with one parameter group for each parameter.
        shape: The model's size.
        tokens: The text.
        log: What Hugging Face's Trainer calls ``log_history``.
    """

    model: Gpt
    optimizer: torch.optim.AdamW
    shape: Shape
    tokens: Tensor
    log: list[dict[str, float | int]] = field(default_factory=list)


def start() -> Run:
    """Return the run before its first step, always the same one."""
    tokens, vocabulary = tokenize(make_text(seed=SEED, length=CHARACTERS))
    shape = Shape(vocabulary=vocabulary)
    model = Gpt(shape, generator=torch.Generator().manual_seed(SEED))
    groups = [
        {
            "params": [parameter],
            "name": name,
            "peak_lr": PEAK_LR,
            "scheduled": True,
            "weight_decay": 0.1 if parameter.dim() == 2 else 0.0,
        }
        for name, parameter in model.named_parameters()
    ]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_LR, betas=(0.9, 0.95), foreach=False)
    return Run(model=model, optimizer=optimizer, shape=shape, tokens=torch.tensor(tokens))


def schedule(step: int) -> float:
    """Return the share of the peak learning rate: a linear warm-up, then a cosine."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / STEPS))
    return min(step / WARMUP, 1.0) * (FLOOR + (1 - FLOOR) * cosine)


def draw_batch(run: Run, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return random stretches of the text and the characters that follow them."""
    length = run.shape.context + 1
    starts = torch.randint(0, len(run.tokens) - length, (BATCH,), generator=generator)
    stretches = run.tokens[starts[:, None] + torch.arange(length)]
    return stretches[:, :-1], stretches[:, 1:]


def make_step(run: Run, step: int, batch: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Train on one batch; return the loss and the norm of its gradient."""
    for group in run.optimizer.param_groups:
        group["lr"] = group["peak_lr"] * (schedule(step) if group["scheduled"] else 1.0)
    run.optimizer.zero_grad()
    loss = run.model(*batch)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(run.model.parameters(), max_norm=1.0)
    run.optimizer.step()
    return loss.item(), norm.item()


def cause(run: Run, fault: Fault) -> None:
    """Make the mistake of ``fault`` in ``run``."""
    groups = {group["name"]: group for group in run.optimizer.param_groups}
    parameter = run.model.get_parameter(fault.layer)
    fault.cause(parameter, groups[fault.layer], run.optimizer)


def train(*, faults: tuple[Fault, ...], save: Save) -> None:
    """Train from the start to the last step, saving as it goes."""
    run = start()
    generator = torch.Generator().manual_seed(SEED + 1)
    losses: list[float] = []
    for step in range(1, STEPS + 1):
        for fault in faults:
            if fault.step_cause == step:
                cause(run, fault)
        loss, norm = make_step(run, step, draw_batch(run, generator))
        losses.append(loss)
        if step % LOG_EVERY == 0:
            run.log.append(
                {
                    "epoch": round(step * BATCH * run.shape.context / CHARACTERS, 4),
                    "grad_norm": round(norm, 6),
                    "learning_rate": PEAK_LR * schedule(step),
                    "loss": round(sum(losses) / len(losses), 4),
                    "step": step,
                }
            )
            losses.clear()
        if step % SAVE_EVERY == 0:
            save(step, run)
            print(f"step {step}: loss {run.log[-1]['loss']}", flush=True)


def trainer_state(step: int, run: Run) -> dict[str, Any]:
    """Return the ``trainer_state.json`` of Hugging Face's Trainer at ``step``."""
    epochs = STEPS * BATCH * run.shape.context / CHARACTERS
    return {
        "best_metric": None,
        "best_model_checkpoint": None,
        "epoch": run.log[-1]["epoch"],
        "eval_steps": 500,
        "global_step": step,
        "is_hyper_param_search": False,
        "is_local_process_zero": True,
        "is_world_process_zero": True,
        "log_history": run.log,
        "logging_steps": LOG_EVERY,
        "max_steps": STEPS,
        "num_input_tokens_seen": step * BATCH * run.shape.context,
        "num_train_epochs": math.ceil(epochs),
        "save_steps": SAVE_EVERY,
        "train_batch_size": BATCH,
        "trial_name": None,
        "trial_params": None,
    }


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_weights(path: Path, run: Run) -> None:
    weights = {name: p.detach().contiguous() for name, p in run.model.named_parameters()}
    save_file(weights, path, metadata={"format": "pt"})


def save_as_trainer(directory: Path, step: int, run: Run) -> None:
    """Save as Hugging Face's Trainer does: a folder for each checkpoint."""
    checkpoint = directory / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True, exist_ok=True)
    _write_weights(checkpoint / "model.safetensors", run)
    _write_json(checkpoint / "config.json", run.shape.as_config())
    _write_json(checkpoint / "trainer_state.json", trainer_state(step, run))


def save_flat(directory: Path, step: int, run: Run) -> None:
    """Save as a short script does: one file for each checkpoint, and nothing else."""
    directory.mkdir(parents=True, exist_ok=True)
    _write_weights(directory / f"step_{step:06d}.safetensors", run)


def main() -> None:
    """Make both runs and say how long it took."""
    parser = argparse.ArgumentParser(description="Train the sample runs.")
    parser.add_argument("--out", type=Path, default=HERE, help="where to write (default: here)")
    out: Path = parser.parse_args().out
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    began = time.monotonic()
    train(faults=(), save=partial(save_as_trainer, out / "healthy"))
    train(faults=FAULTS, save=partial(save_flat, out / "faulty"))
    _write_json(out / "truth.json", {"faulty": [fault.truth() for fault in FAULTS]})
    print(f"made both runs in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
