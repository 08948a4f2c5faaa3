"""int8 codes with one absolute maximum a row, as bitsandbytes stores them (LLM.int8()).

P.weight          I8 [N, K]
P.SCB             F32 [N], the absolute maximum of every row
P.weight_format   U8, 0: rows as they are; others belong to layouts of old GPUs
"""

from collections.abc import Iterable, Mapping
from typing import Final

from torch import Tensor

from altgrad_inspect.checkpoints.schemes.beside import WEIGHT, called, in_module, parts_of_module
from altgrad_inspect.checkpoints.schemes.blocks import view_of
from altgrad_inspect.checkpoints.schemes.parts import (
    FLOATS,
    build_layer,
    recognised_by,
)
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LoadedLayer, SchemeContext
from altgrad_inspect.formats import IntFormat
from altgrad_inspect.quantize.coded import CodedWeights
from altgrad_inspect.quantize.grids import ordinal_dtype
from altgrad_inspect.quantize.scales import Scales
from altgrad_inspect.refs import LayerRef

_METHOD: Final = "bitsandbytes"
_MAXIMA: Final = "SCB"
_OTHERS: Final = {"maxima": _MAXIMA, "format": "weight_format"}
_INT8: Final = IntFormat(name="int8", bits=8, low=-128, high=127, source="every code of a byte")
_RECIPROCAL: Final = 7.874015718698502e-3  # 1 / 127 as the source writes it


class BnbInt8Scheme:
    """int8 weights beside ``SCB``."""

    name = "bnb-int8"

    def find(self, tensors: Mapping[str, LayerRef], context: SchemeContext) -> Iterable[Claim]:
        """Find ``P.weight`` in I8 beside ``P.SCB``."""
        by = recognised_by(context, _METHOD)
        for name in called(tensors, _MAXIMA):
            codes = tensors.get(in_module(name, WEIGHT))
            if codes is None or codes.dtype != "I8" or len(codes.shape) != 2:
                continue
            parts = {"codes": codes, **parts_of_module(tensors, name, _OTHERS)}
            yield Claim(
                layer=build_layer(
                    codes.name,
                    parts,
                    scheme=self.name,
                    fmt=_INT8.name,
                    shape=codes.shape,
                    recognised_by=by,
                    problem=_find_problem(parts, context),
                )
            )

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return fl32(fl32(code * SCB) / 127), the division as a product with its reciprocal."""
        codes, maxima = parts["codes"], parts["maxima"].float().reshape(-1, 1)
        view = view_of(layer.shape, block_rows=1, block_cols=max(1, layer.shape[1]))
        coded = CodedWeights(
            fmt=_INT8,
            ordinals=codes.to(ordinal_dtype(_INT8)),
            scales=Scales(values=maxima * _RECIPROCAL, view=view),
        )
        # In the library's order, which a scale that is rounded first would miss by an ulp.
        return LoadedLayer(values=codes * maxima * _RECIPROCAL, coded=coded)


def _find_problem(parts: Mapping[str, LayerRef], context: SchemeContext) -> str | None:
    maxima, num_rows = parts["maxima"], parts["codes"].shape[0]
    if maxima.num_weights != num_rows or maxima.dtype not in FLOATS:
        return (
            f"has {maxima.num_weights} numbers of dtype {maxima.dtype} as {_MAXIMA}, expected "
            f"{num_rows} floats, one a row (save the checkpoint again)"
        )
    if "format" in parts:
        content = context.read_small(parts["format"])
        if content is None or any(content):
            return (
                "is stored in a layout of one GPU generation, expected weight_format 0, rows as "
                "they are (load it with bitsandbytes and save it again)"
            )
    return None
