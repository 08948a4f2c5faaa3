"""Checkpoints as nanotron leaves them: its paths, its metadata, its tensor parallelism.

Written after ``nanotron/serialize/utils.py:get_path`` and ``parallel/parameters.py:SlicesPair``.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from tests.checkpoints.layouts.known_run import QKV
from tests.checkpoints.runs_on_disk import write_json, write_weights

QKV_PARTS = (16, 4, 4)
"""Rows of query, key and value, which are cut one by one."""

Pairs = Sequence[tuple[Sequence[slice], Sequence[slice]]]


def write_nanotron(root: Path, run: Mapping[int, Mapping[str, Tensor]], *, tp: int = 2) -> Path:
    for step, weights in run.items():
        directory = root / str(step)
        for name, tensor in weights.items():
            write_layer(directory, name, tensor, tp=tp)
        optimizer = directory / "optimizer" / "model" / "embed"
        write_weights(optimizer / "optimizer_weight.safetensors", {"data": torch.ones(3)})
        (directory / "lr_scheduler").mkdir()
        (directory / "config.yaml").write_text("general: {}\n")
        write_json(directory / "model_config.json", {"hidden_size": 8})
        metas = {"consumed_train_samples": 9, "last_train_step": step}
        write_json(
            directory / "checkpoint_metadata.json",
            {"version": "1.5", "tp": tp, "dp": 1, "metas": metas},
        )
    (root / "latest.txt").write_text(str(max(run)))
    return root


def write_layer(directory: Path, name: str, tensor: Tensor, *, tp: int) -> None:
    if tensor.ndim == 0 or "norm" in name:
        write_weights(shard_path(directory, name), {"data": tensor})
        return
    dim = 1 if "o_proj" in name else 0
    cuts = (
        [
            [
                slice(base + rank * part // tp, base + (rank + 1) * part // tp)
                for base, part in QKV_AT
            ]
            for rank in range(tp)
        ]
        if name == QKV
        else [[one] for one in even_cuts(tensor.shape[dim], tp)]
    )
    for rank, mine in enumerate(cuts):
        shard = torch.cat(
            [tensor.narrow(dim, one.start, one.stop - one.start) for one in mine], dim
        )
        pairs, at = [], 0
        for one in mine:
            local = slice(at, at + one.stop - one.start)
            at = local.stop
            pairs.append((along(dim, tensor.ndim, local), along(dim, tensor.ndim, one)))
        write_shard(directory, name, shard, tensor.shape, pairs, rank=rank, tp=tp)


QKV_AT = tuple((sum(QKV_PARTS[:at]), part) for at, part in enumerate(QKV_PARTS))


def even_cuts(size: int, count: int) -> list[slice]:
    """Cuts of nearly equal size, the first ones larger."""
    edges = [-(-size * at // count) for at in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def along(dim: int, ndim: int, one: slice) -> list[slice]:
    return [one if at == dim else slice(None) for at in range(ndim)]


def write_shard(
    directory: Path,
    name: str,
    shard: Tensor,
    whole: Sequence[int],
    pairs: Pairs,
    *,
    rank: int,
    tp: int,
) -> Path:
    numbers = ", ".join(f"np.int64({size})" if rank % 2 else str(size) for size in whole)
    written = f"({numbers},)" if len(whole) == 1 else f"({numbers})"
    return write_weights(
        shard_path(directory, name, f"_pp-rank-0-of-1_tp-rank-{rank}-of-{tp}"),
        {"data": shard.contiguous()},
        version="1.5",
        unsharded_shape=written,
        local_global_slices_pairs=";".join(f"{join(a)}#{join(b)}" for a, b in pairs),
    )


def join(slices: Sequence[slice]) -> str:
    return "|".join(f"{one.start},{one.stop},{one.step}" for one in slices)


def shard_path(directory: Path, name: str, ranks: str = "") -> Path:
    *parts, last = name.split(".")
    return directory.joinpath("model", *parts, f"model_{last}{ranks}.safetensors")


def rewrite_metadata(path: Path, **changes: str) -> None:
    """Change entries of the metadata of a file, and nothing else of it."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header.setdefault("__metadata__", {}).update(changes)
    written = json.dumps(header).encode()
    path.write_bytes(len(written).to_bytes(8, "little") + written + content[8 + size :])
