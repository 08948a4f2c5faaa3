"""NF4 and FP4 codes with one absolute maximum a block, as bitsandbytes stores them.

P                                    two codes a byte, the first one in the high bits; [bytes, 1]
                                     of U8, or of the dtype given as ``quant_storage``
P.absmax                             F32, one a block; U8 if they are quantized in their turn
P.quant_map                          F32 [16], the value of every code
P.nested_absmax, P.nested_quant_map  F32, for double quantization
P.quant_state.bitsandbytes__nf4      U8, JSON: shape, block sizes, the offset of absmax

Blocks run through the flattened weights. The JSON is read while the checkpoint is opened,
since the shape stands in it alone.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from altgrad_inspect.checkpoints.json_files import parse_json_object
from altgrad_inspect.checkpoints.schemes.parts import (
    FLOATS,
    build_layer,
    int_fact,
    name_layer,
    recognised_by,
)
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LoadedLayer, SchemeContext
from altgrad_inspect.checkpoints.schemes.unpack import nibbles_high_first
from altgrad_inspect.codebooks import CodebookFormat
from altgrad_inspect.errors import CheckpointError, FormatError
from altgrad_inspect.quantize.coded import CodedWeights
from altgrad_inspect.quantize.grids import ordinals_of_codes
from altgrad_inspect.quantize.scales import Scales, View
from altgrad_inspect.refs import Fact, LayerRef

_METHOD: Final = "bitsandbytes"
_STATE: Final = ".quant_state.bitsandbytes__"
_TYPES: Final = ("nf4", "fp4")
_NUM_CODES: Final = 16
_NUM_NESTED_CODES: Final = 256
_AGAIN: Final = "(save the checkpoint again)"


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What the JSON says."""

    shape: tuple[int, ...]
    blocksize: int
    nested_blocksize: int | None
    nested_offset: float | None

    @property
    def facts(self) -> dict[str, Fact]:
        return {
            "blocksize": self.blocksize,
            "nested_blocksize": self.nested_blocksize,
            "nested_offset": self.nested_offset,
        }

    @property
    def num_weights(self) -> int:
        return math.prod(self.shape)

    @property
    def num_blocks(self) -> int:
        return -(-self.num_weights // self.blocksize)


class Bnb4BitScheme:
    """Weights beside ``quant_state.bitsandbytes__nf4`` or ``__fp4``."""

    name = "bnb-4bit"

    def find(self, tensors: Mapping[str, LayerRef], context: SchemeContext) -> Iterable[Claim]:
        """Find every weight that has a quantization state."""
        by = recognised_by(context, _METHOD)
        for name, packed_state in tensors.items():
            base, found, quant_type = name.partition(_STATE)
            if not found or quant_type not in _TYPES or base not in tensors:
                continue
            names = {
                "codes": base,
                "quant_state": name,
                "absmax": f"{base}.absmax",
                "quant_map": f"{base}.quant_map",
                "nested_absmax": f"{base}.nested_absmax",
                "nested_quant_map": f"{base}.nested_quant_map",
            }
            parts = {role: tensors[one] for role, one in names.items() if one in tensors}
            state = _read_state(context.read_small(packed_state), quant_type, parts)
            problem = state if isinstance(state, str) else _find_misfit(state, parts)
            known = None if isinstance(state, str) else state
            yield Claim(
                layer=build_layer(
                    base,
                    parts,
                    scheme=self.name,
                    fmt=quant_type,
                    shape=known.shape if known else parts["codes"].shape,
                    recognised_by=by,
                    facts=known.facts if known else None,
                    problem=problem,
                )
            )

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return fl32(quant_map[code] * absmax), before the library rounds to its own dtype."""
        num_weights, blocksize = layer.num_weights, int_fact(layer, "blocksize")
        fmt = _read_codebook(layer, parts["quant_map"])
        codes = nibbles_high_first(parts["codes"].reshape(-1).view(torch.uint8))[:num_weights]
        view = View(
            num_matrices=1, rows=1, cols=num_weights, block_rows=1, block_cols=max(1, blocksize)
        )
        coded = CodedWeights(
            fmt=fmt,
            ordinals=ordinals_of_codes(codes, fmt).reshape(view.shape),
            scales=Scales(values=_read_absmax(layer, parts).reshape(1, -1), view=view),
        )
        return LoadedLayer(values=coded.decode().reshape(layer.shape), coded=coded)


def _read_state(
    content: bytes | None, quant_type: str, parts: Mapping[str, LayerRef]
) -> _State | str:
    """Read the JSON; what is wrong with it, in words, if it cannot be used."""
    if content is None:
        return f"has a quantization state that is no short text, expected JSON {_AGAIN}"
    try:
        found = parse_json_object(content, "quantization state")
    except CheckpointError as error:
        return f"cannot be decoded: {error}"
    is_nested = "nested_absmax" in parts
    shape, offset = found.get("shape"), found.get("nested_offset")
    sizes = [found.get("blocksize"), found.get("nested_blocksize") if is_nested else 1]
    is_right = (
        found.get("quant_type") == quant_type
        and isinstance(shape, list)
        and all(type(one) is int and one >= 0 for one in shape)
        and all(type(one) is int and one > 0 for one in sizes)
        and (not is_nested or (type(offset) in {int, float} and math.isfinite(offset)))  # type: ignore[arg-type]
    )
    if not is_right:
        return (
            "has a quantization state that does not fit it, expected quant_type "
            f"{quant_type}, a shape, block sizes and the offset of nested maxima {_AGAIN}"
        )
    return _State(
        shape=tuple(shape),  # type: ignore[arg-type]
        blocksize=sizes[0],  # type: ignore[arg-type]
        nested_blocksize=sizes[1] if is_nested else None,  # type: ignore[arg-type]
        nested_offset=float(offset) if is_nested else None,  # type: ignore[arg-type]
    )


def _find_misfit(state: _State, parts: Mapping[str, LayerRef]) -> str | None:
    """What does not fit together, in words; None if all does."""
    is_nested = state.nested_blocksize is not None
    expected = {
        "absmax": (state.num_blocks, {"U8"} if is_nested else FLOATS),
        "quant_map": (_NUM_CODES, FLOATS),
    }
    if state.nested_blocksize is not None:
        expected["nested_absmax"] = (-(-state.num_blocks // state.nested_blocksize), FLOATS)
        expected["nested_quant_map"] = (_NUM_NESTED_CODES, FLOATS)
    for role, (count, dtypes) in expected.items():
        part = parts.get(role)
        if part is None:
            return f"has no {role}, expected {count} numbers {_AGAIN}"
        if part.num_weights != count or part.dtype not in dtypes:
            return (
                f"has {part.num_weights} numbers of dtype {part.dtype} as {role}, expected "
                f"{count} of {' or '.join(sorted(dtypes))} {_AGAIN}"
            )
    num_bytes = -(-state.num_weights // 2)
    if parts["codes"].num_bytes != num_bytes:
        return (
            f"has {parts['codes'].num_bytes} bytes of codes, expected {num_bytes} for shape "
            f"{list(state.shape)} {_AGAIN}"
        )
    return None


def _read_codebook(layer: LayerRef, quant_map: Tensor) -> CodebookFormat:
    values = tuple(float(one) for one in quant_map.float().reshape(-1).tolist())
    if not all(math.isfinite(one) for one in values):
        msg = f"{name_layer(layer)} has a quant_map with NaN or Inf, expected 16 numbers {_AGAIN}"
        raise CheckpointError(msg)
    try:
        return CodebookFormat(name=layer.dtype, bits=4, values=values)
    except FormatError as error:
        msg = f"{name_layer(layer)} has a quant_map that is no codebook: {error} {_AGAIN}"
        raise CheckpointError(msg) from error


def _read_absmax(layer: LayerRef, parts: Mapping[str, Tensor]) -> Tensor:
    """Return the absolute maxima as float32, dequantized if they are codes themselves.

    fl32(fl32(nested_quant_map[code] * nested_absmax of its block) + nested_offset); see
    bitsandbytes: functional.py:dequantize_4bit.
    """
    absmax = parts["absmax"].reshape(-1)
    if "nested_absmax" not in parts:
        return absmax.float()
    index = torch.arange(absmax.numel(), device=absmax.device)
    block = index // int_fact(layer, "nested_blocksize")
    codebook = parts["nested_quant_map"].reshape(-1).float()
    scaled = codebook[absmax.int()] * parts["nested_absmax"].reshape(-1).float()[block]
    return scaled + torch.tensor(layer.facts["nested_offset"], dtype=torch.float32)
