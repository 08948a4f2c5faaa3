"""Unsigned codes with float zero points a group, as HQQ stores them.

P.W_q            codes of the weights reshaped to [N K / g, g] (axis 1) or [g, N K / g] (axis 0),
                 rows cut into parts that lie over each other, the first in the highest bits:
                 U8 of 1, 2 or 4 bits, I32 of ten 3-bit codes, or one code of up to 8 bits a byte;
                 perhaps seen as a float dtype (``view_as_float``)
P.scale, P.zero  floats, one a group; a weight is (code - zero) * scale
P.nbits, P.axis, P.group_size, P.shape, P.packing, ...   settings, each a tensor of its own

Without ``group_size`` a group is a whole row (axis 1) or column (axis 0), without
``channel_wise`` the layer.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor

from altgrad_inspect.checkpoints.schemes.beside import WEIGHT, called, in_module, parts_of_module
from altgrad_inspect.checkpoints.schemes.parts import (
    FLOATS,
    build_layer,
    int_fact,
    name_layer,
    recognised_by,
)
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LoadedLayer, SchemeContext
from altgrad_inspect.checkpoints.schemes.unpack import fields_in_row_parts
from altgrad_inspect.checkpoints.schemes.zero_points import code_with_zero_points, unsigned_format
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.quantize.scales import View
from altgrad_inspect.refs import Fact, LayerRef

_METHOD: Final = "hqq"
_ROLES: Final = {"codes": "W_q", "scales": "scale", "zeros": "zero"}
_SETTINGS: Final = (
    "nbits",
    "axis",
    "group_size",
    "shape",
    "packing",
    "view_as_float",
    "channel_wise",
    "quant_scale",
    "quant_zero",
    "unpack_view_dtype",
    "compute_dtype",
    "offload_meta",
    "encoded_state_dict",
    "stores_quant_config",
    "optimize",
    "round_zero",
)
_PACKINGS: Final[Mapping[str, tuple[int, int, int]]] = {  # bits, codes an element, its bytes
    "8bit_u8": (8, 1, 1),
    "4bit_u8": (4, 2, 1),
    "3bit_32": (3, 10, 4),
    "2bit_u8": (2, 4, 1),
    "1bit_u8": (1, 8, 1),
}
_NUMPY: Final = {"U8": "u1", "I8": "i1", "I32": "<i4", "I64": "<i8", "F32": "<f4", "F64": "<f8"}
_AGAIN: Final = "(save the model again with hqq)"

Settings = Mapping[str, tuple[float, ...]]
"""Every setting as the numbers that its tensor holds."""


class HqqScheme:
    """Weights stored as ``W_q``, ``scale``, ``zero`` and their settings."""

    name = "hqq"

    def find(self, tensors: Mapping[str, LayerRef], context: SchemeContext) -> Iterable[Claim]:
        """Find every ``P.W_q``; the layer is ``P.weight``."""
        by = recognised_by(context, _METHOD)
        for name in called(tensors, _ROLES["codes"]):
            parts = parts_of_module(tensors, name, {**_ROLES, **{one: one for one in _SETTINGS}})
            found = _read_facts(_read_settings(parts, context.read_small), parts)
            problem = found if isinstance(found, str) else None
            facts = {} if isinstance(found, str) else found
            shape = facts.get("shape")
            yield Claim(
                layer=build_layer(
                    in_module(name, WEIGHT),
                    parts,
                    scheme=self.name,
                    fmt=str(facts.get("format", "uint")),
                    shape=shape if isinstance(shape, tuple) else parts["codes"].shape,
                    recognised_by=by,
                    facts=facts,
                    problem=problem,
                )
            )

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return fl32(fl32(code - zero) * scale), before the library rounds to its own dtype."""
        bits, count, num_bytes = _PACKINGS[str(layer.facts["packing"])]
        rows, cols, highest = (int_fact(layer, name) for name in ("rows", "cols", "highest"))
        dtype = torch.uint8 if num_bytes == 1 else torch.int32
        stored = parts["codes"].reshape(-1).view(dtype).reshape(-1, cols)
        codes = fields_in_row_parts(stored, bits=bits, count=count, high_first=True)[:rows]
        if codes.numel() and int(codes.max()) > highest:
            msg = (
                f"{name_layer(layer)} holds the code {int(codes.max())}, expected at most "
                f"{highest} {_AGAIN}"
            )
            raise CheckpointError(msg)
        zeros, scales = (parts[role].float() for role in ("zeros", "scales"))
        axis = layer.facts["axis"]
        block = (None, cols) if axis is None else ((1, cols) if axis == 1 else (rows, 1))
        blocks = (1, -1) if axis == 0 else (-1, 1)
        coded = code_with_zero_points(
            codes,
            zeros.reshape(blocks),
            scales.reshape(blocks),
            View(num_matrices=1, rows=rows, cols=cols, block_rows=block[0], block_cols=block[1]),
            fmt=unsigned_format(highest, layer.dtype),
        )
        return LoadedLayer(values=coded.decode().reshape(layer.shape), coded=coded)


