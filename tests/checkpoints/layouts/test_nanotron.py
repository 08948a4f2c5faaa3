"""Shards of nanotron that do not fit: each is refused with its reason, within a second."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from altgrad_inspect.checkpoints.checkpoint import open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.layer_reader import LayerReader
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.records import Status
from tests.checkpoints.layouts.known_run import QKV, STEPS, known_run
from tests.checkpoints.layouts.nanotron_run import (
    rewrite_metadata,
    shard_path,
    write_nanotron,
    write_shard,
)
from tests.checkpoints.runs_on_disk import mention, steps, write_json, write_weights

EMBED = "model.embed.weight"
SHAPE, SLICES = "unsharded_shape", "local_global_slices_pairs"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_nanotron(tmp_path / "ckpts", known_run())


def shard_of(root: Path, name: str = EMBED, rank: int = 1) -> Path:
    return shard_path(root / "20", name, f"_pp-rank-0-of-1_tp-rank-{rank}-of-2")


def reason_at_20(root: Path) -> str:
    run = discover_run([root])
    assert steps(run) == [10, 30]
    (skipped,) = run.skipped
    assert (skipped.step, skipped.status) == (20, Status.SKIPPED)
    reason = str(skipped.reason)
    assert reason.isprintable()
    with pytest.raises(CheckpointError) as caught:
        discover_run([root / "20"])
    assert str(caught.value) == reason
    return reason


def test_a_missing_shard_leaves_the_checkpoint_out_and_is_named(root: Path) -> None:
    shard_of(root).unlink()
    reason = reason_at_20(root)
    assert discover_run([root]).skipped[0].layout == "nanotron"
    assert f"layer '{EMBED}': its shards hold 128 of 256 elements, expected all" in reason
    assert "by the names of its files tp-rank-1-of-2 is missing" in reason


def test_a_missing_shard_of_many_pairs_is_noticed(root: Path) -> None:
    shard_of(root, QKV, 0).unlink()
    assert "hold 96 of 192 elements" in reason_at_20(root)


def test_the_step_comes_from_the_metadata_before_the_name(root: Path) -> None:
    (root / "30").rename(root / "31")
    run = discover_run([root])
    assert steps(run) == list(STEPS)
    assert mention(run, "31: its checkpoint_metadata.json says step 30, which counts")
    (root / "31" / "checkpoint_metadata.json").write_text("{")
    run = discover_run([root])
    assert steps(run) == [10, 20, 31]
    assert mention(run, "the step is taken from the name")
    contents: list[dict[str, object]] = [{"metas": {"last_train_step": -1}}, {"metas": []}, {}]
    for content in contents:
        write_json(root / "31" / "checkpoint_metadata.json", content)
        assert steps(discover_run([root])) == [10, 20, 31]


def test_a_checkpoint_newer_than_latest_is_noted(root: Path) -> None:
    assert not mention(discover_run([root]), "latest.txt")
    (root / "latest.txt").write_text("20\n")
    assert mention(discover_run([root]), "latest.txt says that step 20 is the last one finished")
    for written in ("", "x" * 1000, "²", "-1"):
        (root / "latest.txt").write_text(written)
        assert not mention(discover_run([root]), "latest.txt")


def test_a_checkpoint_without_weights_is_incomplete(root: Path) -> None:
    for path in sorted((root / "20" / "model").rglob("*.safetensors")):
        path.unlink()
    assert "is a checkpoint of nanotron without weights" in reason_at_20(root)


def test_optimizer_shards_are_never_read(root: Path) -> None:
    for path in (root / "20" / "optimizer").rglob("*.safetensors"):
        path.write_bytes(b"broken")
    assert steps(discover_run([root])) == list(STEPS)
    refs = discover_run([root]).checkpoints
    assert not [file for ref in refs for file in ref.files if "optimizer" in file.parts]


def test_a_flag_beside_the_weights_is_no_weight(root: Path) -> None:
    path = shard_path(root / "20", "model.decoder.0.norm.weight")
    flagged = {"data": torch.ones(8), "_no_weight_decay": torch.tensor(1)}
    write_weights(path, flagged)
    checkpoint = open_checkpoint(discover_run([root]).checkpoints[1])
    assert len(checkpoint.layers) == len(known_run()[20])


WHOLE = "None,None,None"
HOSTILE: list[tuple[str, dict[str, str], str]] = [
    ("huge shape", {SHAPE: "(100000000000000, 8)"}, "hold 256 of 800000000000000 elements"),
    ("more digits", {SHAPE: "(1000000000000000, 8)"}, "unsharded_shape is '"),
    ("very many digits", {SHAPE: f"({'9' * 5000}, 8)"}, "unsharded_shape is '"),
    ("negative shape", {SHAPE: "(-32, 8)"}, "expected sizes such as (32, 16)"),
    ("code as a shape", {SHAPE: "(__import__('os'), 8)"}, "expected sizes such as"),
    ("other numpy", {SHAPE: "(np.float64(32), 8)"}, "expected sizes such as"),
    ("more dimensions", {SHAPE: "(32, 8, 1)"}, "expected start,stop,None for each of 2"),
    ("very many", {SHAPE: "(" + "1, " * 1_000_000 + ")"}, "expected sizes such as"),
    ("no shape", {SHAPE: ""}, "unsharded_shape is ''"),
    ("negative slice", {SLICES: f"-16,16,None|{WHOLE}#16,32,None|{WHOLE}"}, "has '-16,16"),
    ("backward slice", {SLICES: f"16,0,None|{WHOLE}#32,16,None|{WHOLE}"}, "outside of the shard"),
    ("beyond the shard", {SLICES: f"0,17,None|{WHOLE}#15,32,None|{WHOLE}"}, "outside of the shard"),
    ("beyond the layer", {SLICES: f"0,16,None|{WHOLE}#17,33,None|{WHOLE}"}, "outside of the layer"),
    ("other sizes", {SLICES: f"0,16,None|{WHOLE}#16,31,None|{WHOLE}"}, "expected the same size"),
    ("a step", {SLICES: f"0,16,2|{WHOLE}#16,32,2|{WHOLE}"}, "expected start,stop,None"),
    ("no pair", {SLICES: ""}, "local_global_slices_pairs has ''"),
    ("half a pair", {SLICES: f"0,16,None|{WHOLE}"}, "local_global_slices_pairs has '0,16"),
    ("three parts", {SLICES: "a#b#c"}, "local_global_slices_pairs has 'a#b#c'"),
    ("escapes", {SLICES: "\x1b[31m\u202e"}, r"\x1b[31m\u202e"),
    ("very many pairs", {SLICES: ";" * 1_000_000}, "is too long, expected at most 4096 pairs"),
    ("a long pair", {SLICES: "0" * 2_000_000}, "is too long"),
    ("many dimensions", {SLICES: "|" * 900_000 + "#"}, "expected start,stop,None"),
    ("overlap", {SLICES: f"0,16,None|{WHOLE}#8,24,None|{WHOLE}"}, "has shards that overlap"),
    (
        "overlap of itself",
        {SLICES: f"0,8,None|{WHOLE}#16,24,None|{WHOLE};0,8,None|{WHOLE}#20,28,None|{WHOLE}"},
        "has shards that overlap",
    ),
    (
        "too little",
        {SLICES: f"0,8,None|{WHOLE}#16,24,None|{WHOLE}"},
        "hold 192 of 256 elements",
    ),
    (
        "a grid that is none",
        {
            SHAPE: "(4096, 4096)",
            SLICES: ";".join(
                f"0,{at % 16},None|0,1,None#{at},{at + at % 16},None|{at},{at + 1},None"
                for at in range(4000)
            ),
        },
        "elements, expected all",
    ),
]


@pytest.mark.parametrize(
    ("changes", "reason"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE]
)
def test_hostile_metadata_is_refused_by_name(
    changes: dict[str, str], reason: str, root: Path
) -> None:
    for rank in (0, 1) if SHAPE in changes else (1,):
        rewrite_metadata(shard_of(root, rank=rank), **changes)
    assert reason in reason_at_20(root)


def other_dtype(root: Path) -> None:
    path = shard_of(root)
    shard = torch.zeros(16, 8, dtype=torch.bfloat16)
    pairs = [((slice(0, 16), slice(None)), (slice(16, 32), slice(None)))]
    write_shard(root / "20", EMBED, shard, (32, 8), pairs, rank=1, tp=2)
    assert path.exists()


def other_shape(root: Path) -> None:
    rewrite_metadata(shard_of(root), **{SHAPE: "(33, 8)"})


def other_name(root: Path) -> None:
    write_weights(shard_of(root), {"weight": torch.zeros(16, 8)})


def whole_beside_shards(root: Path) -> None:
    write_weights(shard_path(root / "20", EMBED), {"data": torch.zeros(32, 8)})


def truncated(root: Path) -> None:
    path = shard_of(root)
    path.write_bytes(path.read_bytes()[:-1])


def a_pipe(root: Path) -> None:
    path = shard_of(root)
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (other_dtype, "is stored as BF16 and as F32, expected one dtype"),
        (other_shape, "expected one shape (remove what is left over"),
        (other_name, "holds weight, expected a tensor called data"),
        (whole_beside_shards, "has shards that overlap"),
        (a_pipe, "is a device, expected a regular file"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_shards_that_do_not_belong_together_are_refused(
    change: Callable[[Path], None], reason: str, root: Path
) -> None:
    change(root)
    assert reason in reason_at_20(root)


def test_a_truncated_shard_is_damaged(root: Path) -> None:
    truncated(root)
    (skipped,) = discover_run([root]).skipped
    assert skipped.status is Status.FAILED
    assert "is truncated" in str(skipped.reason)


def test_a_replica_is_read_once(root: Path) -> None:
    first = shard_of(root, rank=0)
    copy = first.with_name(first.name.replace("pp-rank-0-of-1", "pp-rank-1-of-2"))
    copy.write_bytes(first.read_bytes())
    ref = discover_run([root]).checkpoints[1]
    checkpoint = open_checkpoint(ref)
    assert any("has 1 regions stored twice" in note for note in checkpoint.notes)
    with LayerReader(torch.device("cpu")) as reader:
        assert torch.equal(reader.read(checkpoint.layers[EMBED]), known_run()[20][EMBED])


def test_sub_byte_shards_are_refused(root: Path) -> None:
    for rank in (0, 1):
        path = shard_of(root, rank=rank)
        pairs = f"0,16,None|{WHOLE}#{16 * rank},{16 * rank + 16},None|{WHOLE}"
        entry = {"dtype": "F4", "shape": [16, 8], "data_offsets": [0, 64]}
        header = {"__metadata__": {SHAPE: "(32, 8)", SLICES: pairs}, "data": entry}
        written = json.dumps(header).encode()
        path.write_bytes(len(written).to_bytes(8, "little") + written + bytes(64))
    assert "is cut into shards of F4, expected a dtype of whole bytes" in reason_at_20(root)


def test_names_of_directories_are_shown_harmless(root: Path) -> None:
    shard_of(root).unlink()
    directory = root / "20" / "model" / "model" / "embed"
    directory.rename(directory.with_name("em\x1b[31mbed"))
    assert r"layer 'model.em\x1b[31mbed.weight'" in reason_at_20(root)


def test_links_to_directories_are_not_followed(root: Path) -> None:
    (root / "20" / "model" / "again").symlink_to(root / "20" / "model")
    assert len(open_checkpoint(discover_run([root]).checkpoints[1]).layers) == len(known_run()[20])


def test_a_directory_called_model_alone_is_not_nanotron(tmp_path: Path) -> None:
    write_weights(tmp_path / "step_1" / "model.safetensors")
    write_weights(tmp_path / "step_1" / "model" / "x" / "model_w.safetensors")
    assert {ref.layout for ref in discover_run([tmp_path]).checkpoints} == {"step-directories"}
