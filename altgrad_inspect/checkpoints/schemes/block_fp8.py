"""FP8 codes with one float scale a block, or a tensor: DeepSeek-V3 and Hugging Face ``fp8``.

P.weight             F8_E4M3 [N, K], or [E, N, K] for fused experts
P.weight_scale_inv   [N / 128, K / 128] rounded up, or one number; it *multiplies*
"""

from collections.abc import Iterable, Mapping
from typing import Final

import torch
from torch import Tensor

from altgrad_inspect.checkpoints.schemes.parts import (
    FLOAT8_FORMATS,
    FLOATS,
    build_layer,
    divide_up,
    name_layer,
    read_scale,
    stack_shape,
    view_of,
)
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LeftOut, LoadedLayer, SchemeContext
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.formats import element_format
from altgrad_inspect.quantize.coded import CodedWeights
from altgrad_inspect.quantize.grids import ordinals_of_codes
from altgrad_inspect.quantize.scales import Scales
from altgrad_inspect.refs import LayerRef

_METHOD: Final = "fp8"
_SCALE: Final = "weight_scale_inv"
_SCALE_DTYPES: Final = FLOATS | {"F8_E8M0", "U8"}
_ACTIVATION_SCALE: Final = "activation_scale"


class BlockFp8Scheme:
    """FP8 weights beside ``weight_scale_inv``."""

    name = "block-fp8"

    def find(
        self, tensors: Mapping[str, LayerRef], context: SchemeContext
    ) -> Iterable[Claim | LeftOut]:
        """Find ``P.weight`` in FP8 beside ``P.weight_scale_inv``."""
        by = f"{context.source}: {_METHOD}" if context.method == _METHOD else "names and dtypes"
        for name, scale in tensors.items():
            path, _, last = name.rpartition(".")
            codes = tensors.get(f"{path}.weight" if path else "weight")
            if last != _SCALE or codes is None or codes.dtype not in FLOAT8_FORMATS:
                continue
            if scale.dtype not in _SCALE_DTYPES:
                continue
            yield Claim(
                layer=build_layer(
                    codes.name,
                    {"codes": codes, "scale": scale},
                    scheme=self.name,
                    fmt=FLOAT8_FORMATS[codes.dtype],
                    shape=codes.shape,
                    recognised_by=by,
                )
            )
            activation = tensors.get(f"{path}.{_ACTIVATION_SCALE}")
            if activation is not None:
                yield LeftOut(tensor=activation, reason=f"activation scale of {codes.name}")

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return fl32(value of the code * scale)."""
        fmt = element_format(layer.dtype)
        codes, scale = parts["codes"], read_scale(parts["scale"])
        count, rows, cols = stack_shape(layer.shape)
        blocks = _as_blocks(layer, scale, count=count)
        block_rows = divide_up(rows, blocks.shape[0] // count)
        block_cols = divide_up(cols, blocks.shape[1])
        if block_rows is None or block_cols is None:
            raise _no_fit(layer, scale)
        view = view_of(layer.shape, block_rows=block_rows, block_cols=block_cols)
        coded = CodedWeights(
            fmt=fmt,
            ordinals=ordinals_of_codes(codes.view(torch.uint8), fmt).reshape(view.shape),
            scales=Scales(values=blocks, view=view),
        )
        return LoadedLayer(values=coded.decode().reshape(layer.shape), coded=coded)


def _as_blocks(layer: LayerRef, scale: Tensor, *, count: int) -> Tensor:
    """Return the scales as (block rows of all matrices, block columns)."""
    if scale.numel() == 1:
        return scale.reshape(1, 1).expand(count, 1).contiguous()
    if scale.dim() != len(layer.shape) or (scale.dim() == 3 and scale.shape[0] != count):
        raise _no_fit(layer, scale)
    return scale.reshape(-1, scale.shape[-1])


def _no_fit(layer: LayerRef, scale: Tensor) -> CheckpointError:
    return CheckpointError(
        f"{name_layer(layer)} has scales of shape {list(scale.shape)}, expected one number or one "
        f"a block of {list(layer.shape)} (save the checkpoint again)"
    )
