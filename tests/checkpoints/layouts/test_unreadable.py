"""What is recognised and not read: each answer says what it is and what to do about it."""

from pathlib import Path
from typing import NamedTuple

import pytest

from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.errors import CheckpointError
from tests.checkpoints.runs_on_disk import mention, steps, write_weights

DCP = ("__0_0.distcp", ".metadata")


class Unread(NamedTuple):
    """A checkpoint that is not read: its directory, what lies in it, and the answer."""

    directory: str
    files: tuple[str, ...]
    what: str
    advice: str


CASES = {
    "torch DCP": Unread(
        "ckpt_5",
        DCP,
        "__0_0.distcp, a torch distributed checkpoint (DCP)",
        "`python -m torch.distributed.checkpoint.format_utils dcp_to_torch {path} weights.pt`",
    ),
    "torchtitan": Unread(
        "step-5",
        DCP,
        "a torch distributed checkpoint (DCP) as torchtitan saves it",
        "`python scripts/checkpoint_conversion/convert_to_hf.py {path} OUT --model_name",
    ),
    "torchtitan, without torchtitan": Unread("step-5", DCP, "(DCP)", "dcp_to_torch {path}"),
    "Megatron": Unread(
        "iter_0000005",
        ("mp_rank_00/model_optim_rng.pt", "mp_rank_01/model_optim_rng.pt"),
        "mp_rank_00/, a checkpoint of Megatron in pickles",
        "convert_checkpoints.py export --hf-model MODEL --megatron-path {path} --hf-path OUT`",
    ),
    "Megatron, pipeline and expert ranks": Unread(
        "iter_0000005", ("mp_rank_00_000_001/model_optim_rng.pt",), "of Megatron", "Megatron Bridge"
    ),
    "Megatron torch_dist": Unread(
        "iter_0000005",
        (*DCP, "common.pt", "metadata.json"),
        "a distributed checkpoint of Megatron (torch_dist)",
        "--megatron-path {path} --hf-path OUT`, which writes safetensors",
    ),
    "litgpt": Unread(
        "step-00000005",
        ("lit_model.pth", "model_config.yaml"),
        "lit_model.pth, a checkpoint of litgpt in a pickle",
        "`litgpt convert_pretrained_checkpoint {path} CLEAN`",
    ),
    "litgpt LoRA": Unread(
        "step-000005",
        ("lit_model.pth.lora",),
        "of litgpt",
        "`litgpt convert_from_litgpt CLEAN OUT`",
    ),
    "OLMo-core": Unread(
        "step5",
        ("model_and_optim/.metadata", "model_and_optim/__0_0.distcp", "train/rank0.pt"),
        "model_and_optim/, a torch distributed checkpoint (DCP) of OLMo-core",
        "convert_checkpoint_to_hf.py -i {path} -o OUT`",
    ),
    "OLMo-1": Unread(
        "step5",
        ("model/rank0.pt", "optim/rank0.pt", "train/rank0.pt"),
        "model/, the shards of a checkpoint of OLMo-1",
        "`python scripts/unshard.py --model-only --safe-tensors {path} {path}-unsharded`",
    ),
    "OLMo-1 unsharded pickle": Unread(
        "step5-unsharded", ("model.pt",), "model.pt, a pickle", "safetensors.torch.save_file"
    ),
    "accelerate FSDP": Unread(
        "checkpoint_5",
        ("pytorch_model_fsdp_0/__0_0.distcp", "random_states_0.pkl"),
        "pytorch_model_fsdp_0/, FSDP shards",
        "`accelerate merge-weights {path}/pytorch_model_fsdp_0 {path}`",
    ),
    "Trainer FSDP": Unread(
        "checkpoint-5",
        ("pytorch_model_fsdp_0/__0_0.distcp", "trainer_state.json.kept"),
        "FSDP shards",
        "`accelerate merge-weights {path}/pytorch_model_fsdp_0 {path}`",
    ),
    "FSDP whole": Unread(
        "checkpoint_5",
        ("pytorch_model_fsdp.bin",),
        "pytorch_model_fsdp.bin, the whole model of FSDP in a pickle",
        "safetensors.torch.save_file",
    ),
    "DeepSpeed in a Trainer": Unread(
        "checkpoint-5",
        (
            "global_step5/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt",
            "global_step5/mp_rank_00_model_states.pt",
            "zero_to_fp32.py",
        ),
        "a checkpoint of DeepSpeed in pickles",
        "`python zero_to_fp32.py {path} OUT --safe_serialization`",
    ),
    "DeepSpeed": Unread(
        "global_step5",
        ("mp_rank_00_model_states.pt",),
        "mp_rank_00_model_states.pt, a checkpoint of DeepSpeed",
        "`python zero_to_fp32.py {root} OUT --safe_serialization`",
    ),
    "torchtune in pickles": Unread(
        "epoch_5", ("adapter_model.pt",), "adapter_model.pt, a pickle", "save_file"
    ),
    "Trainer in pickles": Unread(
        "checkpoint-5", ("pytorch_model.bin",), "pytorch_model.bin, a pickle", "save_file"
    ),
}

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def write(root: Path, case: Unread) -> Path:
    for name in case.files:
        path = root / case.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x80\x02cos\nsystem\n")  # whoever opens it, fails
    return root / case.directory


