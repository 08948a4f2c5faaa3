"""Integers of up to 8 bits, one to a byte: ``int-quantized`` of compressed-tensors.

P.weight              I8 [N, K]
P.weight_scale        [N, 1], [N, groups], blocks, or [1]
P.weight_zero_point   I8, like the scales; absent where it is zero
"""

from typing import Final

from altgrad_inspect.checkpoints.schemes.affine import decode_integers
from altgrad_inspect.checkpoints.schemes.beside import path_of
from altgrad_inspect.checkpoints.schemes.beside_scale import CodesBesideScale, Description, Found
from altgrad_inspect.checkpoints.schemes.blocks import find_blocks
from altgrad_inspect.checkpoints.schemes.compressed_settings import METHODS, settings_for
from altgrad_inspect.checkpoints.schemes.parts import FLOATS, INTEGERS, recognised_by
from altgrad_inspect.refs import Fact

_WHOLE_BYTE: Final = 8
_BITS: Final = "bits"


def _describe(found: Found) -> Description | None:
    facts = _find_facts(found)
    if facts is None:
        return None
    return Description(
        fmt=f"int{facts[_BITS]}",
        shape=found.codes.shape,
        recognised_by=recognised_by(found.context, *METHODS),
        facts=facts,
    )


def _find_facts(found: Found) -> dict[str, Fact] | None:
    """Return bits and block sizes, of the configuration as far as they fit; None if none fit."""
    codes, scale = found.codes, found.scale
    for settings in settings_for(found.context, path_of(codes.name)):
        if settings.kind != "float" and settings.bits and settings.bits <= _WHOLE_BYTE:
            facts: dict[str, Fact] = {_BITS: settings.bits, **settings.facts}
            if find_blocks(codes.shape, scale.shape, facts):
                return facts
    return {_BITS: _WHOLE_BYTE} if find_blocks(codes.shape, scale.shape) else None


COMPRESSED_INT: Final = CodesBesideScale(
    name="ct-int",
    codes={"I8"},
    scales=FLOATS,
    others={"zeros": "weight_zero_point"},
    required_dtypes={"zeros": INTEGERS | FLOATS},
    describe=_describe,
    decode=decode_integers,
)
"""Integers in ``weight`` beside ``weight_scale``."""
