"""Repositories in the cache of the Hugging Face hub, and revisions as directories."""

import os
from collections.abc import Mapping
from hashlib import sha1, sha256
from pathlib import Path

import pytest
from torch import Tensor

import altgrad_inspect as ai
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.errors import CheckpointError, NothingMatchedError
from altgrad_inspect.records import Status
from tests.checkpoints.layouts.plain_twin import Run, assert_same_as_plain, train
from tests.checkpoints.runs_on_disk import (
    layouts,
    mention,
    steps,
    tensors,
    truncate,
    write_json,
    write_trainer,
    write_weights,
)

SHAPES = {"model.embed_tokens.weight": (12, 6), "model.layers.0.mlp.up_proj.weight": (8, 6)}
STYLES = (
    ("step1000", "step2000", "step3000"),  # pythia
    ("step_360", "step_720", "step_1080"),  # open-instruct
    ("step-001000-2BT", "step-002000-4BT", "step-003000-6BT"),  # fineweb ablations
    ("stage1-step1000-tokens5B", "stage1-step2000-tokens9B", "stage1-step3000-tokens13B"),  # OLMo-2
    ("step1000-tokens4B", "step2000-tokens8B", "step3000-tokens12B"),  # OLMo
    ("global_step1000", "global_step2000", "global_step3000"),  # BLOOM
    ("iter_0001000", "iter_0002000", "iter_0003000"),
    ("ckpt_100", "ckpt_200", "ckpt_300"),  # Amber
    ("1000", "2000", "3000"),
    ("training/step1000", "training/step2000", "training/step3000"),
)


def commit_of(name: str) -> str:
    return sha1(name.encode(), usedforsecurity=False).hexdigest()


def write_revision(repository: Path, ref: str, layers: Mapping[str, Tensor]) -> Path:
    """A revision as huggingface_hub caches it; the file is stored once, by its digest."""
    snapshot = repository / "snapshots" / commit_of(ref)
    snapshot.mkdir(parents=True)
    draft = write_weights(repository / "blobs" / "draft", layers)
    blob = draft.rename(draft.with_name(sha256(draft.read_bytes()).hexdigest()))
    (snapshot / "model.safetensors").symlink_to(Path("..", "..", "blobs", blob.name))
    write_json(repository / "blobs" / "config", {})
    (snapshot / "config.json").symlink_to(Path("..", "..", "blobs", "config"))
    point(repository, ref, commit_of(ref))
    return snapshot


def point(repository: Path, ref: str, content: str) -> None:
    path = repository / "refs" / ref
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def write_cache(repository: Path, refs: tuple[str, ...]) -> Run:
    run = train(SHAPES, [1, 2, 3])
    for ref, layers in zip(refs, run.values(), strict=True):
        write_revision(repository, ref, layers)
    return run


@pytest.mark.parametrize("refs", STYLES, ids=lambda refs: refs[0])
def test_branches_that_tell_a_step_are_the_run(refs: tuple[str, ...], tmp_path: Path) -> None:
    repository = tmp_path / "models--org--name"
    run = write_cache(repository, refs)
    point(repository, "main", commit_of(refs[-1]))
    point(repository, "refs/pr/7", commit_of(refs[0]))
    point(repository, "refs/convert/step8", commit_of(refs[0]))
    found = discover_run([repository])
    numbered = {
        ref.step: layers for ref, layers in zip(found.checkpoints, run.values(), strict=True)
    }
    assert steps(found) == sorted(numbered)
    assert layouts(found) == {"hub-cache"}
    assert [ref.path.name for ref in found.checkpoints] == [commit_of(ref) for ref in refs]
    assert found.skipped == ()
    (note,) = found.notes
    assert note.endswith("no step of the run by its name: main")
    assert_same_as_plain(repository, numbered, tmp_path / "plain")
    paths = list(ai.ls(repository).to_pandas("checkpoints")["path"])
    assert paths == [f"refs/{ref}" for ref in refs]
    expected = list(ai.ls(tmp_path / "plain").to_pandas("checkpoints")["size_bytes"])
    assert list(ai.ls(repository).to_pandas("checkpoints")["size_bytes"]) == expected


