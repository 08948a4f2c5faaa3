"""FP8 codes as ModelOpt exports them: ``FP8``, per channel, in blocks, and ``MXFP8``.

P.weight         F8_E4M3 [N, K], or [E, N, K] for fused experts
P.weight_scale   F32: one number, [N], [N / b, 1, K / b, 1]; or U8 [N, K / 32], exponents

Fused experts called ``Q`` have ``Q_weight_scale``. The names are those of compressed-tensors too,
so only the configuration, or one scale a row in one dimension, tells.
"""

from typing import Final

from altgrad_inspect.checkpoints.schemes.beside import WEIGHT, last_of, path_of
from altgrad_inspect.checkpoints.schemes.beside_scale import CodesBesideScale, Description, Found
from altgrad_inspect.checkpoints.schemes.blocks import BLOCK_COLS, BLOCK_ROWS
from altgrad_inspect.checkpoints.schemes.decoding import decode_codes
from altgrad_inspect.checkpoints.schemes.modelopt_settings import (
    algorithm_of,
    has_rows_in_one_dimension,
    is_modelopt,
)
from altgrad_inspect.checkpoints.schemes.parts import EXPONENTS, FLOAT8_FORMATS, FLOATS

_BLOCK: Final = 128
"""What ModelOpt cuts into, unless the shapes say otherwise."""


def _describe(found: Found) -> Description | None:
    if not _is_ours(found):
        return None
    return Description(
        fmt=FLOAT8_FORMATS[found.codes.dtype],
        shape=found.codes.shape,
        recognised_by=algorithm_of(found.context, path_of(found.codes.name)),
        facts={BLOCK_ROWS: _BLOCK, BLOCK_COLS: _BLOCK},
    )


def _is_ours(found: Found) -> bool:
    if found.context.method is not None:
        return is_modelopt(found.context)
    is_fused = last_of(found.codes.name) != WEIGHT
    return has_rows_in_one_dimension(found) or len(found.scale.shape) == 4 or is_fused


MODELOPT_FP8: Final = CodesBesideScale(
    name="modelopt-fp8",
    codes=FLOAT8_FORMATS.keys(),
    scales=FLOATS | EXPONENTS,
    describe=_describe,
    decode=decode_codes,
)
"""FP8 in ``weight`` beside ``weight_scale``, called ``modelopt`` by the configuration."""
