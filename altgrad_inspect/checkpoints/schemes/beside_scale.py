"""Schemes of codes and a scale that stand beside each other: which tensors make a layer."""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from torch import Tensor

from altgrad_inspect.checkpoints.schemes.beside import (
    WEIGHT,
    about_attention,
    about_inputs,
    beside,
    first_beside,
    is_packed,
)
from altgrad_inspect.checkpoints.schemes.parts import build_layer
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LeftOut, LoadedLayer, SchemeContext
from altgrad_inspect.refs import Fact, LayerRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Tensors that are a layer by their names and dtypes, if their shapes fit as well.

    Attributes:
        codes: The codes.
        scale: Their scale.
        others: By role, what else stands beside them.
        context: What else is known of the checkpoint.
    """

    codes: LayerRef
    scale: LayerRef
    others: Mapping[str, LayerRef]
    context: SchemeContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What the layer is that such tensors make.

    Attributes:
        fmt: Name of the codes' format.
        shape: Of the weights.
        recognised_by: What gave the scheme away.
        facts: What decoding must know.
    """

    fmt: str
    shape: tuple[int, ...]
    recognised_by: str
    facts: Mapping[str, Fact] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CodesBesideScale:
    """A scheme whose layers are codes beside a scale; a `Scheme`.

    Attributes:
        name: Of the scheme.
        codes: Dtypes of codes.
        scales: Dtypes of scales.
        describe: What the layer is; None if it is none of this scheme.
        decode: As `Scheme.decode`; parts are ``codes``, ``scale`` and what there is of ``others``.
        scale_names: What the scale is called; the first that is there counts.
        is_packed: Whether codes are called ``weight_packed``; None where that does not matter.
        others: Further parts, role to name; those that are missing are none.
        other_dtypes: Dtypes that these must have to be parts; None for any.
        required_dtypes: By role, dtypes without which a part is a problem of the layer.
        unused: What also stands there and is not used, name to reason.
        has_attention: Whether a checkpoint of this scheme may hold scales of cached keys and
            values.
    """

    name: str
    codes: AbstractSet[str]
    scales: AbstractSet[str]
    describe: Callable[[Found], Description | None]
    decode: Callable[[LayerRef, Mapping[str, Tensor]], LoadedLayer]
    scale_names: tuple[str, ...] = ("weight_scale",)
    is_packed: bool | None = None
    others: Mapping[str, str] = field(default_factory=dict)
    other_dtypes: AbstractSet[str] | None = None
    required_dtypes: Mapping[str, AbstractSet[str]] = field(default_factory=dict)
    unused: Mapping[str, str] = field(default_factory=dict)
    has_attention: bool = True

    def find(
        self, tensors: Mapping[str, LayerRef], context: SchemeContext
    ) -> Iterable[Claim | LeftOut]:
        """Find codes beside their scale, and leave out what is about inputs and outputs."""
        has_found = False
        for codes in tensors.values():
            if codes.dtype not in self.codes:
                continue
            found = self._find_beside(codes, tensors, context)
            description = None if found is None else self.describe(found)
            if found is None or description is None:
                continue
            has_found = True
            yield Claim(layer=self._build(found, description))
            for last, reason in self.unused.items():
                if (unused := tensors.get(beside(codes.name, last))) is not None:
                    yield LeftOut(tensor=unused, reason=reason.format(codes.name))
            yield from about_inputs(tensors, codes)
        if has_found and self.has_attention:
            yield from about_attention(tensors)

    def _find_beside(
        self, codes: LayerRef, tensors: Mapping[str, LayerRef], context: SchemeContext
    ) -> Found | None:
        if self.is_packed not in {None, is_packed(codes.name)}:
            return None
        scale = first_beside(tensors, codes.name, self.scale_names)
        if scale is None or scale.dtype not in self.scales:
            return None
        others = {
            role: other
            for role, last in self.others.items()
            if (other := tensors.get(beside(codes.name, last))) is not None
            and (self.other_dtypes is None or other.dtype in self.other_dtypes)
        }
        return Found(codes=codes, scale=scale, others=others, context=context)

    def _build(self, found: Found, description: Description) -> LayerRef:
        return build_layer(
            beside(found.codes.name, WEIGHT) if self.is_packed else found.codes.name,
            {"codes": found.codes, "scale": found.scale, **found.others},
            scheme=self.name,
            fmt=description.fmt,
            shape=description.shape,
            recognised_by=description.recognised_by,
            facts=description.facts,
            dtypes=self.required_dtypes,
        )
