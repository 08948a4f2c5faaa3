"""Tensor encoding against the scalar definition, ml_dtypes and gfloat."""

import gfloat
import gfloat.formats
import ml_dtypes  # noqa: F401  # registers the dtypes with numpy
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from altgrad_inspect.codebooks import CodebookFormat
from altgrad_inspect.formats import (
    FORMATS,
    ElementFormat,
    ExponentFormat,
    FloatFormat,
    element_format,
)
from altgrad_inspect.quantize.grids import (
    count_clipped,
    decode_ordinals,
    encode_ordinals,
    measure_ulps,
    nan_ordinal,
    ordinal_dtype,
)

CATALOGUE = [
    fmt for fmt in FORMATS.values() if not isinstance(fmt, ExponentFormat | CodebookFormat)
]
SPLITS = [
    element_format(f"e{e}m{bits - 1 - e}")
    for bits in range(2, 17)
    for e in range(bits)
    if (bits, e) != (9, 8)  # e8m0 is the OCP scale format
]
EVERY = list({fmt.name: fmt for fmt in (*CATALOGUE, *SPLITS)}.values())
every_format = pytest.mark.parametrize("fmt", EVERY, ids=str)
FLOAT32_MAX = float(np.finfo(np.float32).max)
CASTS = [fmt for fmt in CATALOGUE if fmt.name.startswith(("float", "bfloat"))]


def inputs_that_decide(fmt: ElementFormat) -> NDArray[np.float32]:
    """Every value, every midpoint, one float32 to either side of each, and the extremes."""
    values = np.array([fmt.value_of(i) for i in range(fmt.code_of_max + 1)])
    values = values[values <= FLOAT32_MAX]
    middles = ((values[:-1] + values[1:]) / 2).astype(np.float32)
    points = np.concatenate([values.astype(np.float32), middles])
    around = [np.nextafter(points, np.float32(side)) for side in (-np.inf, np.inf)]
    extremes = np.array([0.0, 1e-45, 1e-38, 1.0, 1e38, FLOAT32_MAX, np.inf], dtype=np.float32)
    with np.errstate(over="ignore"):
        limit = np.array([fmt.max, fmt.max * 1.01, fmt.max * 1.04], dtype=np.float64)
        extremes = np.concatenate([extremes, np.minimum(limit, np.inf).astype(np.float32)])
    positive = np.unique(np.abs(np.concatenate([points, *around, extremes])))
    return np.concatenate([positive, -positive]).astype(np.float32)


