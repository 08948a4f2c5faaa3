"""The scalar formats against ml_dtypes and gfloat, independent implementations."""

import math

import gfloat
import gfloat.formats
import ml_dtypes  # noqa: F401  # registers "float8_e4m3fn" and the rest with numpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from altgrad_inspect.errors import FormatError
from altgrad_inspect.formats import (
    ALIASES,
    FORMATS,
    ElementFormat,
    ExponentFormat,
    FloatFormat,
    IntFormat,
    Specials,
    element_format,
    find_format,
)

FLOATS = [fmt for fmt in FORMATS.values() if isinstance(fmt, FloatFormat)]
ML_DTYPES = [fmt for fmt in FLOATS if not fmt.name.startswith("e")]
SPLITS = [
    element_format(f"e{e}m{bits - 1 - e}")
    for bits in range(2, 17)
    for e in range(bits)
    if (bits, e) != (9, 8)  # e8m0 is the OCP scale format
]

every_float = pytest.mark.parametrize("fmt", FLOATS, ids=str)
every_ml_dtype = pytest.mark.parametrize("fmt", ML_DTYPES, ids=str)
every_split = pytest.mark.parametrize("fmt", SPLITS, ids=str)
any_float32 = st.floats(width=32, allow_nan=False)

GFLOAT = {
    "float8_e4m3fn": "format_info_ocp_e4m3",
    "float8_e5m2": "format_info_ocp_e5m2",
    "float6_e2m3fn": "format_info_ocp_e2m3",
    "float6_e3m2fn": "format_info_ocp_e3m2",
    "float4_e2m1fn": "format_info_ocp_e2m1",
    "float16": "format_info_binary16",
    "bfloat16": "format_info_bfloat16",
}


@every_ml_dtype
def test_every_code_decodes_to_the_value_ml_dtypes_gives_it(fmt: FloatFormat) -> None:
    codes = np.arange(2**fmt.bits, dtype=np.uint8 if fmt.bits <= 8 else np.uint16)
    with np.errstate(invalid="ignore"):  # casting a signalling NaN
        expected = codes.view(np.dtype(fmt.name)).astype(np.float64)
    decoded = np.array([fmt.decode(int(code)) for code in codes])
    np.testing.assert_array_equal(decoded, expected)  # NaN equals NaN here
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.signbit(decoded[finite]), np.signbit(expected[finite]))


@pytest.mark.parametrize("name", GFLOAT)
def test_every_code_decodes_to_the_value_gfloat_gives_it(name: str) -> None:
    fmt = element_format(name)
    info = getattr(gfloat.formats, GFLOAT[name])
    expected = [float(gfloat.decode_float(info, code).fval) for code in range(2**fmt.bits)]
    np.testing.assert_array_equal([fmt.decode(code) for code in range(2**fmt.bits)], expected)


@every_ml_dtype
def test_every_midpoint_rounds_as_the_ml_dtypes_cast(fmt: FloatFormat) -> None:
    """Random floats almost never land halfway between two values, so try every midpoint."""
    values = np.array([fmt.value_of(code) for code in range(fmt.code_of_max + 1)])
    midpoints = ((values[:-1] + values[1:]) / 2).astype(np.float32)
    expected = midpoints.astype(np.dtype(fmt.name)).astype(np.float64)
    np.testing.assert_array_equal([fmt.round(float(x)) for x in midpoints], expected)


@every_ml_dtype
@given(data=st.data())
def test_rounding_agrees_with_the_ml_dtypes_cast(fmt: FloatFormat, data: st.DataObject) -> None:
    value = data.draw(st.floats(-fmt.max, fmt.max, width=32), label="value")
    assert fmt.round(value) == float(np.float32(value).astype(np.dtype(fmt.name)))


@every_split
def test_every_ordinal_round_trips_and_midpoints_go_to_the_even_code(fmt: FloatFormat) -> None:
    stride = 1 if fmt.bits <= 10 else 37
    for ordinal in range(0, fmt.code_of_max, stride):
        low, high = fmt.value_of(ordinal), fmt.value_of(ordinal + 1)
        if not 0 < high < 1e300 or (ordinal and low < 1e-300):
            continue  # outside of what a Python float holds exactly
        assert low < high
        assert fmt.ordinal(high) == ordinal + 1
        assert fmt.ordinal(-high) == -ordinal - 1
        middle = low / 2 + high / 2
        assert fmt.ordinal(middle) == (ordinal if ordinal % 2 == 0 else ordinal + 1)
        assert fmt.ordinal(math.nextafter(middle, math.inf)) == ordinal + 1
        assert fmt.ordinal(math.nextafter(middle, 0.0)) == ordinal


