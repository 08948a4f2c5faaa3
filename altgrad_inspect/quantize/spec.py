"""Quantizer specifications: ``ELEMENT[:GRANULARITY[:SCALE]]``.

    e4m3                       float8_e4m3fn, one scale a tensor, amax
    e5m2:channel               one scale a row of the (out, everything else) view
    e3m4:block=128x128         one scale a block of 128 rows and 128 columns
    e2m1:group=32:pow2         one scale a 32 weights of a row, a power of two
    e3m2:group=32:mx-rceil     the same by the rule of a recipe
    e3m4:flat=64               one scale a 64 weights as stored, over the ends of rows
    int8:channel               symmetric integers
    e4m3:tensor:0.0078125      a fixed scale
    mxfp8                      a named recipe, see ``altgrad_inspect.quantize.recipes``

Any of them may end in ``@bf16``: weights are then cast to bfloat16 before. No tensor here, so a
command line can check a specification before torch is loaded.
"""

import math
import re
from dataclasses import replace
from typing import Final

from altgrad_inspect.errors import FormatError
from altgrad_inspect.formats import element_format
from altgrad_inspect.quantize.quantizer import (
    CHANNEL,
    TENSOR,
    Granularity,
    MasterCast,
    Quantizer,
    ScaleRule,
)
from altgrad_inspect.quantize.recipes import RECIPES

_GRANULARITY: Final = re.compile(
    r"(?P<plain>tensor|channel)|block=(?P<rows>\d+)x(?P<cols>\d+)"
    r"|group=(?P<group>\d+)|flat=(?P<flat>\d+)"
)

RECIPE_RULES: Final = tuple(
    rule
    for rule in ScaleRule
    if rule.startswith(
        ("torchao", "te", "deep", "transformers", "float8-", "ct-", "mx-", "altgrad")
    )
)
"""Rules of recipes that a specification may name with any float format and granularity."""


def _parse_granularity(text: str, spec: str) -> Granularity:
    match = _GRANULARITY.fullmatch(text)
    sizes = (
        [int(size) for size in match.group("rows", "cols", "group", "flat") if size]
        if match
        else []
    )
    if match is None or 0 in sizes:
        msg = (
            f"quantizer {spec!r}: granularity {text!r} is not known, "
            "expected tensor, channel, block=RxC, group=N or flat=N with sizes of at least 1"
        )
        raise FormatError(msg)
    if match["plain"] == "channel":
        return CHANNEL
    if match["group"] or match["flat"]:
        kind = "group" if match["group"] else "flat"
        return Granularity(kind=kind, block_rows=1, block_cols=sizes[0])
    if match["rows"]:
        return Granularity(kind="block", block_rows=sizes[0], block_cols=sizes[1])
    return TENSOR


def _parse_scale(text: str, spec: str) -> tuple[ScaleRule, float | None]:
    if text in {ScaleRule.AMAX, ScaleRule.POW2, ScaleRule.NONE, *RECIPE_RULES}:
        return ScaleRule(text), None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 2.0**-126 <= number < 2.0**128:
        msg = (
            f"quantizer {spec!r}: scale {text!r} is not known, "
            "expected amax, pow2, none or a number that is a normal float32, or the rule of a "
            f"recipe: {', '.join(RECIPE_RULES)}"
        )
        raise FormatError(msg)
    return ScaleRule.FIXED, number


def parse_quantizer(spec: str) -> Quantizer:
    """Read a recipe's name or ``ELEMENT[:GRANULARITY[:SCALE]]``, either with ``@bf16`` or not.

    Granularity and scale default to ``tensor`` and ``amax``.

    Raises:
        FormatError: A part is not known or out of range; names the part and what it can be.
    """
    named, at, cast = spec.strip().partition("@")
    if at:
        if cast not in {MasterCast.BF16, MasterCast.NONE}:
            msg = f"quantizer {spec!r}: cast {cast!r} is not known, expected @bf16 or @none"
            raise FormatError(msg)
        return replace(_parse_uncast(named, spec), master_cast=MasterCast(cast))
    return _parse_uncast(named, spec)


def _parse_uncast(named: str, spec: str) -> Quantizer:
    if named.lower() in RECIPES:
        return RECIPES[named.lower()].quantizer
    parts = named.split(":")
    if len(parts) > 3:
        msg = f"quantizer {spec!r}: too many parts, expected ELEMENT[:GRANULARITY[:SCALE]]"
        raise FormatError(msg)
    fmt = element_format(parts[0])
    granularity = _parse_granularity(parts[1], spec) if len(parts) > 1 else TENSOR
    rule, fixed = _parse_scale(parts[2], spec) if len(parts) > 2 else (ScaleRule.AMAX, None)
    return Quantizer(fmt=fmt, granularity=granularity, rule=rule, fixed_scale=fixed)
