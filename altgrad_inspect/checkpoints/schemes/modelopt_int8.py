"""8-bit integers as ModelOpt exports them: ``W8A16`` and ``W8A8_SQ_PER_CHANNEL``.

P.weight         I8 [N, K]
P.weight_scale   F32 [N], or one number
"""

from typing import Final

from altgrad_inspect.checkpoints.schemes.affine import decode_integers
from altgrad_inspect.checkpoints.schemes.beside import path_of
from altgrad_inspect.checkpoints.schemes.beside_scale import CodesBesideScale, Description, Found
from altgrad_inspect.checkpoints.schemes.blocks import find_blocks
from altgrad_inspect.checkpoints.schemes.modelopt_settings import (
    algorithm_of,
    has_rows_in_one_dimension,
    is_modelopt,
)
from altgrad_inspect.checkpoints.schemes.parts import FLOATS


def _describe(found: Found) -> Description | None:
    """The scale has one dimension, or any if so configured."""
    context, shape = found.context, found.codes.shape
    is_ours = is_modelopt(context) or (context.method is None and has_rows_in_one_dimension(found))
    if not is_ours or find_blocks(shape, found.scale.shape) is None:
        return None
    return Description(
        fmt="int8",
        shape=shape,
        recognised_by=algorithm_of(context, path_of(found.codes.name)),
    )


MODELOPT_INT8: Final = CodesBesideScale(
    name="modelopt-int8",
    codes={"I8"},
    scales=FLOATS,
    describe=_describe,
    decode=decode_integers,
)
"""Integers in ``weight`` beside one scale a row, in one dimension."""