@every_float
@given(value=any_float32)
def test_rounding_twice_changes_nothing(fmt: FloatFormat, value: float) -> None:
    once = fmt.round(value)
    assert fmt.round(once) == once


@every_float
@given(a=any_float32, b=any_float32)
def test_rounding_keeps_order(fmt: FloatFormat, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert fmt.round(low) <= fmt.round(high)


@every_float
def test_rounding_saturates_and_keeps_nan(fmt: FloatFormat) -> None:
    assert fmt.round(math.inf) == fmt.max
    assert fmt.round(-math.inf) == -fmt.max
    assert math.isnan(fmt.round(math.nan))
    assert fmt.ordinal(math.nan) is None


@pytest.mark.parametrize(
    ("name", "largest", "smallest"),
    [
        ("e0m7", 127 / 128, 1 / 128),
        ("e1m6", 3.96875, 1 / 32),
        ("e2m5", 7.875, 1 / 32),
        ("e3m4", 31.0, 2.0**-6),
        ("e6m1", 3 * 2.0**31, 2.0**-31),
        ("e7m0", 2.0**64, 2.0**-62),
        ("float8_e4m3fn", 448.0, 2.0**-9),
        ("float8_e5m2", 57344.0, 2.0**-16),
        ("float8_e3m4", 15.5, 2.0**-6),
        ("float4_e2m1fn", 6.0, 0.5),
        ("int8", 127.0, 1.0),
        ("int4", 7.0, 1.0),
    ],
)
def test_largest_and_smallest_values_are_the_published_ones(
    name: str, largest: float, smallest: float
) -> None:
    fmt = element_format(name)
    assert (fmt.max, fmt.smallest) == (largest, smallest)


def test_e0m7_and_e1m6_are_one_grid() -> None:
    fixed, two_binades = element_format("e0m7"), element_format("e1m6")
    values = [fixed.value_of(code) * 4 for code in range(128)]
    assert values == [two_binades.value_of(code) for code in range(128)]


@pytest.mark.parametrize("bits", [4, 8])
def test_integers_round_half_to_even_and_stay_symmetric(bits: int) -> None:
    fmt = element_format(f"int{bits}")
    for whole in range(-fmt.code_of_max, fmt.code_of_max):
        assert fmt.ordinal(whole + 0.5) == (whole if whole % 2 == 0 else whole + 1)
    assert fmt.ordinal(-1e9) == -fmt.code_of_max
    assert fmt.ordinal(math.nan) is None
    assert [fmt.decode(code) for code in (0, 1, 2**bits - 1, 2 ** (bits - 1))] == [
        0.0,
        1.0,
        -1.0,
        -(2.0 ** (bits - 1)),
    ]


def test_the_scale_format_is_what_ml_dtypes_says() -> None:
    fmt = find_format("e8m0")
    assert isinstance(fmt, ExponentFormat)
    codes = np.arange(256, dtype=np.uint8)
    expected = codes.view(np.dtype("float8_e8m0fnu")).astype(np.float64)
    np.testing.assert_array_equal([fmt.decode(code) for code in range(256)], expected)
    with pytest.raises(FormatError, match="for scales only"):
        element_format("e8m0")


@pytest.mark.parametrize(
    "fmt", [f for f in FORMATS.values() if f.name not in {"float16", "nf4"}], ids=str
)
def test_a_code_that_does_not_fit_is_refused(fmt: ElementFormat | ExponentFormat) -> None:
    for code in (-1, 1 << fmt.bits):
        with pytest.raises(FormatError, match=rf"code {code} does not fit in {fmt.bits} bits"):
            fmt.decode(code)


def test_an_unknown_name_suggests_the_closest() -> None:
    with pytest.raises(FormatError, match="closest: float8_e4m3"):
        find_format("float8_e4m3x")
    with pytest.raises(FormatError, match="see `altgrad-inspect formats`"):
        find_format("?")


def test_formats_that_cannot_exist_are_refused() -> None:
    with pytest.raises(FormatError, match="E12M5 is not a format of 2 to 16 bits"):
        find_format("e12m5")
    with pytest.raises(FormatError, match="no room for ieee codes"):
        FloatFormat(name="x", exponent_bits=5, mantissa_bits=0, bias=1, specials=Specials.IEEE)
    with pytest.raises(FormatError, match="17 bits is out of range"):
        IntFormat(name="int17", bits=17)


def test_aliases_lead_to_the_catalogue_and_every_format_names_its_source() -> None:
    assert all(full in FORMATS for full in ALIASES.values())
    assert all(fmt.source for fmt in FORMATS.values())
    assert find_format("E4M3") is FORMATS["float8_e4m3fn"]
