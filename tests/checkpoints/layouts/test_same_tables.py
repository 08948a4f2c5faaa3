"""A run says the same in every layout: its tables are those of plain files, but for paths."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.tables.results import Results
from tests.checkpoints.layouts.dcp_run import write_dcp
from tests.checkpoints.layouts.known_run import (
    STEPS,
    assert_same_tables,
    known_run,
    layout_names,
    measure,
    write_plain,
)
from tests.checkpoints.layouts.nanotron_run import write_nanotron
from tests.checkpoints.layouts.olmo_keys import encode_key
from tests.checkpoints.runs_on_disk import write_json, write_shards, write_weights

Run = Mapping[int, Mapping[str, Tensor]]
SECOND = "model_1."
WORDS = ("", "step", "step-", "checkpoint-", "checkpoint_", "epoch_")


def write_trainer_shards(root: Path, run: Run) -> None:
    for step, weights in run.items():
        write_shards(root / f"checkpoint-{step}", weights)
        write_json(root / f"checkpoint-{step}" / "trainer_state.json", {"global_step": step})
    write_weights(root / "model.safetensors", run[max(run)])  # the final one is no step


def write_nanotron_of_four(root: Path, run: Run) -> None:
    write_nanotron(root, run, tp=4)


def write_nanotron_of_one(root: Path, run: Run) -> None:
    write_nanotron(root, run, tp=1)


def write_dcp_of_one(root: Path, run: Run) -> None:
    write_dcp(root, run, ranks=1)


def write_dcp_consolidated(root: Path, run: Run) -> None:
    write_dcp(root, run, consolidated=True)
    _mend_scalars(root, run)


def write_torchtitan(root: Path, run: Run) -> None:
    write_dcp(root / "checkpoint", run, consolidated=True)
    _mend_scalars(root / "checkpoint", run)


def _mend_scalars(root: Path, run: Run) -> None:
    """Torch 2.13 writes tensors without dimensions as zeros when it consolidates."""
    for step, weights in run.items():
        path = root / f"step-{step}" / "model-00001-of-00001.safetensors"
        consolidated = load_file(path)
        scalars = {name: tensor for name, tensor in weights.items() if tensor.ndim == 0}
        assert {name: float(consolidated[name]) for name in scalars} == dict.fromkeys(scalars, 0.0)
        save_file({**consolidated, **scalars}, path)


def write_torchtune(root: Path, run: Run) -> None:
    for step, weights in run.items():
        write_shards(root / f"epoch_{step}", weights)
        (root / f"epoch_{step}" / "adapter_model.pt").write_bytes(b"PK")
        write_weights(root / f"epoch_{step}" / "adapter_model.safetensors")
    (root / "recipe_state").mkdir()
    (root / "recipe_state" / "recipe_state.pt").write_bytes(b"PK")


def write_accelerate(root: Path, run: Run) -> None:
    for step, weights in run.items():
        directory = root / f"checkpoint_{step}"
        write_weights(directory / "model.safetensors", weights)
        for name in ("optimizer.bin", "random_states_0.pkl", "scheduler.bin"):
            (directory / name).write_bytes(b"\x80\x02")


def write_olmo(root: Path, run: Run) -> None:
    for step, weights in run.items():
        directory = root / f"step{step}-unsharded"
        keyed = {encode_key(name): tensor for name, tensor in weights.items()}
        write_weights(directory / "model.safetensors", keyed)
        write_weights(directory / "optim.safetensors", {encode_key("state"): torch.zeros(2)})
        (directory / "train.pt").write_bytes(b"PK")
        sharded = root / f"step{step}"
        for part in ("model", "optim", "train"):
            (sharded / part).mkdir(parents=True)
            (sharded / part / "rank0.pt").write_bytes(b"PK")
    (root / "latest-unsharded").symlink_to(f"step{max(run)}-unsharded")


class Case(NamedTuple):
    """A layout: how its run is written, what of it is the run, and what it is called."""

    write: Callable[[Path, Run], object]
    inside: str
    layout: str


CASES = [
    Case(write_trainer_shards, "", "trainer"),
    Case(write_nanotron, "", "nanotron"),
    Case(write_nanotron_of_one, "", "nanotron"),
    Case(write_nanotron_of_four, "", "nanotron"),
    Case(write_dcp, "", "dcp-shards"),
    Case(write_dcp_of_one, "", "dcp-shards"),
    Case(write_dcp_consolidated, "", "step-directories"),
    Case(write_torchtitan, "checkpoint", "torchtitan"),
    Case(write_torchtune, "", "torchtune"),
    Case(write_accelerate, "", "accelerate"),
    Case(write_olmo, "", "olmo"),
]

each_layout = pytest.mark.parametrize("case", CASES, ids=lambda case: case.write.__name__)


@pytest.fixture(scope="module")
def run() -> Run:
    return known_run()


@pytest.fixture(scope="module")
def plain(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return measure(write_plain(tmp_path_factory.mktemp("plain"), run))


@each_layout
def test_a_run_has_the_tables_of_plain_files(
    case: Case, run: Run, plain: Results, tmp_path: Path
) -> None:
    case.write(tmp_path, run)
    found = measure(tmp_path / case.inside)
    assert layout_names(found) == {case.layout}
    assert_same_tables(found, plain)


@each_layout
def test_its_checkpoints_named_one_by_one_are_the_same_run(
    case: Case, run: Run, tmp_path: Path
) -> None:
    case.write(tmp_path, run)
    ending = "-unsharded" if case.layout == "olmo" else ""
    named = [
        next(one for one in (tmp_path / case.inside).iterdir() if one.name in names)
        for names in ({f"{word}{step}{ending}" for word in WORDS} for step in STEPS)
    ]
    expected = discover_run([tmp_path / case.inside]).checkpoints
    assert [ref.layout for ref in expected] == [case.layout] * len(STEPS)
    assert discover_run(named).checkpoints == expected
    assert [discover_run([one]).checkpoints for one in named] == [(ref,) for ref in expected]


def test_the_second_model_of_accelerate_is_read_under_a_prefix(run: Run, tmp_path: Path) -> None:
    write_accelerate(tmp_path / "both", run)
    for step, weights in run.items():
        directory = tmp_path / "both" / f"checkpoint_{step}"
        reversed_ = {name: -tensor for name, tensor in weights.items()}
        write_weights(directory / "model_1.safetensors", reversed_)
    write_plain(
        tmp_path / "plain",
        {
            step: dict(weights) | {SECOND + name: -tensor for name, tensor in weights.items()}
            for step, weights in run.items()
        },
    )
    found = measure(tmp_path / "both")
    assert_same_tables(found, measure(tmp_path / "plain"))
    assert any("count saves of accelerate, not training steps" in note for note in found.notes)
