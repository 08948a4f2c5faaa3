"""From stored tensors to layers: what schemes claim becomes one layer, the rest stays plain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from altgrad_inspect.checkpoints.schemes import SCHEMES
from altgrad_inspect.checkpoints.schemes.scheme import Claim, Scheme, SchemeContext
from altgrad_inspect.records import SkippedLayer
from altgrad_inspect.refs import LayerRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """The layers of a checkpoint.

    Attributes:
        layers: By name, sorted.
        left_out: Stored tensors that hold no weights and belong to a scheme.
        notes: What is worth a sentence.
    """

    layers: Mapping[str, LayerRef]
    left_out: tuple[SkippedLayer, ...] = ()
    notes: tuple[str, ...] = ()


def fold_tensors(
    tensors: Mapping[str, LayerRef],
    context: SchemeContext,
    *,
    schemes: Sequence[Scheme] = SCHEMES,
) -> Folded:
    """Let every scheme claim its layers among the stored tensors.

    Args:
        tensors: By name.
        context: What is known beside them.
        schemes: In the order in which they may claim.
    """
    rest = dict(tensors)
    claimed: dict[str, LayerRef] = {}
    left_out: list[SkippedLayer] = []
    notes: dict[str, None] = {}
    for scheme in schemes:
        for found in list(scheme.find(rest, context)):
            if isinstance(found, Claim):
                names = [part.name for part in found.layer.parts.values()]
                if not all(name in rest for name in names):
                    continue  # an earlier claim of this scheme has it
                claimed[found.layer.name] = found.layer
                notes.update(dict.fromkeys(found.notes))
            elif found.tensor.name in rest:
                names = [found.tensor.name]
                left_out.append(
                    SkippedLayer(
                        layer=found.tensor.name,
                        shape=found.tensor.shape,
                        dtype=found.tensor.dtype,
                        reason=found.reason,
                    )
                )
            else:
                continue
            for name in names:
                rest.pop(name, None)
    return Folded(
        layers=dict(sorted({**rest, **claimed}.items())),
        left_out=tuple(left_out),
        notes=tuple(notes),
    )
