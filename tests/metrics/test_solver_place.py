"""The one rule for where decompositions run; what it says of a GPU is unmeasured."""

import threading

import pytest
import torch

from altgrad_inspect.metrics.solver_place import (
    LEAST_COLUMNS_ON_GPU,
    choose_solver_device,
    placed_for_solver,
)

GPU, CPU = torch.device("cuda:0"), torch.device("cpu")


@pytest.mark.parametrize(
    ("num_columns", "device", "expected"),
    [
        (LEAST_COLUMNS_ON_GPU - 1, GPU, CPU),
        (LEAST_COLUMNS_ON_GPU, GPU, GPU),
        (1, CPU, CPU),
        (1 << 20, CPU, CPU),
    ],
)
def test_only_wide_matrices_are_solved_on_the_gpu(
    num_columns: int, device: torch.device, expected: torch.device
) -> None:
    assert choose_solver_device(num_columns, device) == expected


def test_on_the_cpu_it_is_the_matrix_itself_and_nobody_waits() -> None:
    matrix = torch.eye(3)
    inside = [placed_for_solver(matrix) for _ in range(9)]
    assert all(one.__enter__() is matrix for one in inside)
    for one in inside:
        one.__exit__(None, None, None)


def test_few_solve_on_the_gpu_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a device in the GPU's place: the rule is asked, the turns are taken and given back."""
    place = "altgrad_inspect.metrics.solver_place"
    turns = threading.BoundedSemaphore(2)
    monkeypatch.setattr(f"{place}._turns", turns)
    monkeypatch.setattr(f"{place}.choose_solver_device", lambda *_: torch.device("meta"))
    matrix = torch.eye(3)
    with placed_for_solver(matrix) as placed, placed_for_solver(matrix):
        assert placed is matrix
        assert not turns.acquire(blocking=False)
    with pytest.raises(torch.linalg.LinAlgError), placed_for_solver(matrix):  # type: ignore[attr-defined]
        raise torch.linalg.LinAlgError  # type: ignore[attr-defined]
    assert turns.acquire(blocking=False)
    assert turns.acquire(blocking=False)
