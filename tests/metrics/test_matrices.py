"""Which matrices a layer of each shape and dtype holds."""

import pytest
import torch

from altgrad_inspect.metrics.matrices import (
    MatrixPlan,
    matrices,
    matrix_shapes,
    weightless_reason,
)


@pytest.mark.parametrize(
    ("shape", "num_matrices", "rows", "cols"),
    [
        ((3, 5), 1, 3, 5),
        ((1, 7), 1, 1, 7),
        ((8, 4, 3), 1, 8, 12),  # 1-D convolution
        ((8, 4, 16), 1, 8, 64),  # the longest kernel
        ((8, 4, 17), 8, 4, 17),  # the narrowest stack
        ((64, 3, 7, 7), 1, 64, 147),
        ((6, 2, 3, 4, 5), 1, 6, 120),
    ],
)
def test_each_shape_is_read_as_its_rule_says(
    shape: tuple[int, ...], num_matrices: int, rows: int, cols: int
) -> None:
    plan = MatrixPlan(num_matrices=num_matrices, rows=rows, cols=cols)
    assert matrix_shapes(shape) == plan
    found = list(matrices(torch.zeros(shape)))
    assert [tuple(matrix.shape) for matrix in found] == [(rows, cols)] * num_matrices


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((), "0-D: a number has no spectrum"),
        ((9,), "1-D: a vector has no spectrum"),
        ((0,), "empty: a layer without weights has no spectrum"),
        ((4, 0), "empty: a layer without weights has no spectrum"),
        ((2, 2, 0, 3), "empty: a layer without weights has no spectrum"),
        ((1, 1, 1, 1, 1, 1), "6-D: no rule says which matrix this is"),
        ((2,) * 7, "7-D: no rule says which matrix this is"),
    ],
)
def test_other_shapes_hold_none_and_say_why(shape: tuple[int, ...], reason: str) -> None:
    assert matrix_shapes(shape) == reason
    with pytest.raises(ValueError, match=r"holds no matrix, expected 2 to 5 dimensions \("):
        next(matrices(torch.zeros(shape)))


def test_a_stack_is_given_out_one_expert_at_a_time_without_copies() -> None:
    stack = torch.arange(3 * 4 * 20.0).reshape(3, 4, 20)
    for index, matrix in enumerate(matrices(stack)):
        assert torch.equal(matrix, stack[index])
        assert matrix.data_ptr() == stack[index].data_ptr()


def test_a_convolution_keeps_one_row_for_each_output() -> None:
    kernel = torch.arange(2 * 3 * 2 * 2.0).reshape(2, 3, 2, 2)
    (matrix,) = matrices(kernel)
    assert torch.equal(matrix[1], kernel[1].flatten())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floating_point_of_16_bits_and_more_carries_weights(dtype: torch.dtype) -> None:
    assert weightless_reason(dtype) is None


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        (torch.float8_e4m3fn, "float8_e4m3fn: codes without their scale"),
        (torch.float8_e5m2, "wrong by 1/scale"),
        (torch.float8_e8m0fnu, "float8_e8m0fnu: codes"),
        (torch.float4_e2m1fn_x2, "float4_e2m1fn_x2: codes"),
        (torch.complex64, "complex64: complex numbers"),
        (torch.bool, "bool: not floating-point numbers"),
        (torch.uint8, "uint8: not floating-point numbers"),
        (torch.int64, "int64: not floating-point numbers"),
    ],
)
def test_other_dtypes_say_why_they_do_not(dtype: torch.dtype, words: str) -> None:
    reason = weightless_reason(dtype)
    assert reason is not None
    assert words in reason
