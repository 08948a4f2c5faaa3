"""MX: blocks of 32 along the input that share a power of two.

The plain names have the scale of the OCP specification (section 6.3): the power of two of the
largest weight over that of the largest value, so that the largest weights saturate.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from altgrad_inspect.formats import element_format
from altgrad_inspect.quantize.quantizer import ScaleRule, Ties
from altgrad_inspect.quantize.recipes.recipe import PADS, REFUSES, Recipe, group, named

_ELEMENTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "mxfp8": "e4m3",
        "mxfp8-e5m2": "e5m2",
        "mxfp6-e2m3": "e2m3",
        "mxfp6-e3m2": "e3m2",
        "mxfp4": "e2m1",
    }
)
"""Name -> element; MXFP8 without more is E4M3."""

_TORCHAO: Final = "torchao 0.18: prototype/mx_formats/mx_tensor.py:to_mx"
_LATER_TORCHAO: Final = "torchao after 0.18: prototype/mx_formats/mx_tensor.py"
_TE: Final = "TransformerEngine: common/util/ptx_arch_spec.cuh:float_to_e8m0; torchao after 0.18"
_MODELOPT: Final = "ModelOpt 0.47: torch/quantization/qtensor"
_CT: Final = "compressed-tensors 0.20: quantization/utils/mxfp_utils.py:generate_mx_scales"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variant:
    """One way to find the scale: suffix of the name, rule, and the facts of a recipe."""

    suffix: str
    rule: ScaleRule
    summary: str
    source: str
    edges: str = REFUSES
    ties: Ties = Ties.EVEN


_OF_EVERY_ELEMENT: Final = (
    _Variant(
        suffix="",
        rule=ScaleRule.MX_FLOOR,
        summary="s = 2**(floor(log2 amax) - exponent of max), code of w/s; the largest saturate",
        source=f"OCP Microscaling Formats (MX) v1.0, 2023, section 6.3; {_TORCHAO} floor",
    ),
    _Variant(
        suffix="-even",
        rule=ScaleRule.MX_EVEN,
        summary="as floor, of amax with half of the last mantissa bit of the element added",
        source=f"{_TORCHAO} even",
    ),
    _Variant(
        suffix="-ceil",
        rule=ScaleRule.MX_CEIL,
        summary="s = 2**(ceil(log2 amax) - exponent of max), code of w/s",
        source=f"{_TORCHAO} ceil",
    ),
    _Variant(
        suffix="-rceil",
        rule=ScaleRule.MX_RCEIL,
        summary="s = fl32(amax / max) rounded up to a power of two, exactly, code of w/s",
        source="triton_kernels: numerics_details/mxfp.py, ROUND_UP; cuBLAS, block scaling",
        edges=PADS,
    ),
    _Variant(
        suffix="-rceil-log2",
        rule=ScaleRule.MX_RCEIL_LOG2,
        summary="s = 2**ceil(log2(amax / max)) by a float32 log2: one too small just above some "
        "powers of two",
        source=f"{_TORCHAO} rceil, eager",
    ),
    _Variant(
        suffix="-microxcaling",
        rule=ScaleRule.MX_FLOOR_LOG2,
        summary="as floor, by a float32 log2; ties away from zero",
        source="microxcaling: mx/mx_ops.py:_quantize_mx with round nearest",
        edges=PADS,
        ties=Ties.AWAY,
    ),
)


def _rceil_mul(suffix: str, largest: str, source: str, edges: str) -> _Variant:
    return _Variant(
        suffix=suffix,
        rule=ScaleRule.MX_RCEIL_MUL,
        summary=f"s = fl32(amax * fl32(1/{largest})) rounded up to a power of two, code of "
        "w*(1/s); for every amax the same as rceil",
        source=source,
        edges=edges,
    )


def _ct(summary: str) -> _Variant:
    return _Variant(
        suffix="-ct", rule=ScaleRule.MX_CT, summary=f"{summary}, code of w/s", source=_CT
    )


_OF_SOME: Final[Mapping[str, tuple[_Variant, ...]]] = MappingProxyType(
    {
        "mxfp8": (
            _rceil_mul("-te", "448", _TE, PADS),
            _Variant(
                suffix="-modelopt",
                rule=ScaleRule.MX_MODELOPT,
                summary="s = 2**ceil(log2(amax / 448)) by a float32 log2, code of w*(1/s)",
                source=f"{_MODELOPT}/mxfp8_tensor.py",
            ),
            _ct("as even with one mantissa bit"),
        ),
        "mxfp8-e5m2": (_rceil_mul("-te", "57344", _TE, PADS),),
        "mxfp6-e2m3": (_ct("as even, with three mantissa bits"),),
        "mxfp4": (
            _rceil_mul("-rceil-mul", "6", _LATER_TORCHAO, REFUSES),
            _Variant(
                suffix="-modelopt",
                rule=ScaleRule.MX_MODELOPT,
                summary="s = 2**ceil(log2(amax / 6)) by a float32 log2, code of w/s, ties towards "
                "zero",
                source=f"{_MODELOPT}/mxfp4_tensor.py",
                ties=Ties.ZERO,
            ),
            _ct("as even, with one mantissa bit"),
        ),
    }
)


def _list_recipes() -> Iterator[Recipe]:
    for name, element in _ELEMENTS.items():
        for one in (*_OF_EVERY_ELEMENT, *_OF_SOME.get(name, ())):
            yield Recipe(
                quantizer=named(
                    f"{name}{one.suffix}",
                    element_format(element),
                    group(32),
                    one.rule,
                    ties=one.ties,
                ),
                summary=one.summary,
                source=one.source,
                edges=one.edges,
            )


MX: Final = tuple(_list_recipes())
