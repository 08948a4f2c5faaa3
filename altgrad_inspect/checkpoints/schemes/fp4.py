"""FP4 codes, two to a byte, with a scale a block and maybe one over all: steps schemes share."""

from collections.abc import Mapping
from typing import Final

from torch import Tensor

from altgrad_inspect.checkpoints.schemes.decoding import multiply_codes, require_blocks
from altgrad_inspect.checkpoints.schemes.parts import FLOATS, name_layer, read_scale
from altgrad_inspect.checkpoints.schemes.scheme import LoadedLayer
from altgrad_inspect.checkpoints.schemes.unpack import nibbles_low_first
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.quantize.scales import Scales
from altgrad_inspect.refs import LayerRef

FP4: Final = "float4_e2m1fn"
"""The format of the codes."""

NV_SCALES: Final = FLOATS | {"F8_E4M3"}
"""Dtypes of the scales of blocks in NVFP4."""

BLOCK_SIZES: Final = (16, 32)
"""Codes that share a scale: in NVFP4, in MX."""


def fits_fp4(
    codes: tuple[int, ...], scale: tuple[int, ...], *, sizes: tuple[int, ...] = BLOCK_SIZES
) -> bool:
    """Whether there is one scale for every 16 or 32 of the codes, along their rows.

    Args:
        codes: Shape of the codes, two to a byte along the last dimension.
        scale: Shape of the scales.
        sizes: The block sizes to allow.
    """
    return (
        len(codes) == len(scale) >= 2
        and codes[:-1] == scale[:-1]
        and any(codes[-1] * 2 == scale[-1] * size > 0 for size in sizes)
    )


def scale_fp4(layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
    """Return the layer that FP4 codes make with their scales.

    Args:
        layer: The layer.
        parts: ``codes`` and ``scale``, and one of ``factor`` and ``divisor``, which every scale
            is multiplied with or divided by, in float32; one number, or one a matrix.

    Raises:
        CheckpointError: They do not fit together.
    """
    blocks = require_blocks(layer, parts["scale"])
    values = blocks.spread(read_scale(parts["scale"]))
    for role in ("factor", "divisor"):
        whole = parts.get(role)
        if whole is not None:
            count = blocks.view.num_matrices
            if whole.numel() not in {1, count}:
                msg = (
                    f"{name_layer(layer)} has {whole.numel()} scales over its scales, expected 1 "
                    f"or {count} (save the checkpoint again)"
                )
                raise CheckpointError(msg)
            wide = whole.float().reshape(-1, 1).expand(count, 1)
            wide = wide.repeat_interleave(len(values) // count, dim=0)
            values = values * wide if role == "factor" else values / wide
    scales = Scales(values=values, view=blocks.view)
    return multiply_codes(layer, nibbles_low_first(parts["codes"]), scales)
