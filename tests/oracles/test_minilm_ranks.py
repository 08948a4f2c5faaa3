"""Ranks of every matrix of a published model, against numpy and against WeightWatcher."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from altgrad_inspect.metrics.matrices import matrices, matrix_shapes
from altgrad_inspect.metrics.spectrum import measure_spectrum
from altgrad_inspect.records import Spectrum


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def layers_with_matrices(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  # not a mapping
            tensor = file.get_tensor(name)
            if tensor.is_floating_point() and not isinstance(
                matrix_shapes(tuple(tensor.shape)), str
            ):
                yield name, tensor


def measured(tensor: torch.Tensor) -> Spectrum:
    (matrix,) = matrices(tensor)
    spectrum = measure_spectrum(matrix)
    assert isinstance(spectrum, Spectrum)
    return spectrum


def test_every_matrix_agrees_with_the_float64_svd_of_numpy(minilm_path: Path) -> None:
    num_matrices = 0
    for name, tensor in layers_with_matrices(minilm_path):
        spectrum = measured(tensor)
        exact = tensor.double().numpy()
        tall = exact if exact.shape[0] >= exact.shape[1] else np.ascontiguousarray(exact.T)
        values = np.linalg.svd(tall, compute_uv=False)
        shares = values / values.sum()
        stable = (values**2).sum() / values[0] ** 2
        effective = np.exp(-(shares * np.log(shares)).sum())
        stable_error = abs(spectrum.stable_rank / stable - 1)
        effective_error = abs(spectrum.effective_rank / effective - 1)
        assert stable_error < 1e-12, name
        assert effective_error < 1e-8, name
        assert stable_error <= spectrum.stable_rank_error, name
        assert effective_error <= spectrum.effective_rank_error < 1e-5, name
        threshold = max(tall.shape) * np.finfo(np.float32).eps * values[0]
        assert spectrum.numerical_rank == np.linalg.matrix_rank(tall, tol=threshold), name
        assert spectrum.spectral_norm == pytest.approx(values[0], rel=1e-13), name
        assert spectrum.frobenius_norm == pytest.approx(np.linalg.norm(exact), rel=1e-13), name
        assert spectrum.nuclear_norm == pytest.approx(values.sum(), rel=1e-10), name
        num_matrices += 1
    assert num_matrices == 40


def test_weightwatcher_reports_the_same_ranks_and_norms(minilm_path: Path) -> None:
    """Its ``spectral_norm`` and ``norm`` are the squares of the norms that they are named for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weightwatcher = pytest.importorskip(
            "weightwatcher", reason="WeightWatcher is not installed: pip install weightwatcher"
        )
        model = torch.nn.ModuleDict()
        for name, tensor in layers_with_matrices(minilm_path):
            if "encoder.layer" in name:
                linear = torch.nn.Linear(tensor.shape[1], tensor.shape[0], bias=False)
                linear.weight = torch.nn.Parameter(tensor, requires_grad=False)
                model[name.replace(".", "_")] = linear
        details = weightwatcher.WeightWatcher(model=model).analyze()
    assert len(details) == 36
    for row in details.itertuples():
        layer = model[row.longname]
        assert isinstance(layer, torch.nn.Linear)
        spectrum = measured(layer.weight.detach())
        assert spectrum.stable_rank == pytest.approx(row.stable_rank, rel=1e-12)
        assert spectrum.spectral_norm**2 == pytest.approx(row.spectral_norm, rel=1e-12)
        assert spectrum.frobenius_norm**2 == pytest.approx(row.norm, rel=1e-12)
