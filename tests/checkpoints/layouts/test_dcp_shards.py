"""Shards of torch's distributed safetensors: lost ranks are noticed, hostile ones refused."""

import json
from pathlib import Path

import pytest
import torch

from altgrad_inspect.checkpoints.checkpoint import open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.layer_reader import LayerReader
from altgrad_inspect.errors import CheckpointError
from tests.checkpoints.layouts.dcp_run import write_dcp, write_dcp_checkpoint
from tests.checkpoints.layouts.known_run import STEPS, known_run
from tests.checkpoints.layouts.nanotron_run import even_cuts, rewrite_metadata
from tests.checkpoints.runs_on_disk import mention, steps, write_weights

INFO = "DCP_SHARDING_INFO"
RAGGED = "model.ragged.weight"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_dcp(tmp_path / "checkpoint", known_run())


def shard_of(directory: Path, rank: int) -> Path:
    return directory / f"shard-{rank:05}-model-00001-of-00001.safetensors"


def reason_at_20(root: Path) -> str:
    run = discover_run([root])
    assert steps(run) == [10, 30]
    (skipped,) = run.skipped
    assert skipped.step == 20
    assert str(skipped.reason).isprintable()
    return str(skipped.reason)


@pytest.mark.parametrize("rank", [1, 2])
def test_a_missing_shard_leaves_a_hole(rank: int, root: Path) -> None:
    shard_of(root / "step-20", rank).unlink()
    assert "elements, expected all (a shard is missing" in reason_at_20(root)
    with pytest.raises(CheckpointError, match="a shard is missing"):
        discover_run([root / "step-20"])


@pytest.mark.parametrize("step", STEPS)
def test_a_missing_last_rank_shows_beside_the_neighbours(step: int, root: Path) -> None:
    shard_of(root / f"step-{step}", 3).unlink()
    run = discover_run([root])
    assert steps(run) == [one for one in STEPS if one != step]
    (skipped,) = run.skipped
    reason = str(skipped.reason)
    assert f"step-{step}: is incomplete: it has shards of 2 ranks and step-" in reason
    assert "of 3, where layer 'model.decoder.0.attn.o_proj.weight' has shape [8, 16]" in reason
    named = [root / f"step-{one}" for one in STEPS]
    with pytest.raises(CheckpointError, match="shards of the last ranks are missing"):
        discover_run(named)


def test_alone_a_missing_last_rank_can_not_be_seen_and_that_is_said(root: Path) -> None:
    shard_of(root / "step-20", 3).unlink()
    run = discover_run([root / "step-20"])
    assert mention(run, "could only be seen beside another checkpoint")


def test_all_of_the_last_rank_may_be_lost(root: Path) -> None:
    for step in STEPS:
        shard_of(root / f"step-{step}", 3).unlink()
    assert steps(discover_run([root])) == list(STEPS)  # nothing contradicts it


def test_a_run_that_goes_on_on_other_ranks_is_complete(tmp_path: Path) -> None:
    run = known_run()
    for step, ranks in zip(STEPS, (4, 2, 3), strict=True):
        write_dcp_checkpoint(tmp_path / f"step-{step}", run[step], ranks=ranks)
    found = discover_run([tmp_path])
    assert steps(found) == list(STEPS)
    assert found.skipped == ()


def test_a_layer_that_grows_is_no_lost_rank(tmp_path: Path) -> None:
    run = known_run()
    run[30]["model.embed.weight"] = torch.zeros(40, 8)
    for step, ranks in zip(STEPS, (2, 2, 3), strict=True):
        write_dcp_checkpoint(tmp_path / f"step-{step}", run[step], ranks=ranks)
    assert steps(discover_run([tmp_path])) == list(STEPS)


def test_a_model_that_is_larger_on_the_same_ranks_is_another_model(tmp_path: Path) -> None:
    for step, size in zip(STEPS, (6, 6, 9), strict=True):
        weights = {"a.weight": torch.zeros(size, 2), "b.weight": torch.zeros(size, 3)}
        write_dcp_checkpoint(tmp_path / f"step-{step}", weights, ranks=3)
    assert steps(discover_run([tmp_path])) == list(STEPS)