def _read_settings(
    parts: Mapping[str, LayerRef], read_small: Callable[[LayerRef], bytes | None]
) -> Settings:
    found: dict[str, tuple[float, ...]] = {}
    for name in _SETTINGS:
        part = parts.get(name)
        content = read_small(part) if part is not None and part.dtype in _NUMPY else None
        if part is not None and content:
            numbers = np.frombuffer(content, dtype=_NUMPY[part.dtype]).tolist()
            if all(math.isfinite(one) for one in numbers):
                found[name] = tuple(map(float, numbers))
    return found


def _read_facts(settings: Settings, parts: Mapping[str, LayerRef]) -> dict[str, Fact] | str:
    """What decoding must know; what is wrong, in words, if it cannot be done."""
    lacking = [name for name in ("scales", "zeros") if name not in parts]
    lacking += [name for name in ("nbits", "axis", "shape", "packing") if name not in settings]
    if lacking:
        names = ", ".join(_ROLES.get(name, name) for name in lacking)
        return f"has no readable {names}, expected HQQ's tensors and settings {_AGAIN}"
    if any(settings.get(name, (0,))[0] for name in ("quant_scale", "quant_zero")):
        return f"has scales that are quantized themselves, expected floats {_AGAIN}"
    packing = "".join(chr(int(one)) for one in settings["packing"] if 0 <= one < 128)
    nbits, axis = settings["nbits"][0], settings["axis"][0]
    shape = tuple(int(one) for one in settings["shape"])
    group_size = int(settings["group_size"][0]) if "group_size" in settings else None
    highest = round(2**nbits - 1) if 0 < nbits <= 8 else 0
    if (
        packing not in _PACKINGS
        or axis not in {0, 1}
        or not 1 <= highest < 1 << _PACKINGS[packing][0]
        or len(shape) != 2
        or min(shape) < 1
        or (group_size is not None and (group_size < 1 or math.prod(shape) % group_size))
    ):
        return (
            f"has settings that do not fit: nbits {nbits:g}, axis {axis:g}, group_size "
            f"{group_size}, shape {list(shape)}, packing '{packing[:20]}', expected two "
            f"sizes, groups that divide them, and a packing with room for the bits {_AGAIN}"
        )
    is_whole = settings.get("channel_wise", (1,))[0] == 0
    rows, cols = shape
    if group_size is not None and not is_whole:
        other = math.prod(shape) // group_size
        rows, cols = (other, group_size) if axis == 1 else (group_size, other)
    num_groups = 1 if is_whole else (rows if axis == 1 else cols)
    facts: dict[str, Fact] = {
        "shape": shape,
        "format": f"uint{nbits:.3g}",
        "highest": highest,
        "axis": None if is_whole else int(axis),
        "rows": rows,
        "cols": cols,
        "packing": packing,
    }
    return _find_misfit(parts, packing, (rows, cols), num_groups) or facts


def _find_misfit(
    parts: Mapping[str, LayerRef], packing: str, view: tuple[int, int], num_groups: int
) -> str | None:
    _, count, num_bytes = _PACKINGS[packing]
    expected = -(-view[0] // count) * view[1] * num_bytes
    found = parts["codes"].num_bytes
    if found != expected or (count != 10 and view[0] % count):
        return f"has {found} bytes of codes, expected {expected} for {list(view)} codes {_AGAIN}"
    for role in ("scales", "zeros"):
        part = parts[role]
        if part.num_weights != num_groups or part.dtype not in FLOATS:
            return (
                f"has {part.num_weights} numbers of dtype {part.dtype} as {_ROLES[role]}, expected "
                f"{num_groups} floats, one a group {_AGAIN}"
            )
    return None
