"""What holds for the spectrum of every matrix, on matrices that hypothesis makes up."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from altgrad_inspect.metrics.spectrum import measure_spectrum
from altgrad_inspect.records import Spectrum, Undefined

whole = st.integers(-50, 50)
any_weight = st.floats(width=32)


@st.composite
def tables(draw: st.DrawFn, weights: st.SearchStrategy[float]) -> torch.Tensor:
    rows, cols = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    numbers = draw(st.lists(weights, min_size=rows * cols, max_size=rows * cols))
    return torch.tensor(numbers, dtype=torch.float32).reshape(rows, cols)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@given(matrix=tables(any_weight))
@settings(max_examples=150)
def test_every_matrix_is_measured_in_range_or_undefined_with_a_reason(
    matrix: torch.Tensor,
) -> None:
    spectrum = measure_spectrum(matrix, keep_singular_values=True)
    if isinstance(spectrum, Undefined):
        assert spectrum.reason == "zero matrix" or not bool(matrix.isfinite().all())
        return
    smaller = min(matrix.shape)
    for rank in (spectrum.stable_rank, spectrum.effective_rank, spectrum.participation_ratio):
        assert 1 <= rank <= smaller
    assert 0 < spectrum.outlier_share <= 1
    assert spectrum.numerical_rank is not None
    assert 1 <= spectrum.numerical_rank <= smaller
    assert 0 <= spectrum.stable_rank_error < 1e-12
    assert 0 <= spectrum.effective_rank_error < 1e-5
    slack = 1 + 1e-13
    assert 0 < spectrum.spectral_norm <= spectrum.frobenius_norm * slack
    assert spectrum.frobenius_norm <= spectrum.nuclear_norm * slack
    values = spectrum.singular_values
    assert values is not None
    assert len(values) == smaller
    assert list(values) == sorted(values, reverse=True)
    assert values[0] == spectrum.spectral_norm


@given(matrix=tables(whole), exponent=st.integers(-120, 110))
@settings(max_examples=60)
def test_a_power_of_two_leaves_every_rank_bit_identical(
    matrix: torch.Tensor, exponent: int
) -> None:
    plain = measure_spectrum(matrix)
    scaled = measure_spectrum(matrix * math.ldexp(1.0, exponent))
    if isinstance(plain, Undefined) or isinstance(scaled, Undefined):
        assert plain == scaled
        return
    back = replace(
        scaled,
        spectral_norm=math.ldexp(scaled.spectral_norm, -exponent),
        frobenius_norm=math.ldexp(scaled.frobenius_norm, -exponent),
        nuclear_norm=math.ldexp(scaled.nuclear_norm, -exponent),
    )
    assert back == plain


@given(matrix=tables(whole), data=st.data())
@settings(max_examples=60)
def test_the_order_of_rows_and_columns_and_their_signs_do_not_matter(
    matrix: torch.Tensor, data: st.DataObject
) -> None:
    rows = data.draw(st.permutations(range(matrix.shape[0])))
    cols = data.draw(st.permutations(range(matrix.shape[1])))
    signs = data.draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=7, max_size=7))
    shuffled = matrix[rows][:, cols] * torch.tensor(signs[: matrix.shape[1]])
    plain, other = measure_spectrum(matrix), measure_spectrum(shuffled)
    if isinstance(plain, Undefined) or isinstance(other, Undefined):
        assert plain == other
        return
    assert other.stable_rank == pytest.approx(plain.stable_rank, rel=1e-13)
    bound = plain.effective_rank_error + other.effective_rank_error
    assert other.effective_rank == pytest.approx(plain.effective_rank, rel=bound)
    assert other.numerical_rank == plain.numerical_rank


@given(matrix=tables(whole))
@settings(max_examples=60)
def test_the_same_matrix_twice_gives_the_same_bits(matrix: torch.Tensor) -> None:
    assert measure_spectrum(matrix) == measure_spectrum(matrix.clone())


@given(matrix=tables(whole), copies=st.integers(2, 4))
@settings(max_examples=40)
def test_stacking_copies_scales_the_norms_and_keeps_the_ranks(
    matrix: torch.Tensor, copies: int
) -> None:
    plain, stacked = measure_spectrum(matrix), measure_spectrum(matrix.repeat(copies, 1))
    if not isinstance(plain, Spectrum) or not isinstance(stacked, Spectrum):
        assert plain == stacked
        return
    factor = math.sqrt(copies)
    assert stacked.spectral_norm == pytest.approx(factor * plain.spectral_norm, rel=1e-13)
    assert stacked.stable_rank == pytest.approx(plain.stable_rank, rel=1e-13)
    bound = plain.effective_rank_error + stacked.effective_rank_error
    assert stacked.effective_rank == pytest.approx(plain.effective_rank, rel=bound)
