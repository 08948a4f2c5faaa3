"""What a storage scheme is: how it is recognised, and how its tensors become weights."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from altgrad_inspect.quantize.coded import CodedWeights
from altgrad_inspect.refs import LayerRef


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedLayer:
    """A layer in memory.

    Attributes:
        values: The weights: as stored, or float32 as decoded; of the layer's logical shape.
        coded: The codes and scales that they were decoded from; None where there are none.
    """

    values: Tensor
    coded: CodedWeights | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A layer that a scheme found among the stored tensors.

    Attributes:
        layer: With its parts; their names are those of the tensors it consumes.
        notes: What is worth a sentence.
    """

    layer: LayerRef
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A tensor that belongs to the scheme and holds no weights, such as an activation scale."""

    tensor: LayerRef
    reason: str


def _read_nothing(_tensor: LayerRef) -> bytes | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeContext:
    """What is known of a checkpoint beside its tensors.

    Attributes:
        method: What its configuration calls the scheme (``quant_method``), lower case; None
            if there is none.
        settings: The rest of that part of the configuration.
        source: The file that says so, e.g. ``config.json``; None if there is none.
        metadata: The safetensors files' own notes.
        read_small: Returns the bytes of a stored tensor, such as a shape that is stored as
            one; None of a tensor too large to be read while a checkpoint is opened. Raises
            CheckpointError where its file cannot be read or changed.
        merges_adapters: Whether the matrices of an adapter are wanted as the updates they make.
    """

    method: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    source: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    read_small: Callable[[LayerRef], bytes | None] = _read_nothing
    merges_adapters: bool = False


@runtime_checkable
class Scheme(Protocol):
    """One way in which quantized weights are stored."""

    @property
    def name(self) -> str:
        """Its name in ``checkpoints.scheme_catalogue``, e.g. ``block-fp8``."""
        ...

    def find(
        self, tensors: Mapping[str, LayerRef], context: SchemeContext
    ) -> Iterable[Claim | LeftOut]:
        """Find layers of this scheme among tensors that no scheme before has claimed.

        Args:
            tensors: By name.
            context: What else is known. Names, dtypes and shapes must suffice where it is
                empty, and decide where it contradicts them.
        """
        ...

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Turn the stored tensors of a layer into its weights.

        Args:
            layer: As `find` described it.
            parts: Its parts by role, as stored, on one device; valid until the next read.

        Raises:
            CheckpointError: They do not fit together.
        """
        ...