def test_consolidated_files_win_and_are_never_counted_twice(tmp_path: Path) -> None:
    weights = known_run()[10]
    directory = write_dcp_checkpoint(tmp_path / "step-10", weights, ranks=2, consolidated=True)
    (ref,) = discover_run([tmp_path]).checkpoints
    assert [file.name for file in ref.files] == ["model-00001-of-00001.safetensors"]
    assert mention(discover_run([tmp_path]), "sharded/ holds the same weights in shards")
    assert len(open_checkpoint(ref).layers) == len(weights)
    (directory / "model-00001-of-00001.safetensors").unlink()
    run = discover_run([tmp_path])
    assert [file.parent.name for file in run.checkpoints[0].files] == ["sharded"] * 2
    assert mention(run, "is missing, expected all shards")
    assert mention(run, "the shards in sharded/ are read instead")
    (directory / "model.safetensors.index.json").unlink()
    (ref,) = discover_run([tmp_path]).checkpoints
    assert (ref.layout, len(ref.files)) == ("dcp-shards", 2)
    for target in (directory, directory / "sharded"):
        (ref,) = discover_run([target]).checkpoints
        assert (ref.step, ref.layout) == (10, "dcp-shards")


def test_shards_and_consolidated_files_in_one_directory_are_one_checkpoint(root: Path) -> None:
    write_weights(root / "step-20" / "model.safetensors", known_run()[20])
    run = discover_run([root])
    assert len(run.checkpoints[1].files) == 1
    assert mention(run, "the shards beside it holds the same weights")
    assert not mention(run, "lies beside the weights and is not read")


def test_scalars_empty_and_odd_tensors_come_back_bit_for_bit(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    weights = {
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "one": torch.tensor([[1.0, 2.0]]),
        "bool": torch.tensor([True, False, True]),
        "fp8": torch.randn(5, 3, generator=draw).to(torch.float8_e4m3fn),
        "int": torch.arange(7),
        "deep": torch.randn(5, 2, 3, generator=draw).to(torch.float64),
    }
    weights.pop("empty")
    write_dcp_checkpoint(tmp_path / "step-1", weights, ranks=3)
    layers = open_checkpoint(discover_run([tmp_path]).checkpoints[0]).layers
    with LayerReader(torch.device("cpu")) as reader:
        for name, tensor in weights.items():
            found = reader.read(layers[name])
            assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
            assert torch.equal(
                found.contiguous().reshape(-1).view(torch.uint8),
                tensor.reshape(-1).view(torch.uint8),
            )


def entry(offsets: object) -> str:
    """The offsets of the second rank of three, with others for one layer."""
    given = {
        name: {"saved_offsets": [even_cuts(tensor.shape[0], 3)[1].start, *[0] * (tensor.ndim - 1)]}
        for name, tensor in known_run()[20].items()
        if tensor.ndim
    }
    return json.dumps({**given, RAGGED: {"saved_offsets": offsets}})


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ("", "is not valid JSON"),
        ("[]", "holds a JSON list"),
        ("{}", "gives tensor 'model.decoder.0.norm.weight' the saved_offsets None"),
        ("{" * 100, "describes more than its"),
        ("[" * 100_000, "is not valid JSON"),
        ('{"a":' + "[0," * 1_000_000, "describes more than its"),
        (json.dumps({str(at): {} for at in range(100_000)}), "describes more than its"),
        (entry([-5, 0]), "the saved_offsets [-5, 0], expected 2 whole numbers"),
        (entry([1 << 62, 0]), "expected 2 whole numbers"),
        (entry([1.0, 0]), "expected 2 whole numbers"),
        (entry([True, 0]), "expected 2 whole numbers"),
        (entry([0]), "expected 2 whole numbers"),
        (entry(None), "expected 2 whole numbers"),
        (entry([1 << 50, 0]), "elements, expected all"),
        (entry([9, 0]), "elements, expected all"),
        (entry([4, 0]), "has shards that overlap"),
        (entry([2, 0]), "has shards that overlap"),
        ('{"a":1,"a":1}', "the key 'a' appears twice"),
        ('{"a":' + "9" * 10_000 + "}", "is not valid JSON"),
    ],
)
def test_hostile_offsets_are_refused_by_name(info: str, reason: str, root: Path) -> None:
    rewrite_metadata(shard_of(root / "step-20", 2), **{INFO: info})
    assert reason in reason_at_20(root)


def test_a_shard_without_offsets_is_refused(root: Path) -> None:
    path = shard_of(root / "step-20", 1)
    write_weights(path, {"a": torch.zeros(2)}, format="pt")
    assert "has no DCP_SHARDING_INFO in its metadata" in reason_at_20(root)


def test_shards_of_different_dimensions_are_refused(root: Path) -> None:
    name = "model.embed.weight"
    info = json.dumps({name: {"saved_offsets": [0]}})
    path = shard_of(root / "step-20", 4)
    write_weights(path, {name: torch.zeros(2)}, DCP_SHARDING_INFO=info)
    assert "has shards of different dimensions" in reason_at_20(root)
