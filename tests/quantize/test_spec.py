"""Quantizer specifications: what is understood, how it is spelled back, what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altgrad_inspect.errors import FormatError
from altgrad_inspect.quantize.quantizer import ScaleRule
from altgrad_inspect.quantize.spec import parse_quantizer


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        ("e4m3", "e4m3:tensor:amax"),
        ("float8_e4m3fn", "e4m3:tensor:amax"),
        ("e5m2:channel", "e5m2:channel:amax"),
        ("e3m4:block=128x128", "e3m4:block=128x128:amax"),
        ("e2m1:group=32:pow2", "e2m1:group=32:pow2"),
        ("int8:channel:none", "int8:channel:none"),
        ("bfloat16:tensor:none", "bf16:tensor:none"),
        ("e4m3:tensor:0.1", "e4m3:tensor:0.1"),
        (" e4m3:tensor:1 ", "e4m3:tensor:1.0"),
    ],
)
def test_a_specification_is_spelled_back_in_full(spec: str, canonical: str) -> None:
    assert str(parse_quantizer(spec)) == canonical
    assert parse_quantizer(canonical) == parse_quantizer(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("e4m3:row", "granularity 'row' is not known, expected tensor, channel, block=RxC"),
        ("e4m3:block=0x8", "granularity 'block=0x8' is not known"),
        ("e4m3:group=", "granularity 'group=' is not known"),
        ("e4m3:tensor:max", "scale 'max' is not known, expected amax, pow2, none or a number"),
        ("e4m3:tensor:0", "scale '0' is not known"),
        ("e4m3:tensor:-1", "scale '-1' is not known"),
        ("e4m3:tensor:nan", "scale 'nan' is not known"),
        ("e4m3:tensor:1e-40", "scale '1e-40' is not known"),
        ("e4m3:tensor:amax:x", "too many parts"),
        ("fp9", "'fp9' is not known"),
        ("e8m0", "for scales only"),
        ("", "'' is not known"),
    ],
)
def test_what_is_not_understood_is_named(spec: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse_quantizer(spec)


@given(
    element=st.sampled_from(["e4m3", "e0m7", "int4", "e9m6", "fp16"]),
    granularity=st.sampled_from(["tensor", "channel", "block=3x5", "group=7"]),
    scale=st.one_of(st.sampled_from(["amax", "pow2", "none"]), st.floats(1e-30, 1e30).map(repr)),
)
def test_spelling_back_loses_nothing(element: str, granularity: str, scale: str) -> None:
    quantizer = parse_quantizer(f"{element}:{granularity}:{scale}")
    assert parse_quantizer(str(quantizer)) == quantizer
    assert (quantizer.fixed_scale is not None) == (quantizer.rule is ScaleRule.FIXED)
