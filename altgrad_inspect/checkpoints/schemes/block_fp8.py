"""FP8 codes with one scale a block, or a tensor: DeepSeek and Hugging Face ``fp8``.

P.weight             F8_E4M3 [N, K], or [E, N, K] for fused experts
P.weight_scale_inv   [N / 128, K / 128] rounded up, or one number; it *multiplies*

The scale is called ``scale`` by DeepSeek-V4, ``qscale_weight`` by Mistral, ``weight_scale`` beside
an embedding, and ``Q_scale_inv`` beside fused experts that are called ``Q``. Bytes are exponents,
as F8_E8M0. Experts may be FP4: I8 [N, K / 2], the first code in bits 0 to 3, [N, K / 32] scales.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from torch import Tensor

from altgrad_inspect.checkpoints.schemes.beside import WEIGHT, about_inputs, first_beside, last_of
from altgrad_inspect.checkpoints.schemes.blocks import BLOCK_COLS, BLOCK_ROWS
from altgrad_inspect.checkpoints.schemes.decoding import scale_codes
from altgrad_inspect.checkpoints.schemes.fp4 import FP4, fits_fp4
from altgrad_inspect.checkpoints.schemes.parts import (
    EXPONENTS,
    FLOAT8_FORMATS,
    FLOATS,
    build_layer,
    recognised_by,
)
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LeftOut, LoadedLayer, SchemeContext
from altgrad_inspect.checkpoints.schemes.unpack import nibbles_low_first
from altgrad_inspect.refs import Fact, LayerRef

_METHOD: Final = "fp8"
_SCALES: Final = ("weight_scale_inv", "scale", "qscale_weight")
_SCALES_OF_EXPERTS: Final = ("scale_inv",)
_SCALE_OF_EMBEDDING: Final = "weight_scale"
_SCALE_DTYPES: Final = FLOATS | EXPONENTS
_BLOCK: Final = 128
_FP4_BLOCK: Final = (32,)


class BlockFp8Scheme:
    """FP8 weights beside ``weight_scale_inv``."""

    name = "block-fp8"

    def find(
        self, tensors: Mapping[str, LayerRef], context: SchemeContext
    ) -> Iterable[Claim | LeftOut]:
        """Find codes beside a scale of one of the known names."""
        lasts = (*_SCALES, _SCALE_OF_EMBEDDING) if context.method == _METHOD else _SCALES
        for codes in list(tensors.values()):
            is_weight = last_of(codes.name) == WEIGHT
            scale = first_beside(tensors, codes.name, lasts if is_weight else _SCALES_OF_EXPERTS)
            if scale is None or scale.dtype not in _SCALE_DTYPES:
                continue
            found = _describe(codes, scale, context)
            if found is None:
                continue
            fmt, shape, facts = found
            yield Claim(
                layer=build_layer(
                    codes.name,
                    {"codes": codes, "scale": scale},
                    scheme=self.name,
                    fmt=fmt,
                    shape=shape,
                    recognised_by=recognised_by(context, _METHOD),
                    facts=facts,
                )
            )
            yield from about_inputs(tensors, codes)

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return fl32(value of the code * scale)."""
        codes = parts["codes"]
        if layer.dtype == FP4:
            codes = nibbles_low_first(codes)
        return scale_codes(layer, codes, parts["scale"])


def _describe(
    codes: LayerRef, scale: LayerRef, context: SchemeContext
) -> tuple[str, tuple[int, ...], dict[str, Fact]] | None:
    """Return format, logical shape and facts of the layer; None if these are no such codes."""
    if codes.dtype in FLOAT8_FORMATS:
        return FLOAT8_FORMATS[codes.dtype], codes.shape, _block_size(context)
    is_fp4 = (
        codes.dtype == "I8"
        and fits_fp4(codes.shape, scale.shape, sizes=_FP4_BLOCK)
        and (scale.dtype in EXPONENTS or context.method == _METHOD)
    )
    return (FP4, (*codes.shape[:-1], codes.shape[-1] * 2), {}) if is_fp4 else None


def _block_size(context: SchemeContext) -> dict[str, Fact]:
    """The block size in the configuration, else DeepSeek's; shapes that contradict it decide."""
    match context.settings.get("weight_block_size"):
        case [int() as rows, int() as cols] if context.method == _METHOD:
            return {BLOCK_ROWS: rows, BLOCK_COLS: cols}
        case _:
            return {BLOCK_ROWS: _BLOCK, BLOCK_COLS: _BLOCK}
