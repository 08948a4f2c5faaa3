"""FP4 blocks of 32 with one exponent each, as gpt-oss stores its experts.

P_blocks   U8 [E, N, K / 32, 16], two E2M1 codes a byte, the first one in the low bits
P_scales   U8 [E, N, K / 32], exponents: a weight is its code's value times 2^(byte - 127)

A layer is read as it is stored, [E, N, K] with N the outputs. The model's own parameter P is
[E, K, N]: the loader transposes the last two dimensions. Flips and ranks are the same for both.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from torch import Tensor

from altgrad_inspect.checkpoints.schemes.blocks import view_of
from altgrad_inspect.checkpoints.schemes.decoding import multiply_codes
from altgrad_inspect.checkpoints.schemes.fp4 import FP4
from altgrad_inspect.checkpoints.schemes.parts import build_layer, name_layer, read_scale
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LeftOut, LoadedLayer, SchemeContext
from altgrad_inspect.checkpoints.schemes.unpack import nibbles_low_first
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.quantize.scales import Scales
from altgrad_inspect.refs import LayerRef

_METHOD: Final = "mxfp4"
_CODES: Final = "_blocks"
_SCALE: Final = "_scales"
_BLOCK: Final = 32
_BLOCK_BYTES: Final = _BLOCK // 2


class Mxfp4Scheme:
    """``P_blocks`` beside ``P_scales``, both bytes."""

    name = "mxfp4"

    def find(
        self, tensors: Mapping[str, LayerRef], context: SchemeContext
    ) -> Iterable[Claim | LeftOut]:
        """Find ``P_blocks`` of [..., N, K / 32, 16] bytes beside ``P_scales`` of bytes."""
        by = f"{context.source}: {_METHOD}" if context.method == _METHOD else "names and shapes"
        for name, codes in tensors.items():
            layer = name.removesuffix(_CODES)
            scale = tensors.get(f"{layer}{_SCALE}")
            if layer == name or scale is None or layer in tensors:
                continue
            if (codes.dtype, scale.dtype) != ("U8", "U8"):
                continue
            if len(codes.shape) not in {3, 4} or codes.shape[-1] != _BLOCK_BYTES:
                continue
            yield Claim(
                layer=build_layer(
                    layer,
                    {"codes": codes, "scale": scale},
                    scheme=self.name,
                    fmt=FP4,
                    shape=(*codes.shape[:-2], codes.shape[-2] * _BLOCK),
                    recognised_by=by,
                )
            )

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return the value of the code times the power of two."""
        blocks, scale = parts["codes"], read_scale(parts["scale"])
        if scale.shape != blocks.shape[:-1]:
            msg = (
                f"{name_layer(layer)} has scales of shape {list(scale.shape)}, expected "
                f"{list(blocks.shape[:-1])}, one a block of {_BLOCK} (save the checkpoint again)"
            )
            raise CheckpointError(msg)
        view = view_of(layer.shape, block_rows=1, block_cols=_BLOCK)
        scales = Scales(values=scale.reshape(-1, scale.shape[-1]), view=view)
        return multiply_codes(layer, nibbles_low_first(blocks), scales)