@pytest.mark.parametrize("refs", STYLES[:-1], ids=lambda refs: refs[0])
def test_revisions_downloaded_as_directories_are_the_run(
    refs: tuple[str, ...], tmp_path: Path
) -> None:
    run = train(SHAPES, [1, 2, 3])
    for ref, layers in zip(refs, run.values(), strict=True):
        write_weights(tmp_path / "run" / ref / "model.safetensors", layers)
        write_json(tmp_path / "run" / ref / ".cache" / "huggingface" / "x.metadata", {})
    found = discover_run([tmp_path / "run"])
    numbered = {
        ref.step: layers for ref, layers in zip(found.checkpoints, run.values(), strict=True)
    }
    assert [ref.path.name for ref in found.checkpoints] == list(refs)
    assert_same_as_plain(tmp_path / "run", numbered, tmp_path / "plain")


def test_a_ref_without_its_snapshot_is_left_out_by_name(tmp_path: Path) -> None:
    write_cache(tmp_path, STYLES[0])
    point(tmp_path, "step4000", commit_of("step4000"))
    point(tmp_path, "step5000", "../../../etc")
    (tmp_path / "refs" / "step6000").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "refs" / "step7000")
    run = discover_run([tmp_path])
    assert steps(run) == [1000, 2000, 3000]
    reasons = {ref.step: str(ref.reason) for ref in run.skipped}
    assert list(reasons) == [4000, 5000, 6000, 7000]
    assert f"its snapshot {commit_of('step4000')[:12]} is not in the cache" in reasons[4000]
    assert "download revision step4000 again" in reasons[4000]
    for step in (5000, 7000):
        assert f"refs/step{step}: holds no commit" in reasons[step]
    assert "refs/step6000: is a link out of the repository" in reasons[6000]
    assert {ref.status for ref in run.skipped} == {Status.SKIPPED}


def test_a_link_out_of_the_cache_is_never_followed(tmp_path: Path) -> None:
    repository = tmp_path / "models--org--name"
    write_cache(repository, STYLES[0])
    secret = write_weights(tmp_path / "secret.safetensors")
    link = repository / "snapshots" / commit_of("step1000") / "model.safetensors"
    link.unlink()
    link.symlink_to(secret)
    beside = repository / "snapshots" / commit_of("step2000") / "trainer_state.json"
    beside.symlink_to(tmp_path / "secret.json")
    run = discover_run([repository])
    assert steps(run) == [3000]
    assert [ref.step for ref in run.skipped] == [1000, 2000]
    assert all("is a link out of the repository" in str(ref.reason) for ref in run.skipped)


def test_a_snapshot_that_is_a_link_elsewhere_is_never_followed(tmp_path: Path) -> None:
    repository = tmp_path / "models--org--name"
    write_cache(repository, STYLES[0])
    elsewhere = write_weights(tmp_path / "elsewhere" / "model.safetensors").parent
    point(repository, "step9000", "abcdef0")
    (repository / "snapshots" / "abcdef0").symlink_to(elsewhere)
    (skipped,) = discover_run([repository]).skipped
    assert "abcdef0: is a link out of the repository" in str(skipped.reason)


def test_a_cache_that_is_reached_by_a_link_is_read(tmp_path: Path) -> None:
    write_cache(tmp_path / "disk" / "models--org--name", STYLES[0])
    (tmp_path / "hub").symlink_to(tmp_path / "disk")
    assert steps(discover_run([tmp_path / "hub" / "models--org--name"])) == [1000, 2000, 3000]


