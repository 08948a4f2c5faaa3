"""Codes times stored scales, as a layer: steps that schemes share."""

from collections.abc import Mapping

import torch
from torch import Tensor

from altgrad_inspect.checkpoints.schemes.blocks import Blocks, find_blocks
from altgrad_inspect.checkpoints.schemes.parts import name_layer
from altgrad_inspect.checkpoints.schemes.scheme import LoadedLayer
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.formats import ElementFormat, element_format
from altgrad_inspect.quantize.coded import CodedWeights
from altgrad_inspect.quantize.grids import ordinals_of_codes
from altgrad_inspect.quantize.scales import Scales
from altgrad_inspect.refs import LayerRef


def require_blocks(layer: LayerRef, scale: Tensor) -> Blocks:
    """Return `find_blocks` of a layer and its scales.

    Raises:
        CheckpointError: They do not fit.
    """
    blocks = find_blocks(layer.shape, tuple(scale.shape), dict(layer.facts))
    if blocks is None:
        msg = (
            f"{name_layer(layer)} has scales of shape {list(scale.shape)}, expected one number or "
            f"one a block of {list(layer.shape)} (put its config.json beside it, or save it again)"
        )
        raise CheckpointError(msg)
    return blocks


def multiply_codes(
    layer: LayerRef, codes: Tensor, scales: Scales, *, fmt: ElementFormat | None = None
) -> LoadedLayer:
    """Return the layer whose weights are fl32(value of the code * scale).

    Args:
        layer: The layer.
        codes: One an element, of any dtype of one byte.
        scales: Of its blocks.
        fmt: Of the codes; None for the one that the layer names.
    """
    known = fmt or element_format(layer.dtype)
    ordinals = ordinals_of_codes(codes.view(torch.uint8), known).reshape(scales.view.shape)
    coded = CodedWeights(fmt=known, ordinals=ordinals, scales=scales)
    return LoadedLayer(values=coded.decode().reshape(layer.shape), coded=coded)


def scale_codes(
    layer: LayerRef, codes: Tensor, scale: Tensor, *, fmt: ElementFormat | None = None
) -> LoadedLayer:
    """Return `multiply_codes` with scales as they are stored.

    Raises:
        CheckpointError: They do not fit together.
    """
    return multiply_codes(layer, codes, require_blocks(layer, scale).read(scale), fmt=fmt)


def decode_codes(layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
    """Return `scale_codes` of the parts ``codes`` and ``scale``."""
    return scale_codes(layer, parts["codes"], parts["scale"])