@each_case
def test_the_error_says_what_it_is_and_what_to_do(case: Unread, tmp_path: Path) -> None:
    root, other = tmp_path / "run", tmp_path / "other"
    checkpoint = write(root, case)
    advice = case.advice.format(path=checkpoint, root=root)
    write_weights(other / "model.safetensors")
    targets: list[list[str | Path]] = [[root], [checkpoint], [f"{root}/*"], [checkpoint, other]]
    for target in targets:
        with pytest.raises(CheckpointError) as caught:
            discover_run(target)
        message = str(caught.value)
        assert str(checkpoint) in message
        assert case.what in message
        assert ", expected " in message
        assert advice in message
        assert message.isprintable()


@each_case
def test_beside_steps_that_are_read_it_is_left_out_with_the_same_words(
    case: Unread, tmp_path: Path
) -> None:
    checkpoint = write(tmp_path, case)
    for step in (7, 8):
        write_weights(tmp_path / f"step_{step}" / "model.safetensors")
    run = discover_run([tmp_path])
    assert steps(run) == [7, 8]
    (skipped,) = run.skipped
    assert skipped.step == 5
    assert case.what in str(skipped.reason)
    assert case.advice.format(path=checkpoint, root=tmp_path) in str(skipped.reason)


def test_a_file_named_alone_is_known_by_what_lies_around_it(tmp_path: Path) -> None:
    checkpoint = write(tmp_path, CASES["litgpt"])
    with pytest.raises(CheckpointError, match="is a checkpoint of litgpt in a pickle"):
        discover_run([checkpoint / "lit_model.pth"])
    checkpoint = write(tmp_path, CASES["torchtitan"])
    with pytest.raises(CheckpointError, match=r"as torchtitan saves it.*convert_to_hf\.py"):
        discover_run([checkpoint / "__0_0.distcp"])


def test_the_root_of_megatron_is_known_by_its_tracker(tmp_path: Path) -> None:
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("release")
    (tmp_path / "release" / "mp_rank_00").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="the root of a run of Megatron"):
        discover_run([tmp_path])


@pytest.mark.parametrize("name", ["step5-tmp", "step5.tmp", "tmp-step5"])
def test_what_is_still_being_written_is_no_step(name: str, tmp_path: Path) -> None:
    write_weights(tmp_path / "step4" / "model.safetensors")
    write(tmp_path, CASES["OLMo-core"]._replace(directory=name))
    run = discover_run([tmp_path])
    assert (steps(run), run.skipped) == ([4], ())


def test_links_to_the_latest_are_no_steps(tmp_path: Path) -> None:
    write_weights(tmp_path / "step4-unsharded" / "model.safetensors")
    for name in ("latest", "latest-unsharded"):
        (tmp_path / name).symlink_to("step4-unsharded")
    run = discover_run([tmp_path])
    assert steps(run) == [4]
    assert mention(run, "latest-unsharded: a link to another entry of the run")


def test_of_two_whole_copies_of_a_step_the_unsharded_one_is_read(tmp_path: Path) -> None:
    for name in ("step4", "step4-unsharded", "step5"):
        write_weights(tmp_path / name / "model.safetensors")
    run = discover_run([tmp_path])
    assert [ref.path.name for ref in run.checkpoints] == ["step4-unsharded", "step5"]
    assert mention(run, "step4: is not read, its unsharded copy is the same step")


def test_paths_in_commands_can_be_pasted(tmp_path: Path) -> None:
    root = tmp_path / "it's; rm -rf ~"
    write(root, CASES["OLMo-core"])
    with pytest.raises(CheckpointError) as caught:
        discover_run([root])
    assert "it'\"'\"'s; rm -rf ~/step5' -o OUT`" in str(caught.value)


def test_a_link_that_leads_nowhere_is_still_known_by_its_name(tmp_path: Path) -> None:
    checkpoint = write(tmp_path, CASES["litgpt"])
    (checkpoint / "lit_model.pth").unlink()
    (checkpoint / "lit_model.pth").symlink_to("lit_model.pth")
    with pytest.raises(CheckpointError, match="litgpt"):
        discover_run([tmp_path])