def test_files_in_place_of_links_are_read(tmp_path: Path) -> None:
    for step in (1, 2):
        write_weights(tmp_path / "snapshots" / commit_of(f"{step}") / "model.safetensors")
        point(tmp_path, f"step{step}", f"{commit_of(f'{step}')}\n")
    assert steps(discover_run([tmp_path])) == [1, 2]


def test_an_unfinished_download_is_left_out(tmp_path: Path) -> None:
    write_cache(tmp_path, STYLES[0])
    link = tmp_path / "snapshots" / commit_of("step2000") / "model.safetensors"
    link.resolve().unlink()
    truncate((tmp_path / "snapshots" / commit_of("step3000") / "model.safetensors").resolve())
    (tmp_path / "snapshots" / commit_of("step4000")).mkdir()
    point(tmp_path, "step4000", commit_of("step4000"))
    run = discover_run([tmp_path])
    assert steps(run) == [1000]
    reasons = {ref.step: str(ref.reason) for ref in run.skipped}
    assert "No such file" in reasons[2000]
    assert "is truncated" in reasons[3000]
    assert "holds no weights" in reasons[4000]


def test_a_repository_without_steps_is_its_main_branch(tmp_path: Path) -> None:
    write_revision(tmp_path, "main", tensors())
    write_revision(tmp_path, "v1.0", tensors(1.0))
    run = discover_run([tmp_path])
    assert [ref.path.name for ref in run.checkpoints] == [commit_of("main")]
    assert mention(run, "no step of the run by its name: v1.0")


def test_the_only_snapshot_needs_no_branch_and_several_do(tmp_path: Path) -> None:
    repository = tmp_path / "models--org--name"
    for name in ("a", "b"):
        write_revision(repository, name, tensors())
        (repository / "refs" / name).unlink()
        if name == "a":
            assert steps(discover_run([repository])) == [0]
    with pytest.raises(NothingMatchedError, match="holds 2 snapshots and no branch whose name"):
        discover_run([repository])


def test_branches_that_were_trained_beside_each_other_are_refused_by_name(tmp_path: Path) -> None:
    refs = [f"stage2-ingredient{which}-step{step}" for which in (1, 2) for step in (10, 20)]
    for ref in refs:
        write_revision(tmp_path, ref, tensors())
    with pytest.raises(CheckpointError, match=r"stage2-ingredient1 \(2 checkpoints, steps 10 to 2"):
        discover_run([tmp_path])
    run = discover_run([tmp_path], order="name")
    assert [ref.label for ref in run.checkpoints] == [f"refs/{ref}" for ref in refs]


def test_a_snapshot_that_is_named_has_the_step_of_its_branch(tmp_path: Path) -> None:
    write_cache(tmp_path, ("step3000", "step1000", "step2000"))
    run = discover_run([str(tmp_path / "snapshots" / "*")])
    assert steps(run) == [1000, 2000, 3000]
    assert [ref.path.name for ref in run.checkpoints] == [
        commit_of(f"step{step}000") for step in (1, 2, 3)
    ]
    assert steps(discover_run([tmp_path / "snapshots" / commit_of("step2000")])) == [2000]


def test_a_cache_of_several_repositories_says_which(tmp_path: Path) -> None:
    write_cache(tmp_path / "models--org--name", STYLES[0])
    with pytest.raises(NothingMatchedError, match=r"did you mean .*models--org--name"):
        discover_run([tmp_path])


def test_a_run_with_a_directory_called_snapshots_is_no_cache(tmp_path: Path) -> None:
    write_trainer(tmp_path, 5)
    (tmp_path / "snapshots").mkdir()
    assert layouts(discover_run([tmp_path])) == {"trainer"}


def test_a_cache_whose_steps_are_all_gone_says_so(tmp_path: Path) -> None:
    for step in (1, 2):
        point(tmp_path, f"step{step}", commit_of(f"{step}"))
    (tmp_path / "snapshots").mkdir()
    with pytest.raises(CheckpointError, match=r"none of its 2 checkpoints is complete.*not in the"):
        discover_run([tmp_path])