@every_format
def test_every_value_and_midpoint_gets_the_ordinal_of_the_definition(fmt: ElementFormat) -> None:
    scaled = inputs_that_decide(fmt)
    if scaled.size > 2000:  # the scalar definition is slow; all of them below, vectorised
        scaled = scaled[:: scaled.size // 2000 + 1]
    expected = np.array([fmt.ordinal(float(x)) for x in scaled])
    np.testing.assert_array_equal(encode_ordinals(torch.from_numpy(scaled), fmt), expected)


@every_format
def test_every_value_and_midpoint_is_nearest_with_ties_to_even(fmt: ElementFormat) -> None:
    """All codes of all formats, by searching the table of values: no rounding arithmetic."""
    scaled = inputs_that_decide(fmt)
    values = np.array([fmt.value_of(i) for i in range(fmt.code_of_max + 1)])
    codes = np.flatnonzero((values > 1e-290) & (values < 1e290))  # what float64 tells apart
    codes = np.concatenate([[0], codes])
    magnitude = np.minimum(np.abs(scaled.astype(np.float64)), values[codes[-1]])
    high = np.clip(np.searchsorted(values[codes], magnitude), 1, codes.size - 1)
    below = magnitude - values[codes[high - 1]]
    above = values[codes[high]] - magnitude
    low_wins = (below < above) | ((below == above) & (codes[high - 1] % 2 == 0))
    nearest = np.where(low_wins, codes[high - 1], codes[high])
    nearest[np.isinf(scaled)] = fmt.code_of_max
    expected = np.where(scaled < 0, -nearest, nearest)
    np.testing.assert_array_equal(encode_ordinals(torch.from_numpy(scaled), fmt), expected)


@pytest.mark.parametrize("fmt", CASTS, ids=str)
def test_codes_are_those_of_the_ml_dtypes_cast(fmt: FloatFormat) -> None:
    scaled = inputs_that_decide(fmt)
    clamped = np.clip(scaled, -fmt.max, fmt.max)
    cast = clamped.astype(np.dtype(fmt.name))
    raw = cast.view(np.uint8 if fmt.bits <= 8 else np.uint16).astype(np.int32)
    sign_bit = 1 << (fmt.bits - 1)
    magnitude = raw & (sign_bit - 1)
    expected = np.where(raw & sign_bit, -magnitude, magnitude)
    expected[(raw == sign_bit)] = 0  # -0, which the fnuz formats do not have
    np.testing.assert_array_equal(encode_ordinals(torch.from_numpy(scaled), fmt), expected)


@pytest.mark.parametrize(
    "name",
    [
        "e0m7",
        "e1m6",
        "e2m5",
        "e3m4",
        "e6m1",
        "e7m0",
        "e5m9",
        "e2m1",
        "e2m3",
        "e3m2",
        "e8m6",
        "e1m14",
    ],
)
def test_values_are_those_of_gfloat(name: str) -> None:
    fmt = element_format(name)
    assert isinstance(fmt, FloatFormat)
    info = gfloat.FormatInfo(
        name=name,
        k=fmt.bits,
        precision=fmt.mantissa_bits + 1,
        bias=fmt.bias,
        has_nz=True,
        domain=gfloat.Domain.Finite,
        num_high_nans=0,
        has_subnormals=True,
        is_signed=True,
        is_twos_complement=False,
    )
    scaled = inputs_that_decide(fmt)[::3]
    expected = [gfloat.round_float(info, float(x), sat=True) for x in scaled]
    got = decode_ordinals(encode_ordinals(torch.from_numpy(scaled), fmt), fmt)
    np.testing.assert_array_equal(got, expected)


@every_format
def test_nan_has_the_one_ordinal_that_no_value_uses(fmt: ElementFormat) -> None:
    scaled = torch.tensor([float("nan"), -float("nan"), 0.0, -0.0])
    assert encode_ordinals(scaled, fmt).tolist() == [nan_ordinal(fmt), nan_ordinal(fmt), 0, 0]
    assert nan_ordinal(fmt) < -fmt.code_of_max
    assert torch.isnan(decode_ordinals(torch.tensor([nan_ordinal(fmt)]), fmt)).all()


@every_format
def test_decoding_inverts_encoding(fmt: ElementFormat) -> None:
    ordinals = torch.arange(-fmt.code_of_max, fmt.code_of_max + 1)
    values = decode_ordinals(ordinals, fmt)
    held = values.abs().float().isfinite() & (values.float().double() == values)
    held &= (values != 0) | (ordinals == 0)  # formats that reach below float64
    encoded = encode_ordinals(values.float(), fmt)
    assert encoded.dtype is ordinal_dtype(fmt)
    assert torch.equal(encoded[held].long(), ordinals[held])


@pytest.mark.parametrize("fmt", [f for f in EVERY if f.bits <= 9], ids=str)
def test_an_ulp_is_the_distance_to_the_next_value(fmt: ElementFormat) -> None:
    values = torch.tensor([fmt.value_of(i) for i in range(fmt.code_of_max + 1)]).float()
    held = values[:-1].isfinite() & values[1:].isfinite() & (values[1:] > 0)
    distance = values[1:].double() - values[:-1].double()
    ulps = measure_ulps(values, fmt)
    assert torch.equal(ulps[:-1][held].double(), distance[held])
    assert torch.equal(measure_ulps(-values, fmt), ulps)
    beyond = torch.tensor([torch.inf, 3e38])
    if fmt.max < 1e38:
        assert torch.equal(measure_ulps(beyond, fmt), ulps[-1].expand(2))


@pytest.mark.parametrize(
    ("name", "kept", "clipped"),
    [
        ("e4m3", [448.0, 464.0], [464.1, torch.inf]),  # 464 ties to 448, whose code is even
        ("e5m2", [57344.0, 61439.0], [61440.0, -torch.inf]),  # the tie goes away from it
        ("int8", [127.0, 127.4], [127.5, 128.0]),
        ("e8m7", [3e38], [torch.inf]),
    ],
)
def test_clipped_is_what_an_endless_grid_would_round_beyond(
    name: str, kept: list[float], clipped: list[float]
) -> None:
    fmt = element_format(name)
    assert count_clipped(torch.tensor([*kept, torch.nan]), fmt) == 0
    assert count_clipped(torch.tensor(clipped), fmt) == len(clipped)
    assert count_clipped(-torch.tensor(clipped), fmt) == len(clipped)
