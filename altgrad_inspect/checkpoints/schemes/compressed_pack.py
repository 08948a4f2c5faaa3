"""Integers of 1 to 8 bits in 32-bit words: ``pack-quantized`` of compressed-tensors.

P.weight_packed       I32 [N, words]      code + 2**(b - 1), the first one in the lowest bits
P.weight_scale        [N, groups], [N, 1] or [1]
P.weight_zero_point   I32, packed along N; or I8 like the scales; absent where it is zero
P.weight_g_idx        I32 [K], the group of each column, -1 for columns in order
P.weight_shape        I64, [N, K]

From version 0.18 on codes follow each other without a gap; before, 32 // b of them were put into a
word. That differs for 3, 5, 6 and 7 bits, and shows in the number of words.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from altgrad_inspect.checkpoints.schemes.affine import require_zero_a_scale, scale_integers
from altgrad_inspect.checkpoints.schemes.beside_scale import CodesBesideScale, Description, Found
from altgrad_inspect.checkpoints.schemes.blocks import WHOLE_GROUPS
from altgrad_inspect.checkpoints.schemes.compressed_settings import METHODS
from altgrad_inspect.checkpoints.schemes.decoding import require_blocks
from altgrad_inspect.checkpoints.schemes.packing import Packing, find_packing
from altgrad_inspect.checkpoints.schemes.parts import FLOATS, INTEGERS, name_layer, recognised_by
from altgrad_inspect.checkpoints.schemes.scheme import LoadedLayer
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.quantize.scales import Scales
from altgrad_inspect.refs import LayerRef

_PACKINGS: Final = "packings"


def _describe(found: Found) -> Description | None:
    packed = find_packing(found.codes, found.scale, found.others, found.context)
    if packed is None:
        return None
    ways = (packed.packing, *packed.rivals)
    return Description(
        fmt=f"int{packed.packing.bits}",
        shape=(*found.codes.shape[:-1], packed.cols),
        recognised_by=recognised_by(found.context, *METHODS),
        facts={
            _PACKINGS: tuple(n for way in ways for n in (way.bits, int(way.is_dense))),
            WHOLE_GROUPS: "order" not in found.others,
        },
    )


def _decode(layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
    """Return fl32((code - zero point) * scale)."""
    _require_shape(layer, parts.get("shape"))
    packing = _choose_packing(layer, parts["codes"])
    blocks = require_blocks(layer, parts["scale"])
    scales = blocks.read(parts["scale"])
    order = parts.get("order")
    if order is not None and not bool((order == -1).any()):
        scales = _reorder(layer, order, scales)
    zeros = parts.get("zeros")
    if zeros is not None:
        zeros = blocks.spread(_unpack_zeros(layer, zeros, parts["scale"], packing))
    codes = packing.unpack(parts["codes"], layer.shape[-1])
    return scale_integers(layer, codes, zeros, scales)


def _require_shape(layer: LayerRef, stored: Tensor | None) -> None:
    if stored is not None and stored.reshape(-1).tolist() != list(layer.shape):
        msg = (
            f"{name_layer(layer)} has the weight_shape {stored.tolist()}, expected "
            f"{list(layer.shape)} as its other tensors say (save the checkpoint again)"
        )
        raise CheckpointError(msg)


def _choose_packing(layer: LayerRef, words: Tensor) -> Packing:
    """Return the one way of packing that leaves only zeros where no code is.

    Raises:
        CheckpointError: The likeliest way does not, or another one does it too.
    """
    numbers = layer.facts[_PACKINGS]
    pairs = numbers if isinstance(numbers, tuple) else ()
    ways = [
        Packing(bits=bits, is_dense=bool(is_dense))
        for bits, is_dense in zip(pairs[::2], pairs[1::2], strict=True)
    ]
    cols = layer.shape[-1]
    clean = [
        way
        for way in ways
        if way.leaves_zeros(words, cols) and (way == ways[0] or way.num_unused(words, cols))
    ]
    if len(clean) != 1 or clean[0].bits != ways[0].bits:
        msg = (
            f"{name_layer(layer)} has codes that are packed as "
            f"{' or '.join(map(str, clean)) or 'nothing known'}, expected "
            f"{ways[0].bits} bits in one way (put the config.json that belongs to it beside it)"
        )
        raise CheckpointError(msg)
    return clean[0]


def _reorder(layer: LayerRef, order: Tensor, scales: Scales) -> Scales:
    """Return the scales with the group of each column, where columns are not in order.

    Raises:
        CheckpointError: These are no groups.
    """
    groups = order.to(torch.int64).reshape(-1)
    num_groups = scales.values.shape[1]
    cols = layer.shape[-1]
    if len(groups) != cols or not bool(((groups >= 0) & (groups < num_groups)).all()):
        msg = (
            f"{name_layer(layer)} has a weight_g_idx of {len(groups)} groups, expected one from 0 "
            f"to {num_groups - 1} for each of {cols} columns (save it again)"
        )
        raise CheckpointError(msg)
    in_order = torch.arange(cols, device=groups.device) // scales.view.block_cols
    return scales if torch.equal(groups, in_order) else replace(scales, col_blocks=groups)


def _unpack_zeros(layer: LayerRef, zeros: Tensor, scale: Tensor, packing: Packing) -> Tensor:
    """Return the zero points in the shape of the scales."""
    if zeros.dtype == torch.int32 and zeros.dim() >= 2:
        words = zeros.transpose(-1, -2).contiguous()
        zeros = packing.unpack(words, layer.shape[-2]).transpose(-1, -2)
    require_zero_a_scale(layer, zeros, scale)
    return zeros


COMPRESSED_PACK: Final = CodesBesideScale(
    name="ct-pack",
    codes={"I32"},
    scales=FLOATS,
    is_packed=True,
    others={"zeros": "weight_zero_point", "order": "weight_g_idx", "shape": "weight_shape"},
    required_dtypes={"zeros": INTEGERS | FLOATS, "order": INTEGERS, "shape": INTEGERS},
    describe=_describe,
    decode=_decode,
)
"""Integers packed into ``weight_packed``."""
