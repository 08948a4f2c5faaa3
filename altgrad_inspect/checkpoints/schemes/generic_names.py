"""Names under which codes and their scales stand beside each other, whoever wrote them.

X.weight     X.weight_scale, X.weight.scale, X.scale      the same with scales, absmax, qscale
X.qweight    X.scale, X.qweight_scale, ...                the layer is X.weight, or X where that
                                                          ends in a word with "weight" itself
Y_q          Y_scale, ...                                 the layer is Y
Z            Z_scale, Z.scale, ...                        the layer is Z
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from altgrad_inspect.refs import LayerRef

_SCALES: Final = ("scale", "scales", "absmax", "qscale")
_ZEROS: Final = ("zero_point", "zero_points", "zeros", "zero", "zp")
_WEIGHT: Final = "weight"
_CODE_NAMES: Final = ("qweight", "q_weight", "weight_q", "int8_weight", "weight_int8", "qdata")
_CODE_ENDINGS: Final = ("_q", "_int8", "_fp8", "_quantized", "_qweight")
_OF_INPUTS: Final = frozenset({"input", "output", "act", "activation"})
_CHANGES_WEIGHTS: Final = frozenset(
    {
        *("scale", "scales", "qscale", "absmax", "nested", "map", "state", "scb", "min", "max"),
        *("zero", "zeros", "zp", "shift", "shifts", "offset", "offsets", "outlier", "outliers"),
        *("codebook", "codebooks", "centroids", "lut", "idx", "perm"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Tensors that stand together by their names.

    Attributes:
        layer: What their layer is called.
        codes: The tensor that the others are named after.
        scale: The only one that is named as a scale.
        scale_word: As which one: ``scale``, ``absmax``, ...
        zero: The only one that is named as a zero point, if any.
        of_inputs: Scales of inputs and outputs.
    """

    layer: str
    codes: LayerRef
    scale: LayerRef
    scale_word: str
    zero: LayerRef | None
    of_inputs: tuple[LayerRef, ...]


def find_families(tensors: Mapping[str, LayerRef]) -> Iterator[Family]:
    """Find codes, whatever their dtype, that one scale and at most one zero point belong to.

    Where another tensor beside them might change the weights there is no family.

    Args:
        tensors: By name.
    """
    children: dict[str, list[str]] = {}
    for name in tensors:
        children.setdefault(name.rpartition(".")[0], []).append(name)
    for name, codes in tensors.items():
        layer, stems = _stems_of(name)
        scales = _named(stems, _SCALES, tensors)
        zeros = _named(stems, _ZEROS, tensors)
        if len(scales) != 1 or len(zeros) > 1 or (layer != name and layer in tensors):
            continue
        (scale, word), zero = next(iter(scales.items())), next(iter(zeros), None)
        others = _others(name, stems, children) - {name, scale, zero}
        of_inputs = {other for other in others if _words(other) & _OF_INPUTS}
        if any(_words(other) & _CHANGES_WEIGHTS for other in others - of_inputs):
            continue
        yield Family(
            layer=layer,
            codes=codes,
            scale=tensors[scale],
            scale_word=word,
            zero=tensors[zero] if zero else None,
            of_inputs=tuple(tensors[other] for other in sorted(of_inputs)),
        )


def _stems_of(name: str) -> tuple[str, tuple[str, ...]]:
    """The layer behind codes of this name, and what the names of their scales begin with."""
    path, dot, last = name.rpartition(".")
    own = (f"{name}.", f"{name}_")
    prefix = f"{path}{dot}"
    if last == _WEIGHT:
        return name, (*own, prefix)
    if last in _CODE_NAMES:
        holds_weight = _WEIGHT in path.rpartition(".")[2]
        return path if holds_weight else f"{prefix}{_WEIGHT}", (*own, prefix, f"{prefix}{_WEIGHT}_")
    ending = next((end for end in _CODE_ENDINGS if last.endswith(end) and last != end), None)
    if ending is not None:
        layer = name.removesuffix(ending)
        return layer, (*own, f"{layer}.", f"{layer}_")
    return name, own


def _named(
    stems: tuple[str, ...], words: tuple[str, ...], tensors: Mapping[str, LayerRef]
) -> dict[str, str]:
    """Tensors that are called one of ``words`` behind one of ``stems``: name -> word."""
    return {f"{stem}{word}": word for stem in stems for word in words if f"{stem}{word}" in tensors}


def _others(name: str, stems: tuple[str, ...], children: Mapping[str, list[str]]) -> set[str]:
    """Names of the tensors that stand beside codes of this name."""
    path = name.rpartition(".")[0]
    beside = {*children.get(path, ()), *children.get(name, ())}
    beside.update(
        child for stem in stems if stem.endswith(".") for child in children.get(stem[:-1], ())
    )
    return {other for other in beside if other.startswith(stems)}


def _words(name: str) -> set[str]:
    return set(name.rpartition(".")[2].lower().split("_"))
