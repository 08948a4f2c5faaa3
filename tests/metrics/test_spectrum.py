"""Ranks of matrices whose singular values are known, and matrices that have none."""

import math
from dataclasses import replace

import pytest
import torch

from altgrad_inspect.metrics.certificate import effective_rank_error
from altgrad_inspect.metrics.eigenvalues import find_eigenvalues
from altgrad_inspect.metrics.singular_values import _agrees, find_by_gram, find_by_svd
from altgrad_inspect.metrics.spectrum import MAX_EFFECTIVE_RANK_ERROR, measure_spectrum
from altgrad_inspect.records import Spectrum, Undefined

every_dtype = pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64]
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def measured(matrix: torch.Tensor, *, keep_singular_values: bool = True) -> Spectrum:
    spectrum = measure_spectrum(matrix, keep_singular_values=keep_singular_values)
    assert isinstance(spectrum, Spectrum)
    return spectrum


def random_orthogonal(size: int, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(size, size, generator=generator, dtype=torch.float64)
    orthogonal: torch.Tensor = torch.linalg.qr(square).Q
    return orthogonal


def with_singular_values(rows: int, values: list[float], *, seed: int = 0) -> torch.Tensor:
    left = random_orthogonal(rows, seed=seed)[:, : len(values)]
    right = random_orthogonal(len(values), seed=seed + 1)
    return left @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ right


@every_dtype
@pytest.mark.parametrize("size", [1, 2, 3, 8, 65, 100])
def test_the_identity_has_every_rank_equal_to_its_size(size: int, dtype: torch.dtype) -> None:
    spectrum = measured(torch.eye(size, dtype=dtype))
    expected = Spectrum(
        stable_rank=float(size),
        effective_rank=float(size),
        spectral_norm=1.0,
        frobenius_norm=math.sqrt(size),
        nuclear_norm=float(size),
        numerical_rank=size,
        participation_ratio=float(size),
        outlier_share=1.0,
        method="exact",
        stable_rank_error=spectrum.stable_rank_error,
        effective_rank_error=spectrum.effective_rank_error,
        singular_values=(1.0,) * size,
    )
    assert spectrum.effective_rank == pytest.approx(size, rel=1e-14)
    assert replace(spectrum, effective_rank=expected.effective_rank) == expected


@pytest.mark.parametrize("shape", [(2, 2), (7, 300), (300, 7), (700, 70), (70, 700)])
def test_a_matrix_of_ones_has_rank_one(shape: tuple[int, int]) -> None:
    spectrum = measured(torch.ones(shape))
    root = math.sqrt(math.prod(shape))
    assert spectrum.stable_rank == pytest.approx(1, abs=1e-13)
    assert spectrum.effective_rank == pytest.approx(1, abs=spectrum.effective_rank_error)
    assert spectrum.effective_rank_error < 1e-5
    assert spectrum.participation_ratio == pytest.approx(1, abs=1e-13)
    assert spectrum.numerical_rank == 1
    assert spectrum.spectral_norm == pytest.approx(root, rel=1e-13)
    assert spectrum.frobenius_norm == pytest.approx(root, rel=1e-13)
    assert spectrum.nuclear_norm == pytest.approx(root, rel=spectrum.effective_rank_error)
    assert spectrum.outlier_share == pytest.approx(1 / math.prod(shape), rel=1e-13)


@pytest.mark.parametrize("transpose", [False, True])
def test_two_values_by_hand(transpose: bool) -> None:  # noqa: FBT001  # a parameter
    matrix = torch.tensor([[0.0, -4.0], [3.0, 0.0], [0.0, 0.0]])
    spectrum = measured(matrix.T if transpose else matrix)
    assert spectrum.stable_rank == pytest.approx(25 / 16, rel=1e-15)
    entropy = -(4 / 7) * math.log(4 / 7) - (3 / 7) * math.log(3 / 7)
    assert spectrum.effective_rank == pytest.approx(math.exp(entropy), rel=1e-14)
    assert spectrum.participation_ratio == pytest.approx(625 / 337, rel=1e-14)
    assert (spectrum.spectral_norm, spectrum.frobenius_norm) == (4.0, 5.0)
    assert spectrum.nuclear_norm == pytest.approx(7.0, rel=1e-15)
    assert spectrum.numerical_rank == 2
    assert spectrum.outlier_share == 1.0
    assert spectrum.singular_values == (4.0, 3.0)


@pytest.mark.parametrize("rows", [6, 9, 600])
def test_planted_values_are_found_in_order(rows: int) -> None:
    planted = [5.0, 4.0, 2.0, 1.0, 0.5, 0.25]
    spectrum = measured(with_singular_values(rows, planted))
    assert spectrum.singular_values == pytest.approx(planted, rel=1e-13)
    assert spectrum.numerical_rank == 6


@every_dtype
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (1, 2000), (2000, 1)])
def test_one_row_or_one_column_has_rank_one_exactly(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    matrix = torch.linspace(-1, 2, math.prod(shape)).reshape(shape).to(dtype)
    spectrum = measured(matrix)
    ranks = (spectrum.stable_rank, spectrum.effective_rank, spectrum.participation_ratio)
    assert ranks == (1.0, 1.0, 1.0)
    assert (spectrum.stable_rank_error, spectrum.effective_rank_error) == (0.0, 0.0)
    expected = math.sqrt(math.fsum(float(w) ** 2 for w in matrix.flatten()))
    norms = (spectrum.spectral_norm, spectrum.frobenius_norm, spectrum.nuclear_norm)
    assert norms == pytest.approx([expected] * 3, rel=1e-14)


@pytest.mark.parametrize("exponent", [-149, -100, -30, 30, 100, 120])
def test_a_power_of_two_moves_the_norms_and_nothing_else(exponent: int) -> None:
    whole = torch.randint(-9, 10, (70, 40), generator=torch.Generator().manual_seed(3)).float()
    plain = measured(whole)
    scaled = measured(torch.ldexp(whole.double(), torch.tensor(exponent)).float())
    assert scaled == replace(
        plain,
        spectral_norm=math.ldexp(plain.spectral_norm, exponent),
        frobenius_norm=math.ldexp(plain.frobenius_norm, exponent),
        nuclear_norm=math.ldexp(plain.nuclear_norm, exponent),
        singular_values=tuple(math.ldexp(s, exponent) for s in plain.singular_values or ()),
    )


@pytest.mark.parametrize("exponent", [-1060, -600, 600, 1010])
def test_float64_may_be_as_large_and_small_as_it_gets(exponent: int) -> None:
    whole = torch.randint(-9, 10, (30, 20), generator=torch.Generator().manual_seed(3)).double()
    half = torch.ldexp(whole, torch.tensor(exponent // 2))
    scaled = torch.ldexp(half, torch.tensor(exponent - exponent // 2))
    plain, extreme = measured(whole), measured(scaled)
    assert extreme.stable_rank == plain.stable_rank
    assert extreme.effective_rank == plain.effective_rank
    assert extreme.numerical_rank == plain.numerical_rank == 20
    assert extreme.spectral_norm == math.ldexp(plain.spectral_norm, exponent)


@pytest.mark.parametrize("factor", [1e-30, 1e30, 1e-40])
def test_ranks_of_tiny_and_huge_matrices_are_those_of_the_plain_one(factor: float) -> None:
    plain = torch.randn(50, 30, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    stored = (plain * factor).float()
    expected = torch.linalg.svdvals(stored.double() / factor)
    spectrum = measured(stored)
    stable = float(expected.square().sum() / expected[0] ** 2)
    assert spectrum.stable_rank == pytest.approx(stable, rel=1e-12)


def test_the_smallest_denormal_alone_is_a_matrix_of_rank_one() -> None:
    matrix = torch.zeros(4, 4, dtype=torch.float64)
    matrix[1, 2] = 5e-324
    spectrum = measured(matrix)
    assert (spectrum.stable_rank, spectrum.effective_rank) == (1.0, 1.0)
    assert spectrum.spectral_norm == 5e-324
    assert spectrum.singular_values == (5e-324, 0.0, 0.0, 0.0)


def test_rows_and_columns_of_zeros_change_nothing_but_the_range() -> None:
    core = torch.randn(12, 9, generator=torch.Generator().manual_seed(7))
    padded = torch.zeros(700, 80)
    padded[3:600:50, 2:74:8] = core
    plain, spectrum = measured(core), measured(padded)
    assert spectrum.effective_rank == pytest.approx(plain.effective_rank, rel=1e-14)
    assert spectrum.stable_rank == pytest.approx(plain.stable_rank, rel=1e-14)
    assert spectrum.numerical_rank == plain.numerical_rank == 9
    assert spectrum.singular_values is not None
    assert len(spectrum.singular_values) == 80
    assert spectrum.singular_values[9:] == (0.0,) * 71


def test_columns_of_zeros_are_left_out_of_the_gram_matrix() -> None:
    padded = torch.zeros(30, 20)
    padded[4:16, 2:19:2] = torch.randn(12, 9, generator=torch.Generator().manual_seed(7))
    found = find_by_gram(padded, exponent=0)
    assert found is not None
    assert found.values.numel() == 9


def test_few_rows_that_are_not_zero_are_found_by_the_svd() -> None:
    matrix = torch.zeros(900, 60)
    matrix[[5, 400, 899]] = torch.randn(3, 60, generator=torch.Generator().manual_seed(9))
    found = find_by_svd(matrix, exponent=0)
    assert found.values.numel() == 3
    spectrum = measured(matrix)
    expected = measured(matrix[[5, 400, 899]])
    assert spectrum.effective_rank == pytest.approx(expected.effective_rank, rel=1e-12)
    assert spectrum.numerical_rank == 3


@pytest.mark.parametrize("shape", [(96, 64), (64, 96), (1300, 64), (64, 64), (513, 512)])
def test_both_ways_find_the_same_values(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(11))
    by_gram, by_svd = find_by_gram(matrix, exponent=-3), find_by_svd(matrix, exponent=-3)
    assert by_gram is not None
    difference = (by_gram.values - by_svd.values).abs()
    assert bool((difference <= by_gram.errors + by_svd.errors).all())
    assert by_gram.squared_norm == pytest.approx(by_svd.squared_norm, rel=1e-14)


@pytest.mark.parametrize("weight", [1.0, 0.1, 1 / 3])
@pytest.mark.parametrize("shape", [(30_000, 20), (300, 6000), (200, 200)])
def test_constant_matrices_stay_inside_the_bounds(shape: tuple[int, int], weight: float) -> None:
    """The hardest sums: every addition rounds to the same side, so errors do not cancel."""
    matrix = torch.full(shape, weight)
    truth = float(matrix[0, 0]) * math.sqrt(math.prod(shape))
    ways = (find_by_gram(matrix, exponent=0), find_by_svd(matrix, exponent=0))
    for found in ways:
        assert found is not None
        assert abs(float(found.values[0]) - truth) <= float(found.errors[0]) + truth * 2**-52
        assert bool((found.values[1:] <= found.errors[1:]).all())
        off = abs(found.squared_norm / truth**2 - 1)
        assert off <= found.squared_norm_error + 2**-52
    by_gram = ways[0]
    assert by_gram is not None
    assert float(by_gram.values[0]) == pytest.approx(truth, rel=2e-14)


def test_the_bounds_of_the_gram_matrix_cover_every_addition() -> None:
    matrix = torch.ones(1100, 30)  # sums of 512, 512 and 76 rows, one value: sqrt(33000)
    found = find_by_gram(matrix, exponent=0)
    assert found is not None
    assert found.squared_norm_error == (512 + 3 + 1 + 30) * 2**-53
    relative = (512 + 3 + 1 + 16 * math.sqrt(30)) * 2**-53
    assert float(found.errors[0]) == pytest.approx(relative * math.sqrt(33000), rel=1e-9)


@pytest.mark.parametrize(
    ("eigenvalues", "agrees"),
    [
        ([3.0, 2.0, 1.0], True),
        ([3.0, 2.0, 1.0 + 1e-6], False),  # another trace
        ([3.0 + 1e-6, 2.0 - 1e-6, 1.0], False),  # the same trace, other squares
        ([math.nan, 2.0, 1.0], False),
    ],
)
def test_eigenvalues_must_have_the_trace_and_the_norm_of_their_matrix(
    eigenvalues: list[float],
    agrees: bool,  # noqa: FBT001  # a parameter
) -> None:
    found = torch.tensor(eigenvalues, dtype=torch.float64)
    assert _agrees(found, trace=6.0, squares=14.0, error=1e-12) is agrees


def test_rank_one_is_beyond_the_gram_matrix_and_taken_by_the_svd() -> None:
    generator = torch.Generator().manual_seed(13)
    matrix = torch.randn(300, 1, generator=generator) @ torch.randn(1, 200, generator=generator)
    by_gram = find_by_gram(matrix, exponent=-3)
    assert by_gram is not None
    assert effective_rank_error(by_gram.values, by_gram.errors) > MAX_EFFECTIVE_RANK_ERROR
    spectrum = measured(matrix)
    assert spectrum.effective_rank_error < 1e-8
    truth = torch.linalg.svdvals(matrix.double())
    shares = truth / truth.sum()
    expected = math.exp(float(torch.special.entr(shares).sum()))
    assert spectrum.effective_rank == pytest.approx(expected, rel=1e-10)


def test_values_below_the_resolution_of_the_gram_matrix_are_counted_by_the_svd() -> None:
    """The ranks themselves are certain here, so only the count calls for the SVD."""
    planted = [*[1.0] * 39, 1e-11]
    matrix = with_singular_values(40, planted)
    by_gram = find_by_gram(matrix, exponent=0)
    assert by_gram is not None
    assert effective_rank_error(by_gram.values, by_gram.errors) < MAX_EFFECTIVE_RANK_ERROR
    spectrum = measured(matrix)
    assert spectrum.numerical_rank == 40
    assert spectrum.singular_values is not None
    assert spectrum.singular_values[-1] == pytest.approx(1e-11, rel=1e-3)
    assert measured(with_singular_values(40, [*[1.0] * 39, 1e-17])).numerical_rank == 39


def test_the_count_uses_the_rounding_of_the_stored_dtype() -> None:
    planted = [1.0, 0.5, 3e-4, 1e-7]
    matrix = with_singular_values(4, planted)
    assert measured(matrix).numerical_rank == 4
    assert measured(matrix.float()).numerical_rank == 3  # 4 * 1.2e-7
    narrow = measure_spectrum(matrix, stored_eps=torch.finfo(torch.float16).eps)  # 4 * 9.8e-4
    assert isinstance(narrow, Spectrum)
    assert narrow.numerical_rank == 2


@pytest.mark.parametrize(("size", "rank"), [(127, 127), (128, None)])
def test_a_threshold_that_takes_every_value_counts_nothing(size: int, rank: int | None) -> None:
    assert measured(torch.eye(size, dtype=torch.bfloat16)).numerical_rank == rank


def test_one_weight_is_never_more_than_the_whole_spectral_norm() -> None:
    """Nearly diagonal matrices: a quarter of them rounds to a share of 1 + 4e-16."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        diagonal = torch.diag(torch.rand(4, generator=generator) + 0.1)
        noise = 1e-9 * torch.randn(4, 4, generator=generator)
        assert measured(diagonal + noise).outlier_share <= 1


def test_the_values_are_left_out_unless_asked_for() -> None:
    assert measured(torch.eye(3), keep_singular_values=False).singular_values is None


def test_the_input_is_left_as_it_was() -> None:
    matrix = torch.randn(40, 30, dtype=torch.float64).requires_grad_()
    before = matrix.detach().clone()
    measured(matrix)
    assert torch.equal(matrix.detach(), before)


def test_a_view_is_measured_like_its_copy() -> None:
    whole = torch.randn(90, 80, generator=torch.Generator().manual_seed(17))
    view = whole.T[10:70:2, 5:50]
    spectrum, expected = measured(view), measured(view.contiguous())
    assert spectrum.stable_rank == pytest.approx(expected.stable_rank, rel=1e-14)
    assert spectrum.singular_values == pytest.approx(expected.singular_values, rel=1e-12)


@every_dtype
def test_a_zero_matrix_has_no_rank(dtype: torch.dtype) -> None:
    assert measure_spectrum(torch.zeros(3, 4, dtype=dtype)) == Undefined(reason="zero matrix")


def test_an_empty_matrix_has_no_rank() -> None:
    assert measure_spectrum(torch.zeros(0, 4)) == Undefined(reason="no weights")


@every_dtype
@pytest.mark.parametrize(
    ("bad", "counts"),
    [
        ([math.nan], "1 NaN and 0 Inf"),
        ([math.inf], "0 NaN and 1 Inf"),
        ([-math.inf, math.nan, math.nan], "2 NaN and 1 Inf"),
    ],
)
def test_nan_and_inf_are_counted(bad: list[float], counts: str, dtype: torch.dtype) -> None:
    matrix = torch.ones(30, 40, dtype=dtype)
    matrix.view(-1)[torch.arange(len(bad)) * 7] = torch.tensor(bad, dtype=dtype)
    assert measure_spectrum(matrix) == Undefined(reason=f"{counts} among 1,200 weights")


def test_norms_that_no_float64_holds_are_undefined() -> None:
    matrix = torch.full((10, 10), 1e308, dtype=torch.float64)
    assert measure_spectrum(matrix) == Undefined(reason="norms too large for a float64")


def test_an_eigensolver_that_gives_up_is_noticed() -> None:
    assert find_eigenvalues(torch.full((3, 3), math.nan, dtype=torch.float64)) is None
