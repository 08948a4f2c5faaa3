"""Whatever else has 8-bit codes beside a scale: read by names and shapes, with a warning.

X.weight I8 or FP8, beside X.weight_scale, X.scale, X.weight.scale, ... ; the last scheme tried

A weight is (code - zero point) * scale. Beside ``absmax`` it is code * absmax / 127, for int8.
It is claimed only where one reading is left:

* Codes are I8 or FP8, or U8 beside a zero point; a lone U8 may be two codes a byte.
* There is one scale of 16 bits or more, and no other tensor that could change the weights, such
  as a second scale, a shift, a codebook or an order of columns.
* The scale is one number; or has the dimensions of the codes, each of them divided evenly; or
  is one number a row. Where it might be one a row or one a column, the other layers decide.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Final

from torch import Tensor

from altgrad_inspect.checkpoints.schemes.affine import code_integers, require_whole
from altgrad_inspect.checkpoints.schemes.blocks import divide_evenly, fit_blocks, view_of_blocks
from altgrad_inspect.checkpoints.schemes.decoding import multiply_codes
from altgrad_inspect.checkpoints.schemes.generic_names import Family, find_families
from altgrad_inspect.checkpoints.schemes.parts import (
    FLOAT8_FORMATS,
    FLOATS,
    INTEGERS,
    build_layer,
    name_layer,
    read_scale,
)
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LeftOut, LoadedLayer, SchemeContext
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.quantize.scales import Scales
from altgrad_inspect.refs import LayerRef

_ZERO_DTYPES: Final = FLOATS | INTEGERS
_ABSMAX: Final = "absmax"
_LARGEST_CODE: Final = 127
_INPUTS: Final = "generic: how activations are quantized"
_UNCLEAR: Final = (
    "generic: one scale for each of as many rows as columns: nothing says which of them"
)


class GenericScheme:
    """Codes of 8 bits beside a scale, of no known scheme."""

    name = "generic"

    def find(
        self,
        tensors: Mapping[str, LayerRef],
        context: SchemeContext,  # noqa: ARG002  # what a configuration names is no case for this
    ) -> Iterable[Claim | LeftOut]:
        """Find codes beside a scale whose names, dtypes and shapes leave one reading."""
        families = [family for family in find_families(tensors) if _fits(family)]
        is_by_rows = _find_side(families)
        found = [(family, _find_block(family, is_by_rows=is_by_rows)) for family in families]
        read = [(family, block) for family, block in found if block is not None]
        note = _warn(len(read), read[0][0].layer) if read else ""
        for family, block in read:
            yield Claim(layer=self._build(family, block), notes=(note,))
            for scale in family.of_inputs:
                yield LeftOut(tensor=scale, reason=_INPUTS)
        for family, unread in found:
            if unread is None and family.codes.dtype not in FLOAT8_FORMATS:
                yield from _leave_out_unclear(family)

    def _build(self, family: Family, block: tuple[int, ...]) -> LayerRef:
        parts = {"codes": family.codes, "scale": family.scale}
        if family.zero is not None:
            parts["zero"] = family.zero
        return build_layer(
            family.layer,
            parts,
            scheme=self.name,
            fmt=FLOAT8_FORMATS.get(family.codes.dtype, "int8"),
            shape=family.codes.shape,
            recognised_by=f"{family.codes.dtype} beside {family.scale.name.rpartition('.')[2]}",
            facts={
                "block": block,
                "is_signed": family.codes.dtype != "U8",
                "is_absmax": family.scale_word == _ABSMAX,
            },
        )

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return (code - zero point) * scale."""
        block, scale = layer.facts["block"], read_scale(parts["scale"])
        view = view_of_blocks(layer.shape, block) if isinstance(block, tuple) else None
        values = None if view is None else fit_blocks(scale, view)
        if view is None or values is None:
            msg = (
                f"{name_layer(layer)} has scales of shape {list(scale.shape)}, expected one a "
                f"block of {block} (save the checkpoint again)"
            )
            raise CheckpointError(msg)
        if layer.facts["is_absmax"]:
            values = values / _LARGEST_CODE
        scales = Scales(values=values, view=view)
        if layer.dtype != "int8":
            return multiply_codes(layer, parts["codes"], scales)
        zero = parts.get("zero")
        if zero is not None:
            require_whole(layer, zero)
        coded = code_integers(
            layer,
            parts["codes"],
            scales,
            signed=bool(layer.facts["is_signed"]),
            zero_points=None if zero is None else zero.reshape(values.shape),
        )
        return LoadedLayer(values=coded.decode().reshape(layer.shape), coded=coded)


def _warn(count: int, example: str) -> str:
    layers = "1 layer" if count == 1 else f"{count} layers"
    return (
        f"generic: {layers} of no known scheme read as code * scale, going by names and shapes "
        f"alone (compare one with its source, e.g. {example!r})"
    )


def _fits(family: Family) -> bool:
    """Whether the dtypes are those of codes, scale and zero point."""
    codes, scale, zero = family.codes, family.scale, family.zero
    is_absmax = family.scale_word == _ABSMAX
    if prod(codes.shape) < 2 or 0 in scale.shape:
        return False
    if zero is not None:
        is_one_a_scale = prod(zero.shape) == prod(scale.shape)
        if not is_one_a_scale or zero.dtype not in _ZERO_DTYPES or is_absmax:
            return False
    if codes.dtype in FLOAT8_FORMATS:
        return scale.dtype in FLOATS | {"F8_E8M0"} and zero is None and not is_absmax
    has_codes = codes.dtype == "I8" or (codes.dtype == "U8" and zero is not None)
    return has_codes and scale.dtype in FLOATS


def _sides(family: Family) -> tuple[bool, bool]:
    """Whether a scale of fewer dimensions than the codes fits their first ones, their last ones."""
    shape, scale = family.codes.shape, family.scale.shape
    if not 0 < len(scale) < len(shape) or prod(scale) == 1:
        return False, False
    return scale == shape[: len(scale)], scale == shape[-len(scale) :]


def _find_side(families: Sequence[Family]) -> bool | None:
    """Whether such scales belong to rows, as far as the layers that leave no choice agree."""
    told = {sides for sides in map(_sides, families) if sides[0] != sides[1]}
    return next(iter(told))[0] if len(told) == 1 else None


def _find_block(family: Family, *, is_by_rows: bool | None) -> tuple[int, ...] | None:
    """Sizes of the blocks that share a scale; None where the shapes do not say."""
    shape, scale = family.codes.shape, family.scale.shape
    block: tuple[int, ...] | None = None
    if prod(scale) == 1:
        block = shape
    elif len(scale) == len(shape):
        block = divide_evenly(shape, scale) if scale != shape else None
    else:
        first, last = _sides(family)
        if first and (not last or is_by_rows is True):
            block = (*(1 for _ in scale), *shape[len(scale) :])
        elif last and (not first or is_by_rows is False):
            block = (*shape[: -len(scale)], *(1 for _ in scale))
    return None if block is None or view_of_blocks(shape, block) is None else block


def _leave_out_unclear(family: Family) -> Iterator[LeftOut]:
    if all(_sides(family)):
        yield LeftOut(tensor=family.codes, reason=_UNCLEAR)
        yield LeftOut(tensor=family.scale, reason=_UNCLEAR)
