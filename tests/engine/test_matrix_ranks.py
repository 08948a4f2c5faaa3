"""Which ranks are measured, which are taken over, and what the rows say of it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from altgrad_inspect import api
from altgrad_inspect.engine.matrix_ranks import MatrixRanks, measure_ranks
from altgrad_inspect.metrics.spectrum import measure_spectrum
from altgrad_inspect.metrics.spectrum_estimate import AUTO_SIDE, MIN_ESTIMATED_SIDE
from altgrad_inspect.records import Spectrum, StableRank, Undefined
from altgrad_inspect.settings import RankSettings


def gaussian(rows: int, cols: int, *, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))


def seen(settings: RankSettings, *matrices: torch.Tensor) -> list[Spectrum | StableRank]:
    ranks, previous, found = MatrixRanks(settings), None, []
    for matrix in matrices:
        outcome = ranks.see(previous, matrix)
        assert isinstance(outcome, Spectrum | StableRank)
        found.append(outcome)
        previous = matrix
    return found


def test_without_a_tolerance_every_change_is_measured() -> None:
    first = gaussian(30, 20)
    second = first.clone()
    second[0, 0] += 1e-6
    assert seen(RankSettings(), first, second) == [
        measure_spectrum(first),
        measure_spectrum(second),
    ]


def test_a_small_change_is_carried_and_a_large_one_is_measured() -> None:
    first = gaussian(30, 20)
    second, third = first + 1e-5 * gaussian(30, 20, seed=1), gaussian(30, 20, seed=2)
    found = seen(RankSettings(tolerance=1e-2), first, second, third)
    assert [one.method for one in found] == ["exact", "carried", "exact"]
    assert found[1].stable_rank == found[0].stable_rank
    assert found[2] == measure_spectrum(third)


def test_small_changes_add_up_until_they_are_too_large() -> None:
    """A hundred steps in one direction must not be taken for none."""
    step = 1e-4 * gaussian(30, 20, seed=1)
    matrices = [gaussian(30, 20) + count * step for count in range(60)]
    found = seen(RankSettings(tolerance=1e-2), *matrices)
    methods = [one.method for one in found]
    again = methods.index("exact", 1)
    assert methods[again - 1] == methods[again + 1] == "carried"
    for matrix, one in zip(matrices, found, strict=True):
        truth = measure_spectrum(matrix)
        assert isinstance(truth, Spectrum)
        assert isinstance(one, Spectrum)
        assert one.stable_rank == pytest.approx(truth.stable_rank, rel=one.stable_rank_error)
        assert one.effective_rank == pytest.approx(
            truth.effective_rank, rel=one.effective_rank_error
        )
        assert max(one.stable_rank_error, one.effective_rank_error) <= 1.0001e-2


def test_a_multiple_of_what_was_carried_is_carried_with_its_drift() -> None:
    first = gaussian(30, 20).double()
    second = first + 1e-5 * gaussian(30, 20, seed=1)
    found = seen(RankSettings(tolerance=1e-2), first, second, 4 * second)
    assert [one.method for one in found] == ["exact", "carried", "carried"]
    assert found[2].spectral_norm == 4 * found[0].spectral_norm
    assert found[2].stable_rank_error == pytest.approx(found[1].stable_rank_error, rel=1e-9)


@pytest.mark.parametrize("tolerance", [0.0, 1e-3])
@pytest.mark.parametrize("spectra", [True, False])
def test_a_multiple_has_the_row_that_a_measurement_gives(
    *, spectra: bool, tolerance: float
) -> None:
    settings = RankSettings(spectra=spectra, tolerance=tolerance)
    matrix = gaussian(30, 20)
    found = seen(settings, matrix, -matrix / 2)
    assert found[1] == measure_spectrum(-matrix / 2, keep_singular_values=spectra)


def test_what_has_no_spectrum_is_never_carried() -> None:
    ranks = MatrixRanks(RankSettings(tolerance=0.5))
    matrix, broken = gaussian(30, 20), gaussian(30, 20)
    broken[0, 0] = torch.nan
    assert isinstance(ranks.see(None, matrix), Spectrum)
    assert isinstance(ranks.see(matrix, broken), Undefined)
    assert isinstance(ranks.see(broken, matrix), Spectrum)
    assert isinstance(ranks.see(matrix, matrix * 0), Undefined)


def test_only_large_matrices_are_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = gaussian(300, 260)
    for method in ("exact", "estimate", "auto"):
        settings = RankSettings(method=method)
        assert measure_ranks(matrix, settings, keep_singular_values=False) == measure_spectrum(
            matrix
        )
    monkeypatch.setattr("altgrad_inspect.engine.matrix_ranks.MIN_ESTIMATED_SIDE", 256)
    found = measure_ranks(matrix, RankSettings(method="estimate"), keep_singular_values=False)
    assert isinstance(found, Spectrum)
    assert found.method == "estimate"
    auto = measure_ranks(matrix, RankSettings(method="auto"), keep_singular_values=False)
    assert auto == measure_spectrum(matrix)
    assert MIN_ESTIMATED_SIDE < AUTO_SIDE


@pytest.fixture
def run(tmp_path: Path) -> Path:
    weights = {"a.weight": gaussian(40, 30), "b.weight": gaussian(30, 30, seed=1)}
    for step in range(6):
        moved = {name: value * (1 + 1e-6 * step) for name, value in weights.items()}
        save_file(moved, tmp_path / f"step_{step:06}.safetensors")
    return tmp_path


def test_the_stable_rank_alone_leaves_the_other_columns_null(run: Path) -> None:
    both = api.rank(run, device="cpu").tables["ranks"].to_pylist()
    stable = api.rank(run, device="cpu", metrics="stable").tables["ranks"].to_pylist()
    for row, whole in zip(stable, both, strict=True):
        assert row["status"] == "ok"
        for column in ("stable_rank", "stable_rank_fraction", "spectral_norm", "outlier_share"):
            assert row[column] == pytest.approx(whole[column], rel=1e-12)
        for column in ("effective_rank", "effective_rank_fraction", "effective_rank_error"):
            assert row[column] is None
        assert row["nuclear_norm"] is row["participation_ratio"] is row["numerical_rank"] is None


def test_a_report_on_the_stable_rank_alone_has_its_trends(run: Path) -> None:
    results = api.report(run, device="cpu", metrics="stable")
    trends = results.tables["trends"].to_pylist()
    values = {row["metric"] for row in trends if row["value"] is not None}
    assert "stable_rank" in values
    assert "effective_rank" not in values
    assert results.settings["metrics"] == "stable"


def test_a_tolerance_carries_ranks_through_a_run(run: Path) -> None:
    rows = api.rank(run, device="cpu", tolerance=1e-2).tables["ranks"].to_pylist()
    assert [row["method"] for row in rows if row["layer"] == "a.weight"] == [
        "exact",
        *["carried"] * 5,
    ]
    assert all(row["stable_rank_error"] < 1e-2 for row in rows)
