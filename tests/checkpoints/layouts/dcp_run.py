"""Checkpoints that torch's own writer of distributed safetensors leaves, rank by rank.

No process group is needed: the plan that the ranks would agree on is written down here, and
`HuggingFaceStorageWriter` is asked to write what each rank would.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import (
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)

from tests.checkpoints.layouts.nanotron_run import even_cuts


class _Planner(DefaultSavePlanner):
    """Gives the writer the shards of one rank."""

    def __init__(self, shards: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._shards = shards

    def resolve_data(self, write_item: WriteItem) -> Tensor:
        return self._shards[write_item.index.fqn]


def write_dcp_checkpoint(
    directory: Path, weights: Mapping[str, Tensor], *, ranks: int, consolidated: bool = False
) -> Path:
    """Rows are cut over the ranks; what has fewer than two rows is written by the first one."""
    directory.mkdir(parents=True)
    writer = HuggingFaceStorageWriter(
        str(directory), save_distributed=True, enable_consolidation=consolidated
    )
    writer.set_up_storage_writer(is_coordinator=True)
    plans = [SavePlan([]) for _ in range(ranks)]
    shards: list[dict[str, Tensor]] = [{} for _ in range(ranks)]
    for name, tensor in weights.items():
        num_rows = tensor.shape[0] if tensor.ndim else 1
        cuts = even_cuts(num_rows, ranks) if num_rows > 1 else [slice(0, num_rows)]
        for rank, cut in enumerate(cuts):
            if cut.stop > cut.start:
                _add(plans[rank], shards[rank], name, tensor, cut)
    plans = [writer.prepare_local_plan(plan) for plan in plans]
    results = []
    for plan, mine in zip(writer.prepare_global_plan(plans), shards, strict=True):
        results.append(writer.write_data(plan, _Planner(mine)).wait())
    metadata = Metadata(
        state_dict_metadata={
            name: TensorStorageMetadata(TensorProperties(dtype=tensor.dtype), tensor.shape, [])
            for name, tensor in weights.items()
        }
    )
    writer.finish(metadata, results)
    return directory


def _add(plan: SavePlan, shards: dict[str, Tensor], name: str, whole: Tensor, cut: slice) -> None:
    shard = whole[cut] if whole.ndim else whole
    offsets = [cut.start] + [0] * (whole.ndim - 1) if whole.ndim else []
    chunk = ChunkStorageMetadata(offsets=torch.Size(offsets), sizes=shard.shape)
    data = TensorWriteData(chunk, TensorProperties(dtype=whole.dtype), whole.shape)
    index = MetadataIndex(name, torch.Size(offsets))
    plan.items.append(WriteItem(index=index, type=WriteItemType.SHARD, tensor_data=data))
    shards[name] = shard.contiguous()


def write_dcp(
    root: Path,
    run: Mapping[int, Mapping[str, Tensor]],
    *,
    ranks: int = 3,
    consolidated: bool = False,
) -> Path:
    for step, weights in run.items():
        write_dcp_checkpoint(root / f"step-{step}", weights, ranks=ranks, consolidated=consolidated)
    return root
