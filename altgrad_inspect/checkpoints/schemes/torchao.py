"""Tensor subclasses of torchao, as it flattens them for safetensors.

M._weight_qdata, M._weight_scale, ...    what the subclass of M.weight is made of
metadata "M.weight"                      JSON: {"_type": class, "_data": settings,
                                         "_tensor_data_names": [...]}

Where the metadata are missing, FP8 and int8 codes beside float scales are told from their names,
dtypes and shapes; in FP4 and MX files nothing else says in which order the scales are.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from torch import Tensor

from altgrad_inspect.checkpoints.names import normalise_name
from altgrad_inspect.checkpoints.schemes.blocks import divide_evenly
from altgrad_inspect.checkpoints.schemes.parts import FLOAT8_FORMATS, FLOATS, build_layer
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LeftOut, LoadedLayer, SchemeContext
from altgrad_inspect.checkpoints.schemes.torchao_tensors import (
    CLASSES,
    OPAQUE,
    PART_DTYPES,
    shape_of,
)
from altgrad_inspect.refs import Fact, LayerRef

_CODES: Final = "_qdata"
_PARTS: Final = (
    *("_qdata", "_scale", "_zero_point", "_per_tensor_scale", "_scale_and_zero"),
    *("_act_quant_scale", "_act_quant_zero_point", "_act_pre_scale", "_act_per_tensor_scale"),
)
_OF_INPUTS: Final = "act_"


class TorchaoScheme:
    """Flattened tensor subclasses of torchao."""

    name = "torchao"

    def find(
        self, tensors: Mapping[str, LayerRef], context: SchemeContext
    ) -> Iterable[Claim | LeftOut]:
        """Find what the metadata describe, then ``M._weight_qdata`` that they do not."""
        described = dict(_read_metadata(context.metadata))
        for layer, entry in described.items():
            yield from self._find_described(layer, entry, tensors)
        for name in tensors:
            unnamed = _layer_of_codes(name)
            if unnamed is not None and unnamed not in described and unnamed not in tensors:
                yield from self._find_by_names(unnamed, _parts_of(unnamed, tensors))

    def _find_described(
        self, layer: str, entry: Mapping[str, object], tensors: Mapping[str, LayerRef]
    ) -> Iterator[Claim | LeftOut]:
        kind, data = str(entry["_type"]), entry.get("_data")
        parts = _parts_of(layer, tensors)
        if layer in tensors or not parts:
            return
        reader = CLASSES.get(kind)
        if reader is None:
            yield from _leave_out(parts, _why_unreadable(kind))
            return
        missing = [part for part in reader.parts if part not in parts]
        if missing:
            kept = {role: part for role, part in parts.items() if not _is_float8_codes(part)}
            yield from _leave_out(kept, f"torchao {kind} without its {' and '.join(missing)}")
            return
        form = reader.describe(parts["qdata"], data if isinstance(data, dict) else {})
        if form is None:
            reason = f"torchao {kind}: its metadata do not fit its codes (save it again)"
            yield from _leave_out(parts, reason)
            return
        facts: dict[str, Fact] = {
            "kind": kind,
            "block": form.block,
            "is_packed": form.is_packed,
            "is_swizzled": form.is_swizzled,
        }
        used = [*reader.parts, *(part for part in reader.optional_parts if part in parts)]
        yield Claim(
            layer=build_layer(
                layer,
                {part: parts[part] for part in used},
                scheme=self.name,
                fmt=form.fmt,
                shape=shape_of(parts["qdata"], form),
                recognised_by=f"metadata: {kind}",
                facts=facts,
                dtypes=PART_DTYPES,
            )
        )
        yield from _leave_out_inputs(parts)

    def _find_by_names(
        self, layer: str, parts: Mapping[str, LayerRef]
    ) -> Iterator[Claim | LeftOut]:
        codes, scale = parts["qdata"], parts.get("scale")
        fmt = {**FLOAT8_FORMATS, "I8": "int8"}.get(codes.dtype)
        block = None if scale is None else divide_evenly(codes.shape, scale.shape)
        if scale is None or scale.dtype not in FLOATS or fmt is None or block is None:
            kept = {role: part for role, part in parts.items() if not _is_float8_codes(part)}
            yield from _leave_out(
                kept,
                "torchao: the metadata that say how its codes and scales lie are missing (save "
                "it again with torchao's flatten_tensor_state_dict)",
            )
            return
        kind = "Int8Tensor" if fmt == "int8" else "Float8Tensor"
        used = ("qdata", "scale", *CLASSES[kind].optional_parts)
        yield Claim(
            layer=build_layer(
                layer,
                {part: parts[part] for part in used if part in parts},
                scheme=self.name,
                fmt=fmt,
                shape=codes.shape,
                recognised_by="names and dtypes",
                facts={"kind": kind, "block": block, "is_packed": False, "is_swizzled": False},
                dtypes=PART_DTYPES,
            )
        )
        yield from _leave_out_inputs(parts)

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Decode as the subclass does."""
        return CLASSES[str(layer.facts["kind"])].decode(layer, parts)


def _read_metadata(metadata: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield (layer, what is said of it).

    Every file has a list of its own tensors; what describes a tensor is looked for itself, so
    that the shards of one checkpoint add up.
    """
    for name, text in metadata.items():
        if not text.startswith("{"):
            continue
        try:
            entry = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and isinstance(entry.get("_type"), str):
            yield normalise_name(name), entry


def _layer_of_codes(name: str) -> str | None:
    """Return ``M.weight`` for ``M._weight_qdata``; None for any other name."""
    path, dot, last = name.rpartition(".")
    weight = last.removesuffix(_CODES).removeprefix("_")
    is_flattened = bool(dot) and last.startswith("_") and last.endswith(_CODES) and weight
    return f"{path}.{weight}" if is_flattened else None


def _parts_of(layer: str, tensors: Mapping[str, LayerRef]) -> dict[str, LayerRef]:
    """Return the tensors that ``layer`` is made of by role, without the leading underscore."""
    path, _, weight = layer.rpartition(".")
    names = {part.removeprefix("_"): f"{path}._{weight}{part}" for part in _PARTS}
    return {role: tensors[name] for role, name in names.items() if name in tensors}


def _is_float8_codes(part: LayerRef) -> bool:
    """Whether codes can be compared without their scale; they stay then."""
    return part.name.endswith(_CODES) and part.dtype in FLOAT8_FORMATS


def _why_unreadable(kind: str) -> str:
    kernel = OPAQUE.get(kind)
    if kernel is None:
        return f"torchao {kind} is not known, expected one of {', '.join(CLASSES)}"
    return (
        f"torchao {kind}: its codes lie as a kernel of {kernel} wants them, which is written down "
        "nowhere (save it as Int4Tensor or IntxUnpackedToInt8Tensor)"
    )


def _leave_out(parts: Mapping[str, LayerRef], reason: str) -> Iterator[LeftOut]:
    for part in parts.values():
        yield LeftOut(tensor=part, reason=reason)


def _leave_out_inputs(parts: Mapping[str, LayerRef]) -> Iterator[LeftOut]:
    of_inputs = {role: part for role, part in parts.items() if role.startswith(_OF_INPUTS)}
    yield from _leave_out(of_inputs, "torchao: how the inputs of a layer are quantized")
