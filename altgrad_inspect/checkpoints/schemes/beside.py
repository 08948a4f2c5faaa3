"""Names of tensors that belong together: ``P.weight`` and what stands beside it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from altgrad_inspect.checkpoints.schemes.scheme import LeftOut
from altgrad_inspect.refs import LayerRef

WEIGHT: Final = "weight"

_SCALE: Final = "activation scale of {}"
_ZERO_POINT: Final = "activation zero point of {}"
_BRANCH: Final = "low-rank branch beside {}, not part of its weights"
_ABOUT_INPUTS: Final[Mapping[str, str]] = {
    "activation_scale": _SCALE,
    "input_scale": _SCALE,
    "input_global_scale": _SCALE,
    "input_zero_point": _ZERO_POINT,
    "output_scale": _SCALE,
    "output_zero_point": _ZERO_POINT,
    "qscale_act": _SCALE,
    "pre_quant_scale": "multiplies the inputs of {}, not part of its weights",
    "svdquant_lora_a": _BRANCH,
    "svdquant_lora_b": _BRANCH,
}
_ATTENTION: Final = frozenset(
    f"{part}_{what}" for part in "qkv" for what in ("scale", "zero_point")
)


def path_of(name: str) -> str:
    """The module of a tensor: what stands before the last dot."""
    return name.rpartition(".")[0]


def last_of(name: str) -> str:
    """What a tensor is called in its module: what stands behind the last dot."""
    return name.rpartition(".")[2]


def in_module(name: str, last: str) -> str:
    """The name of the tensor ``last`` of the module that ``name`` belongs to.

    ``P.qweight`` and ``scales`` give ``P.scales``, whatever ``name`` is called itself.
    """
    path = path_of(name)
    return f"{path}.{last}" if path else last


def called(tensors: Mapping[str, LayerRef], *lasts: str) -> Iterator[str]:
    """Yield the names of tensors that are called one of ``lasts`` in their module."""
    return (name for name in tensors if last_of(name) in lasts)


def parts_of_module(
    tensors: Mapping[str, LayerRef], name: str, lasts: Mapping[str, str]
) -> dict[str, LayerRef]:
    """Those of ``lasts``, role to name, that are in the module ``name`` belongs to, by role."""
    names = {role: in_module(name, last) for role, last in lasts.items()}
    return {role: tensors[one] for role, one in names.items() if one in tensors}


def is_packed(name: str) -> bool:
    """Whether a tensor is called ``weight_packed``, as only compressed-tensors does."""
    return last_of(name) == "weight_packed"


def beside(name: str, last: str) -> str:
    """The name of the tensor ``last`` of the module that ``name`` belongs to.

    ``P.weight`` and ``weight_scale`` give ``P.weight_scale``. A parameter that is not called
    ``weight`` stands before: ``P.down_proj`` gives ``P.down_proj_weight_scale``.
    """
    path, _, own = name.rpartition(".")
    full = last if own == WEIGHT or own.startswith(f"{WEIGHT}_") else f"{own}_{last}"
    return f"{path}.{full}" if path else full


def first_beside(
    tensors: Mapping[str, LayerRef], name: str, lasts: Iterable[str]
) -> LayerRef | None:
    """The first of ``lasts`` that stands beside ``name``; None if none does."""
    for last in lasts:
        found = tensors.get(beside(name, last))
        if found is not None:
            return found
    return None


def about_inputs(tensors: Mapping[str, LayerRef], codes: LayerRef) -> Iterator[LeftOut]:
    """Yield what stands beside ``codes`` and is about the layer's inputs and outputs."""
    for last, reason in _ABOUT_INPUTS.items():
        found = tensors.get(beside(codes.name, last))
        if found is not None:
            yield LeftOut(tensor=found, reason=reason.format(codes.name))


def about_attention(tensors: Mapping[str, LayerRef]) -> Iterator[LeftOut]:
    """Yield the scales of cached keys and values."""
    for name in called(tensors, *_ATTENTION):
        yield LeftOut(tensor=tensors[name], reason="scale of the attention's keys or values")
