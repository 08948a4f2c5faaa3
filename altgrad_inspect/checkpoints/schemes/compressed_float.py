"""FP8 codes beside a scale: ``float-quantized`` and ``mxfp8-quantized`` of compressed-tensors.

P.weight         F8_E4M3 [N, K]
P.weight_scale   [1], [N, 1], [N, groups], or blocks; bytes are exponents, as F8_E8M0
"""

from typing import Final

from altgrad_inspect.checkpoints.schemes.beside import path_of
from altgrad_inspect.checkpoints.schemes.beside_scale import CodesBesideScale, Description, Found
from altgrad_inspect.checkpoints.schemes.blocks import find_blocks
from altgrad_inspect.checkpoints.schemes.compressed_settings import METHODS, settings_for
from altgrad_inspect.checkpoints.schemes.decoding import decode_codes
from altgrad_inspect.checkpoints.schemes.parts import (
    EXPONENTS,
    FLOAT8_FORMATS,
    FLOATS,
    recognised_by,
)
from altgrad_inspect.refs import Fact


def _describe(found: Found) -> Description:
    return Description(
        fmt=FLOAT8_FORMATS[found.codes.dtype],
        shape=found.codes.shape,
        recognised_by=recognised_by(found.context, *METHODS),
        facts=_find_facts(found),
    )


def _find_facts(found: Found) -> dict[str, Fact]:
    """Return the block sizes of the configuration, if they fit."""
    codes, scale = found.codes, found.scale
    for settings in settings_for(found.context, path_of(codes.name)):
        if settings.kind != "int" and find_blocks(codes.shape, scale.shape, settings.facts):
            return settings.facts
    return {}


COMPRESSED_FLOAT: Final = CodesBesideScale(
    name="ct-float",
    codes=FLOAT8_FORMATS.keys(),
    scales=FLOATS | EXPONENTS,
    unused={"weight_zero_point": "zero point of the FP8 {}: unused"},
    describe=_describe,
    decode=decode_codes,
)
"""FP8 in ``weight`` beside ``weight_scale``."""
