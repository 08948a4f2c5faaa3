"""Runs as trainers leave them, small."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from altgrad_inspect.refs import RunRef


def tensors(value: float = 0.0) -> dict[str, Tensor]:
    return {"embed.weight": torch.full((4, 2), value), "head.weight": torch.full((2, 2), value)}


def write_weights(path: Path, content: Mapping[str, Tensor] | None = None, **metadata: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(content or tensors()), path, metadata=metadata or None)
    return path


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_shards(directory: Path, content: Mapping[str, Tensor] | None = None) -> Path:
    """One layer a file, with an index."""
    layers = dict(content or tensors())
    names = {
        layer: f"model-{number:05}-of-{len(layers):05}.safetensors"
        for number, layer in enumerate(layers, start=1)
    }
    for layer, name in names.items():
        write_weights(directory / name, {layer: layers[layer]})
    write_json(
        directory / "model.safetensors.index.json",
        {"metadata": {"total_size": 1}, "weight_map": names},
    )
    return directory


def write_trainer(
    directory: Path, step: int, *, log: Sequence[Mapping[str, object]] = (), in_name: int = -1
) -> Path:
    """A checkpoint of a Hugging Face trainer."""
    checkpoint = directory / f"checkpoint-{step if in_name < 0 else in_name}"
    write_weights(checkpoint / "model.safetensors")
    write_json(
        checkpoint / "trainer_state.json",
        {"epoch": 1.0, "global_step": step, "log_history": list(log)},
    )
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        (checkpoint / name).write_bytes(b"\x80\x02")
    return checkpoint


def truncate(path: Path, num_bytes: int = 5) -> Path:
    path.write_bytes(path.read_bytes()[:-num_bytes])
    return path


def steps(run: RunRef) -> list[int]:
    return [checkpoint.step for checkpoint in run.checkpoints]


def layouts(run: RunRef) -> set[str]:
    return {checkpoint.layout for checkpoint in run.checkpoints}


def mention(run: RunRef, text: str) -> bool:
    return any(text in note for note in run.notes)
